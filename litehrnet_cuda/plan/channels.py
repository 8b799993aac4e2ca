"""Where the channels of a feature map lie while a plan is built: the tables that make shuffles free."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from litehrnet_cuda.plan.operands import Planes, Run


class Plane(NamedTuple):
    """One plane of a buffer, and what is pending on it: see :class:`litehrnet_cuda.plan.operands.Run`."""

    buffer: int
    number: int
    relu: bool = False
    factors: int | None = None
    factor: int = 0


@dataclass(frozen=True)
class Channels:
    """A feature map as a table: ``planes[c]`` is where channel c of the network's code lies.

    Args:
        planes: one per channel.
        size: height and width.
        free: planes of the same size that nobody needs any more, which the next block may write to.
    """

    planes: tuple[Plane, ...]
    size: tuple[int, int]
    free: tuple[Plane, ...] = ()

    @classmethod
    def placed(cls, planes: Iterable[Plane], order: Sequence[int], size: tuple[int, int]) -> Channels:
        """The table in which channel ``order[q]`` lies in plane number q of ``planes``."""
        planes_of = dict(zip(order, planes, strict=True))
        return cls(tuple(planes_of[channel] for channel in range(len(order))), size)

    def __len__(self) -> int:
        return len(self.planes)

    def order(self) -> list[int]:
        """The channels in the order of their addresses, in which they are fewest runs."""
        return sorted(range(len(self)), key=lambda channel: self.planes[channel][:2])

    def runs(self, order: Sequence[int] | None = None) -> Planes:
        """The planes of the channels in an order, by default that of their addresses."""
        return as_runs(self.planes[channel] for channel in (self.order() if order is None else order))

    def half(self, number: int) -> Channels:
        """The first or second half of the channels, which ``chunk(2, dim=1)`` gives."""
        middle = len(self) // 2
        return Channels(self.planes[middle:] if number else self.planes[:middle], self.size)

    def with_relu(self) -> Channels:
        """The same planes with a pending ReLU."""
        return replace(self, planes=tuple(plane._replace(relu=True) for plane in self.planes))


def concat_shuffle(first: Channels, second: Channels) -> Channels:
    """The table after :func:`litehrnet_cuda.nn.layers.concat_shuffle`."""
    both = first.planes + second.planes
    half = len(both) // 2
    return Channels(tuple(both[group * half + c] for c in range(half) for group in (0, 1)), first.size)


def as_runs(planes: Iterable[Plane]) -> Planes:
    """Planes in their order as few runs."""
    runs: list[Run] = []
    for plane in planes:
        if runs and plane == _next(runs[-1]):
            runs[-1] = replace(runs[-1], count=runs[-1].count + 1)
        else:
            runs.append(Run(plane.buffer, plane.number, 1, plane.relu, plane.factors, plane.factor))
    return tuple(runs)


def _next(run: Run) -> Plane:
    """The plane that would continue a run."""
    factor = 0 if run.factors is None else run.first_factor + run.count
    return Plane(run.buffer, run.first + run.count, run.relu, run.factors, factor)
