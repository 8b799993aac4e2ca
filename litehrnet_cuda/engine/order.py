"""Which samples, such as people, make up which batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

_PURPOSE = 0x0DE2  # tells these random numbers from those of the augmentation, which has the same seed


class BatchOrder(Sampler[list[int]]):
    """Shuffled batches whose order is a function of seed and epoch, so that a place in an epoch is a number.

    A batch over all processes is a run of people in the shuffled order, and each process has its part of it: two
    processes see in a step what one with batches of twice the size does. People who do not fill a batch are left out
    of an epoch, others in each.

    Args:
        people: number of samples.
        batch_size: of one process; at most as many as there are for each.
        seed: of the order.
        rank: of this process.
        processes: number of processes.
    """

    def __init__(self, people: int, batch_size: int, seed: int, *, rank: int = 0, processes: int = 1) -> None:
        self.people = people
        self.batch_size = min(batch_size, people // processes)
        self.seed = seed
        self.rank = rank
        self.processes = processes
        self.epoch = 1
        self.first = 0

    @property
    def per_epoch(self) -> int:
        """Batches in a whole epoch."""
        return self.people // (self.batch_size * self.processes)

    def start(self, epoch: int, first: int = 0) -> None:
        """Chooses the epoch, from 1, and the batch in it that the next iteration begins with."""
        self.epoch, self.first = epoch, first

    def __len__(self) -> int:
        return self.per_epoch - self.first

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng((self.seed, self.epoch, _PURPOSE)).permutation(self.people).tolist()
        for batch in range(self.first, self.per_epoch):
            begin = (batch * self.processes + self.rank) * self.batch_size
            yield order[begin : begin + self.batch_size]
