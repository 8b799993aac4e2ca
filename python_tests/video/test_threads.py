"""Threads that read ahead and write behind keep the order, pass on errors, and end."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from litehrnet_cuda.video.threads import WriteBehind, read_ahead


def test_items_come_in_order_and_all_of_them() -> None:
    assert list(read_ahead(range(100), 3)) == list(range(100))
    assert list(read_ahead([], 3)) == []


def test_items_are_read_while_others_are_worked_on() -> None:
    third = threading.Event()

    def items() -> Iterator[int]:
        yield from (0, 1)
        third.set()
        yield 2

    ready = read_ahead(items(), 2)
    assert next(ready) == 0
    assert third.wait(10)
    assert list(ready) == [1, 2]


def test_an_error_arrives_after_what_came_before() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    ready = read_ahead(items())
    assert next(ready) == 1
    with pytest.raises(OSError, match="gone"):
        next(ready)


def test_the_newest_items_are_kept_for_a_slow_reader() -> None:
    taken, ended = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        yield 0
        assert taken.wait(10)
        yield from range(1, 50)
        ended.set()

    ready = read_ahead(items(), 1, newest=True)
    assert next(ready) == 0
    taken.set()
    assert ended.wait(10)
    assert list(ready) == [49]


def test_reading_ends_with_its_reader() -> None:
    before = threading.active_count()
    read: list[int] = []

    def items() -> Iterator[int]:
        for index in range(10**9):
            read.append(index)
            yield index

    with closing(read_ahead(items(), 2)) as ready:  # type: ignore[type-var]
        assert next(ready) == 0
    assert threading.active_count() == before
    assert len(read) < 10


def test_work_is_done_in_order_by_the_end() -> None:
    done: list[int] = []
    writer: WriteBehind[int] = WriteBehind(done.append, depth=2)
    for index in range(20):
        writer.put(index)
    writer.close()
    writer.close()
    assert done == list(range(20))


def test_ctrl_c_at_the_end_tears_nothing() -> None:
    done: list[int] = []
    begun = threading.Event()

    def work(item: int) -> None:
        begun.set()
        time.sleep(0.3)  # longer than it takes to interrupt whoever waits
        done.append(item)

    writer: WriteBehind[int] = WriteBehind(work)
    for index in range(4):
        writer.put(index)
    assert begun.wait(10)
    timer = threading.Timer(0.1, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        writer.close()
    timer.join()
    assert done == [0], "what was in work is finished, the rest is dropped"
    assert not [thread for thread in threading.enumerate() if thread.name == "write behind"]


def test_an_error_of_the_work_is_raised_and_nobody_waits_forever() -> None:
    done: list[int] = []

    def work(item: int) -> None:
        if item == 3:
            raise OSError("full")
        done.append(item)

    writer: WriteBehind[int] = WriteBehind(work, depth=1)

    def put_many() -> None:
        for index in range(10_000):
            writer.put(index)

    with pytest.raises(OSError, match="full"):
        put_many()
    with pytest.raises(OSError, match="full"):
        writer.close()
    assert done == [0, 1, 2]
