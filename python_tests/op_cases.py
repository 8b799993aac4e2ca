"""Arguments for the ops' tests, and how close a kernel must come to its reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from litehrnet_cuda.reference.conditional_channel_weighting import conditional_channel_weighting
from litehrnet_cuda.reference.cross_resolution_weighting import cross_resolution_weighting
from litehrnet_cuda.reference.depthwise_conv import depthwise_conv
from litehrnet_cuda.reference.spatial_weighting import spatial_weighting

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)

# Sizes (H, W) of the branches, from high to low resolution. The names say what is hard about them.
SIZES = {
    "one_branch": [(6, 8)],
    "two_exact": [(16, 12), (8, 6)],
    "three_exact": [(24, 16), (12, 8), (6, 4)],
    "four_exact": [(32, 24), (16, 12), (8, 6), (4, 3)],
    "odd": [(13, 9), (7, 5), (4, 3)],
    "overlapping": [(25, 17), (13, 9), (7, 5), (3, 4)],
    "one_pixel": [(1, 1), (1, 1)],
    "thin": [(1, 37), (1, 19), (1, 10)],
    "lowest_is_one": [(8, 8), (4, 4), (2, 2), (1, 1)],
    "low_is_larger": [(3, 5), (4, 7)],
    **{f"width_{width}": [(3, width)] for width in (2, 3, 5, 7, 15, 17, 31, 33, 63, 65, 129)},
}


def size_cases() -> list[Any]:
    return [pytest.param(sizes, id=name) for name, sizes in SIZES.items()]


def channels_for(sizes: Sequence[tuple[int, int]]) -> list[int]:
    return [4, 6, 10, 12][: len(sizes)]


def random_maps(
    sizes: Sequence[tuple[int, int]], channels: Sequence[int], dtype: torch.dtype = torch.float32, batch: int = 2
) -> list[Tensor]:
    return [
        torch.randn(batch, c, *size, dtype=torch.float64).to(dtype) for size, c in zip(sizes, channels, strict=True)
    ]


def cross_resolution_weights(channels: Sequence[int], hidden: int | None = None) -> list[Tensor]:
    total = sum(channels)
    hidden = hidden or max(5, total // 8)  # 5, but for large modules: a ratio of 8 as in Lite-HRNet
    return [
        torch.randn(hidden, total, dtype=torch.float64) / total**0.5,
        torch.randn(hidden, dtype=torch.float64) * 0.2,
        torch.randn(total, hidden, dtype=torch.float64) / hidden**0.5,
        torch.randn(total, dtype=torch.float64) * 0.2,
    ]


def depthwise_weights(channels: Sequence[int]) -> list[list[Tensor]]:
    return [
        [torch.randn(c, 3, 3, dtype=torch.float64) / 3 for c in channels],
        [torch.randn(c, dtype=torch.float64) * 0.2 for c in channels],
    ]


def gate_weights(channels: Sequence[int]) -> list[list[Tensor]]:
    hidden = [max(1, c // 4) for c in channels]
    pairs = list(zip(channels, hidden, strict=True))
    return [
        [torch.randn(r, c, dtype=torch.float64) for c, r in pairs],
        [torch.randn(r, dtype=torch.float64) * 0.2 for _, r in pairs],
        [torch.randn(c, r, dtype=torch.float64) for c, r in pairs],
        [torch.randn(c, dtype=torch.float64) * 0.2 for c, _ in pairs],
    ]


def cast(value: Any, dtype: torch.dtype) -> Any:
    return [cast(item, dtype) for item in value] if isinstance(value, (list, tuple)) else value.to(dtype)


@dataclass(frozen=True)
class Op:
    """What a fused op is compared with, and what it is called with."""

    reference: Callable[..., list[Tensor]]
    launches: int
    weights: Callable[[list[int], list[Tensor]], list[Any]]  # random arguments after ``x``, from channels and maps
    maps_per_weight: int = 1  # channels of ``x`` for each that the weights have

    def arguments(self, sizes: Sequence[tuple[int, int]], channels: list[int], batch: int) -> list[Any]:
        """Random arguments in fp64."""
        torch.manual_seed(0)
        maps = random_maps(sizes, [self.maps_per_weight * c for c in channels], torch.float64, batch)
        return [maps, *self.weights(channels, maps)]


OPS = {
    "conditional_channel_weighting": Op(
        conditional_channel_weighting,
        3,
        lambda channels, maps: [
            *cross_resolution_weights(channels),
            *depthwise_weights(channels),
            *gate_weights(channels),
        ],
        maps_per_weight=2,
    ),
    "cross_resolution_weighting": Op(
        cross_resolution_weighting, 1, lambda channels, maps: list(cross_resolution_weights(channels))
    ),
    "depthwise_conv": Op(depthwise_conv, 1, lambda channels, maps: list(depthwise_weights(channels))),
    "spatial_weighting": Op(
        spatial_weighting,
        1,
        lambda channels, maps: [[torch.randn_like(m) for m in maps], *gate_weights(channels)],
    ),
}


def _misaligned(x: Tensor) -> Tensor:
    """The same values one element after the start of an allocation, where no 16-byte load is possible."""
    return torch.empty(x.numel() + 1, dtype=x.dtype)[1:].view(x.shape).copy_(x)


# Slices end where their memory ends, as far as that goes: what is read behind them is found.
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "sliced_channels": lambda x: torch.cat([x, x], dim=1)[:, x.shape[1] :],
    "sliced_batch": lambda x: x.repeat_interleave(2, dim=0)[::2],
    "sliced_width": lambda x: torch.nn.functional.pad(x, (1, 2))[..., 1:-2],
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "expanded": lambda x: x[:1, :1].expand_as(x),
    "misaligned": _misaligned,
}


def memory_format_of(x: Tensor) -> torch.memory_format:
    """The format that PyTorch's own operators would give their results."""
    only_last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if only_last else torch.contiguous_format


# What a kernel may be off where same-dtype PyTorch happens to be exact: half a unit in the last place of a result of
# size one (a stored result is rounded once), times two for what is added to it.
FLOOR = {torch.float32: 2.4e-7, torch.float16: 1e-3, torch.bfloat16: 8e-3, torch.float64: 4.5e-16}


def assert_close_to_reference(
    kernel: Callable[..., list[Tensor]], reference: Callable[..., list[Tensor]], args: Sequence[Any], dtype: torch.dtype
) -> None:
    """The kernel's error against fp64 is at most twice that of plain PyTorch in the same dtype."""
    args = cast(cast(list(args), dtype), torch.float64)  # values that the dtype can hold
    exact = reference(*args)
    actual, plain = kernel(*cast(args, dtype)), reference(*cast(args, dtype))
    assert len(actual) == len(exact)
    for result, same_dtype, truth in zip(actual, plain, exact, strict=True):
        assert result.dtype == dtype
        assert result.shape == truth.shape
        scale = truth.abs().max().item()
        error = (result.double() - truth).abs().max().item()
        allowed = 2 * (same_dtype.double() - truth).abs().max().item() + FLOOR[dtype] * scale
        assert error <= allowed, f"error {error:.3g} of {scale:.3g}, allowed {allowed:.3g}"
