"""Several processes that train one network, as `torchrun` starts them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

# One process draws people or validates while the others wait, for hours on end.
PATIENCE = timedelta(days=7)
_control: Any = None  # connects the processes for small messages, in memory of the CPU


@dataclass(frozen=True)
class Processes:
    """What a process has to know of the others; by default there are none.

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
        dist.all_reduce(values, dist.ReduceOp.MAX, group=_control)
        return [bool(value) for value in values.tolist()]

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the processes of a tensor in the CPU's memory."""
        if self.count == 1:
            return values
        total = values.clone()
        dist.all_reduce(total, group=_control)
        return total / self.count

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            dist.barrier(group=_control)


ALONE = Processes()


def launched_processes() -> int:
    """How many processes `torchrun` has started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def own_device(device: torch.device) -> torch.device:
    """The device of this process: of several GPUs the one with its number on this machine."""
    if launched_processes() > 1 and device.type == "cuda" and device.index is None:
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return device


@contextmanager
def connected(device: torch.device) -> Iterator[Processes]:
    """Connects the processes that `torchrun` has started, over NCCL between GPUs and over gloo between CPUs.

    Args:
        device: where this process trains, see :func:`own_device`.
    """
    global _control
    if launched_processes() == 1:
        yield ALONE
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
        dist.init_process_group("nccl", device_id=device)
    else:
        dist.init_process_group("gloo", timeout=PATIENCE)
    try:
        _control = dist.new_group(backend="gloo", timeout=PATIENCE)
        processes = Processes(dist.get_rank(), dist.get_world_size())
        yield processes
        processes.wait()  # none leaves while another has something to say to it
    finally:
        _control = None  # its threads end with the group, not when the interpreter is gone
        dist.destroy_process_group()
