"""The store lets go of what nobody has asked for the longest, and of nothing else."""

from __future__ import annotations

import itertools
import threading

from litehrnet_cuda.plan.recently_used import RecentlyUsed


def numbered(capacity: int, patience: int = 0) -> RecentlyUsed[int]:
    """Values are numbers from 1 on in the order in which they are made."""
    numbers = itertools.count(1)
    return RecentlyUsed(capacity, lambda: next(numbers), patience=patience)


def test_the_same_key_has_the_same_value() -> None:
    store = numbered(2)
    assert [store.get(key) for key in "abab"] == [(1, None), (2, None), (1, None), (2, None)]
    assert len(store) == 2


def test_the_least_recently_asked_for_makes_room() -> None:
    store = numbered(2)
    for key in "aba":
        store.get(key)
    assert store.get("c") == (3, 2)
    assert store.get("a") == (1, None)
    assert store.get("b") == (4, 3)
    assert len(store) == 2


def test_with_patience_only_what_is_idle_makes_room() -> None:
    store = numbered(2, patience=3)
    for key in "ab":
        store.get(key)
    assert store.get("c") == (None, None)  # a was asked for two calls ago
    assert store.get("a") == (1, None)
    assert store.get("c") == (None, None)  # b three calls ago
    assert store.get("c") == (3, 2)  # b four calls ago
    assert store.get("a") == (1, None)


def test_of_too_many_keys_in_turn_some_keep_their_values() -> None:
    store = numbered(2, patience=10)
    found = [store.get(key)[0] for key in "abcde" * 20]
    assert found == [1, 2, None, None, None] * 20


def test_threads_get_the_same_values() -> None:
    numbers = itertools.count()
    store = RecentlyUsed(8, lambda: next(numbers))
    start = threading.Barrier(4)
    found: list[list[int | None]] = [[] for _ in range(4)]

    def work(mine: list[int | None]) -> None:
        start.wait()
        mine += [store.get(key % 8)[0] for key in range(2000)]

    threads = [threading.Thread(target=work, args=(mine,)) for mine in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(mine == found[0] for mine in found)
    assert next(numbers) == 8
