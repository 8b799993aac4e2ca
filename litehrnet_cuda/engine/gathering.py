"""Work that several processes share, and what they found put together again.

The processes are those of ``torch.distributed``, such as ``torchrun`` starts. Without them everything here does what it
would do with one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch.distributed as dist

from litehrnet_cuda.engine.distributed import PATIENCE
from litehrnet_cuda.errors import InputError

Result = TypeVar("Result")
Item = TypeVar("Item")


def is_distributed() -> bool:
    """Whether this process belongs to a group."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """The number of this process in its group, 0 if there is none."""
    return dist.get_rank() if is_distributed() else 0


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if is_distributed() else 1


@contextmanager
def joined_processes() -> Iterator[None]:
    """Joins the processes that ``torchrun`` started beside this one; does nothing where it did not, or who has joined.

    They exchange Python objects only, for which gloo is enough on any device.
    """
    if not {"RANK", "WORLD_SIZE"} <= os.environ.keys() or is_distributed():
        yield
        return
    dist.init_process_group("gloo", timeout=PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


def share_of_batches(items: Sequence[Item], batch_size: int) -> Sequence[Item]:
    """This process's part of a sequence: whole batches, one after the other, about as many as the others have.

    A network computes a batch as one, so that in whole batches it gives what it would give in a single process, to the
    bit. In sequence, so that what belongs together (people of one image) stays together.
    """
    batches = -(-len(items) // batch_size)
    first, last = (batches * number // world_size() * batch_size for number in (rank(), rank() + 1))
    return items[first:last]


def gathered(work: Callable[[], Result]) -> list[Result]:
    """What the work returned in every process, in order of their numbers; all of them get all.

    Every process has to call it. An error in one is an error in all, rather than the others waiting for ever.

    Raises:
        InputError: if the work raised one in any process; other errors are raised where they are, and elsewhere a
            RuntimeError says so.
    """
    if not is_distributed():
        return [work()]
    result: Result | None = None
    error: Exception | None = None
    try:
        result = work()
    except Exception as raised:
        error = raised
    # An error travels as text: not every one can be pickled.
    outcome = (result, str(error) if error else None, isinstance(error, InputError))
    outcomes: list[Any] = [None] * world_size()
    dist.all_gather_object(outcomes, outcome)
    if error is not None:
        raise error
    for number, (_, message, is_input_error) in enumerate(outcomes):
        if message is not None:
            raise InputError(message) if is_input_error else RuntimeError(f"process {number} failed: {message}")
    return [found for found, _, _ in outcomes]
