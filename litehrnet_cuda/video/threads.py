"""Reading and writing beside the network: both wait for files and codecs, which need no Python."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_END = object()


class _End(Exception):
    """The items have come to their end."""


def read_ahead(items: Iterable[T], depth: int = 4, *, newest: bool = False) -> Iterator[T]:
    """Goes through ``items`` in a thread, so that the next ones are ready when they are asked for.

    Args:
        items: what to go through; an error in it is raised here.
        depth: how many to have ready at most.
        newest: where more are ready than ``depth``, drop the oldest, as befits a camera, instead of waiting.

    Close the iterator (or let it come to its end) before what the items come from is closed.
    """
    ready: queue.Queue[Any] = queue.Queue(depth)
    stop = threading.Event()

    def offer(item: T | None, error: BaseException | None) -> None:
        while not stop.is_set():
            try:
                return ready.put((item, error), timeout=0 if newest and error is None else 0.1)
            except queue.Full:
                if newest and error is None:
                    with suppress(queue.Empty):
                        ready.get_nowait()

    def read() -> None:
        try:
            for item in items:
                offer(item, None)
                if stop.is_set():
                    return
            offer(None, _End())
        except BaseException as error:  # it belongs to whoever asks for the items
            offer(None, error)

    thread = threading.Thread(target=read, name="read ahead", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if isinstance(error, _End):
                return
            if error is not None:
                raise error
            yield item
    finally:
        stop.set()
        thread.join(timeout=5)  # a camera may never answer


class WriteBehind(Generic[T]):
    """Hands items to a function that runs in a thread, in order.

    Signals reach the main thread alone, so that Ctrl-C never tears what the function writes.

    Args:
        work: called with every item.
        depth: how many items may wait; :meth:`put` waits beyond.
    """

    def __init__(self, work: Callable[[T], None], depth: int = 4) -> None:
        self._work = work
        self._waiting: queue.Queue[Any] = queue.Queue(depth)
        self._error: BaseException | None = None
        self._dropping = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="write behind", daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        """Hands over an item; raises what the function raised for an earlier one."""
        self._raise()
        self._waiting.put(item)

    def close(self) -> None:
        """Waits until all is done; raises what the function raised. Ctrl-C ends it after the item in work."""
        try:
            self._finish()
        except KeyboardInterrupt:
            self._dropping = True
            self._finish()
            raise
        self._raise()

    def _finish(self) -> None:
        while not self._ended.is_set():
            with suppress(queue.Full):
                self._waiting.put(_END, timeout=0.1)
                self._ended.wait()  # a join that is interrupted takes the thread to have ended, before Python 3.13
        self._thread.join()

    def _run(self) -> None:
        while (item := self._waiting.get()) is not _END:
            if not self._dropping:
                try:
                    self._work(item)
                except BaseException as error:
                    self._error, self._dropping = error, True  # items are still taken: nobody shall wait forever
        self._ended.set()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error
