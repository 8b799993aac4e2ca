"""A plan while it is being built: buffers and steps as they accumulate."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from litehrnet_cuda.plan.channels import Channels, Plane
from litehrnet_cuda.plan.operands import Buffer, PendingGate, Role
from litehrnet_cuda.plan.packing import Packing
from litehrnet_cuda.plan.steps import Step

LINE_BYTES = 64


class Draft:
    """Collects what a plan consists of.

    Args:
        dtype: the plan's type.

    Attributes:
        buffers, steps, weights: of the plan.
        pending: the gates that no step has evaluated yet.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self.buffers: list[Buffer] = []
        self.steps: list[Step] = []
        self.weights = Packing(dtype)
        self.pending: list[PendingGate] = []

    def take_pending(self) -> tuple[PendingGate, ...]:
        """The gates that the next step is to evaluate."""
        gates, self.pending = tuple(self.pending), []
        return gates

    def allocate(
        self, name: str, channels: int, size: tuple[int, int], role: Role = "map", order: Sequence[int] | None = None
    ) -> Channels:
        """A new buffer, and the table of the channels in it.

        Args:
            name: what it holds.
            channels: number of planes.
            size: height and width.
            role: see :class:`litehrnet_cuda.plan.operands.Buffer`.
            order: the channels that planes 0, 1, ... hold; by default their own numbers.
        """
        height, width = size
        stride = padded(height * width, self.weights.dtype) if role == "map" else height * width
        self.buffers.append(Buffer(name, channels, height, width, role, stride))
        number = len(self.buffers) - 1
        planes = (Plane(number, index) for index in range(channels))
        return Channels.placed(planes, range(channels) if order is None else order, size)


def padded(pixels: int, dtype: torch.dtype) -> int:
    """The stride of planes: an odd number of 64-byte lines.

    Planes at distances of powers of two fall into the same sets of a CPU's caches: the prototype's network became 7 %
    slower. Lines keep planes aligned for vectors.
    """
    per_line = LINE_BYTES // dtype.itemsize
    return (-(-pixels // per_line) | 1) * per_line
