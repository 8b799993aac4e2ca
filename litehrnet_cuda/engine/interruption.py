"""Ending a training run in order: at Ctrl-C, and when something gives out."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch

from litehrnet_cuda.errors import InputError

REPEAT_SECONDS = 1.0
# Of what is allocated outside of PyTorch's allocator, or by libraries in it.
_OUT_OF_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "_STATUS_ALLOC_FAILED")


class TrainingStopped(InputError):
    """A run that could not go on; the message says why, and what there is to go on from."""


class Interrupted(KeyboardInterrupt):
    """Somebody stopped a run; the message says what there is to go on from."""


class Interruption:
    """Turns the first SIGINT (Ctrl-C) or SIGTERM into a wish to stop; a later one ends the process at once.

    What comes within ``REPEAT_SECONDS`` of the first is the same wish: schedulers signal every process of a group, and
    `torchrun` passes on what it gets, so that one stop arrives twice.

    A context: signals are as before after it. Outside of the main thread, where Python delivers none, it does nothing.
    """

    def __init__(self) -> None:
        self.requested = False
        self._at_once = False
        self._first = 0.0  # when it was requested
        self._before: dict[int, Any] = {}
        self._process = os.getpid()

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._notice)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """While nothing would be lost: the first signal raises ``KeyboardInterrupt``."""
        if self.requested:
            raise KeyboardInterrupt
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def _notice(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a process that reads images, which the one that trains will end
            return
        if self.requested and time.monotonic() - self._first > REPEAT_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            os.kill(self._process, number)
            return
        repeated, self.requested = self.requested, True
        if self._at_once:
            raise KeyboardInterrupt
        if repeated:
            return
        self._first = time.monotonic()
        # Not print, which may be in the middle of a line of its own.
        os.write(2, b"\nfinishing the step to save the state of the training; once more ends it at once\n")


def ignore_interrupts() -> None:
    """For processes that read images: Ctrl-C reaches them too, and it is not for them to decide."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def plain_failures(advice: str) -> Iterator[None]:
    """Makes one sentence of memory, a disk or another process that gives out.

    Args:
        advice: what takes less memory.

    Raises:
        InputError: for what gave out; other errors stay what they are.
    """
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        reason = _reason(error, advice)
        if reason is None:
            raise
        raise InputError(reason) from error


@contextmanager
def orderly_stops(resort: Callable[[], str], advice: str) -> Iterator[None]:
    """Makes one sentence of what can give out in a run, with what there is to go on from.

    Args:
        resort: says what there is to go on from.
        advice: what takes less memory.

    Raises:
        TrainingStopped: for memory, disk and input that gave out.
        Interrupted: for ``KeyboardInterrupt``.
    """
    try:
        with plain_failures(advice):
            yield
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; {resort()}") from None
    except InputError as error:
        raise TrainingStopped(f"{error}; {resort()}") from error


def _reason(error: Exception, advice: str) -> str | None:
    text = str(error)
    out_of_memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        said in text for said in _OUT_OF_MEMORY
    )
    if out_of_memory or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return f"out of memory: {advice}"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full ({error.filename or error.strerror}): make room"
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        place = error.filename or error.strerror
        return f"the disk, or a limit (ulimit -f), allows no file of that size ({place}): choose another place"
    if "DataLoader worker" in text:
        return (
            "a process that reads images has died, most likely because memory, or shared memory in /dev/shm, is used "
            "up: try fewer --workers"
        )
    lost = torch.distributed.is_available() and isinstance(error, torch.distributed.DistError)
    if lost or "Connection closed by peer" in text or "gloo" in text:
        return "another process of this training has stopped, see what it says"
    return None
