"""Several processes that work as one, as `torchrun` starts them: who they are, and what they exchange."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from litehrnet_cuda.errors import InputError

Result = TypeVar("Result")
Item = TypeVar("Item")

# One process draws people while the others wait, or reads images from a slow disk, for hours on end.
PATIENCE = timedelta(days=7)


@dataclass(frozen=True)
class Processes:
    """What a process has to know of the others; by default there are none, and everything is as one process does it.

    All of them have to call what exchanges something: :meth:`any`, :meth:`mean`, :meth:`copy_first`, :meth:`gathered`
    and :meth:`wait`.

    Args:
        rank: number of this process, from 0.
        count: number of processes.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def any(self, *flags: bool) -> list[bool]:
        """For each flag, whether it is set in any process; all of them get the same answer."""
        if self.count == 1:
            return list(flags)
        values = torch.tensor(flags, dtype=torch.int32)
        dist.all_reduce(values, dist.ReduceOp.MAX)
        return [bool(value) for value in values.tolist()]

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the processes of a tensor in the CPU's memory."""
        if self.count == 1:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total / self.count

    def copy_first(self, tensors: Iterable[Tensor]) -> None:
        """Gives tensors, in place, the values that they have in the first process."""
        if self.count == 1:
            return
        by_type: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors:
            by_type.setdefault(tensor.dtype, []).append(tensor)
        for group in by_type.values():  # a message for each type rather than for each tensor
            values = torch.cat([tensor.reshape(-1) for tensor in group])
            dist.broadcast(values, src=0)
            for tensor, own in zip(group, torch.split(values, [tensor.numel() for tensor in group]), strict=True):
                tensor.copy_(own.view_as(tensor))

    def wait(self) -> None:
        """Until all processes are here."""
        self.any(False)

    def share(self, items: Sequence[Item], batch_size: int) -> Sequence[Item]:
        """This process's part of a sequence: whole batches, one after the other, about as many as the others have.

        A network computes a batch as one, so that in whole batches it gives what it would give in a single process, to
        the bit. In sequence, so that what belongs together (people of one image) stays together.
        """
        batches = -(-len(items) // batch_size)
        first, last = (batches * number // self.count * batch_size for number in (self.rank, self.rank + 1))
        return items[first:last]

    def gathered(self, work: Callable[[], Result]) -> list[Result]:
        """What the work returned in every process, in order of their numbers; all of them get all.

        An error in one is an error in all, rather than the others waiting for ever.

        Raises:
            InputError: if the work raised one in any process; other errors are raised where they are, and elsewhere a
                RuntimeError says so.
        """
        if self.count == 1:
            return [work()]
        result: Result | None = None
        error: Exception | None = None
        try:
            result = work()
        except Exception as raised:
            error = raised
        # An error travels as text: not every one can be pickled.
        outcome = (result, str(error) if error else None, isinstance(error, InputError))
        outcomes: list[Any] = [None] * self.count
        dist.all_gather_object(outcomes, outcome)
        if error is not None:
            raise error
        for number, (_, message, is_input_error) in enumerate(outcomes):
            if message is not None:
                raise InputError(message) if is_input_error else RuntimeError(f"process {number} failed: {message}")
        return [found for found, _, _ in outcomes]


ALONE = Processes()


def launched_processes() -> int:
    """How many processes `torchrun` has started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def own_device(device: torch.device, *, shared: bool = False) -> torch.device:
    """The device of this process: of several GPUs the one with its number on this machine.

    Args:
        device: that was asked for.
        shared: let several processes use one GPU, as those that train together cannot.

    Raises:
        InputError: in every process of a machine, if there are more of them than GPUs, or one GPU was asked for.
    """
    if launched_processes() == 1 or device.type != "cuda":
        return device
    number = int(os.environ.get("LOCAL_RANK", "0"))
    count = int(os.environ.get("LOCAL_WORLD_SIZE", number + 1))
    if device.index is not None:
        if count > 1 and not shared:
            raise InputError(
                f"device: expected cuda, of which each of the {count} processes of this machine takes its own GPU, got "
                f"{device}"
            )
        return device
    gpus = torch.cuda.device_count()
    if count > gpus and not shared:
        raise InputError(
            f"expected at most as many processes on this machine as GPUs, of which there are {gpus}, got {count}; "
            f"start fewer (--nproc-per-node {gpus}), or train on CPUs with --device cpu"
        )
    return torch.device("cuda", number % gpus)


@contextmanager
def connected(device: torch.device) -> Iterator[Processes]:
    """Connects the processes that `torchrun` has started: over NCCL between GPUs and over gloo between CPUs.

    Processes that are connected already stay so.

    Args:
        device: where this process works, see :func:`own_device`.
    """
    if launched_processes() == 1:
        yield ALONE
        return
    if dist.is_initialized():
        yield Processes(dist.get_rank(), dist.get_world_size())
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # What a tensor lies in chooses the way. NCCL begins with the first tensor of a GPU, so that processes which share
    # one, as it does not let them, can exchange what they found.
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        processes = Processes(dist.get_rank(), dist.get_world_size())
        yield processes
        processes.wait()  # none leaves while another has something to say to it
    finally:
        # The group's threads outlive it where something refers to it, as compiled code and modules of torch's do. One
        # that still waits for Python's lock to let go of its last tensor while Python ends takes the process down with
        # it: "terminate called without an active exception" (pytorch/pytorch#190489). Here it gets the lock.
        time.sleep(0.1)
        dist.destroy_process_group()
