"""A bounded store that lets go of what nobody has asked for the longest."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

Value = TypeVar("Value")


@dataclass
class _Entry(Generic[Value]):
    value: Value
    last_asked: int


class RecentlyUsed(Generic[Value]):
    """Values by key, at most so many at once. Threads may share it.

    Args:
        capacity: at most so many values, from 1 up.
        create: makes the value of a new key; everybody waits for it.
        patience: a value makes room for a new key's only if it has not been asked for in so many calls. For values
            that take work: of more keys in turn than there is room for, some keep theirs, rather than all none.
    """

    def __init__(self, capacity: int, create: Callable[[], Value], *, patience: int = 0) -> None:
        self._capacity = capacity
        self._create = create
        self._patience = patience
        self._calls = 0
        self._entries: OrderedDict[Hashable, _Entry[Value]] = OrderedDict()  # those asked for last come last
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Hashable) -> tuple[Value | None, Value | None]:
        """The value of a key, or None if there is no room for a new one; and the value that has made room, or None."""
        with self._lock:
            self._calls += 1
            dropped = None
            if key not in self._entries:
                if len(self._entries) >= self._capacity:
                    oldest = next(iter(self._entries))
                    if self._calls - self._entries[oldest].last_asked <= self._patience:
                        return None, None
                    dropped = self._entries.pop(oldest).value
                self._entries[key] = _Entry(self._create(), self._calls)
            entry = self._entries[key]
            entry.last_asked = self._calls
            self._entries.move_to_end(key)
            return entry.value, dropped
