"""How kernels are compiled, and how maps and tiles are told to them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

# Sums of products may be fused, as nvcc does it. With up to 128 registers a thread two programs of 8 warps fit on a
# multiprocessor; unless it is told so, the assembler may spill some for more.
COMPILATION: dict[str, Any] = {"enable_fp_fusion": True, "maxnreg": 128}


def power_of_two(number: int) -> int:
    """The least that is not below a number of at least 1, as the sides of Triton's tiles must be."""
    return 1 << (number - 1).bit_length()


def strides(x: Tensor) -> tuple[int, int, int, int]:
    """Elements between images, channels, rows and columns of ``[N, C, H, W]``."""
    image, plane, row, column = x.stride()
    return image, plane, row, column


def with_narrow_planes(x: Tensor) -> Tensor:
    """The map itself, or a copy where offsets in a plane do not fit into 32 bits."""
    _, _, height, width = x.shape
    _, _, row, column = strides(x)
    return x if (height - 1) * row + (width - 1) * column < 2**31 else x.contiguous()
