"""What steps are made of: buffers, planes, weights, and what is pending on planes. Plain data.

A *plane* is one channel of one image in a buffer. Concatenation, split and channel shuffle move no data: whoever reads
a feature map names the planes that its channels lie in, in the order in which it wants them, and weights are packed in
that order. Two things can be *pending* on a plane, which every reader does when it loads a pixel: a ReLU, and a
factor (one number per image and plane, the gate of spatial weighting).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["input", "map", "output", "gates", "sums", "factors"]


@dataclass(frozen=True)
class Buffer:
    """Memory for ``channels`` planes of ``height`` x ``width`` for every image of a batch.

    Args:
        name: what it holds.
        channels, height, width: its shape, without the batch.
        role: ``"input"`` and ``"output"`` are the caller's contiguous tensors, ``"map"`` holds feature maps,
            ``"gates"`` the gates of cross-resolution weighting. These have the plan's type, the others its accumulation
            type: ``"sums"``, where plane c holds the sums of one channel over ``width`` tiles, and ``"factors"``, where
            plane c holds one number.
        plane_stride: elements from one plane to the next; an image is ``channels * plane_stride`` elements.
    """

    name: str
    channels: int
    height: int
    width: int
    role: Role
    plane_stride: int


@dataclass(frozen=True)
class Run:
    """Planes that follow one another in a buffer, with what is pending on them.

    Args:
        buffer: its number in the plan.
        first, count: planes ``first`` to ``first + count - 1``.
        relu: the reader takes ``max(x, 0)``.
        factors: number of the buffer with the planes' factors, which the reader multiplies with; None: there are none.
        first_factor: where the factor of the first plane is; the others follow.
    """

    buffer: int
    first: int
    count: int
    relu: bool = False
    factors: int | None = None
    first_factor: int = 0


Planes = tuple[Run, ...]


def plane_count(planes: Planes) -> int:
    """Number of planes in a list of runs."""
    return sum(run.count for run in planes)


@dataclass(frozen=True)
class Matrix:
    """A 1x1 convolution: the names of ``[rows, columns]`` and of the bias ``[rows]`` among the plan's weights.

    Columns are in the order of the planes that it is applied to, rows in the order of those that it makes.
    """

    weight: str
    bias: str


@dataclass(frozen=True)
class Filter:
    """A depthwise 3x3 convolution: the names of ``[channels, 3, 3]`` and of the bias ``[channels]``."""

    weight: str
    bias: str


@dataclass(frozen=True)
class PendingGate:
    """The gate of spatial weighting of one branch, evaluated by the step that first needs it.

    ``factors = sigmoid(W2 relu(W1 mean + b1) + b2)`` with ``mean = sums over all tiles / pixels``

    Every tile of that step's launch computes the factors that it needs; one of them stores them for later steps.
    """

    sums: Planes
    pixels: int
    matrix1: Matrix
    matrix2: Matrix
    factors: Planes


@dataclass(frozen=True)
class LowerProduct:
    """A path from a lower resolution, up to the upsampling: the weight ``[rows, columns]``, and what it applies to.

    Its bias is in the bias of the sum that it goes into. A tile of whole windows computes it once per low position.
    """

    input: Planes
    weight: str
