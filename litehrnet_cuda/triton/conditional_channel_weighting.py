"""The conditional channel weighting block (paper, figure 2b) in three launches, each for all branches.

1. Cross-resolution weighting of the second halves of the channels: see :mod:`.cross_resolution_weighting`.
2. Depthwise 3x3 convolution, and the sum of each tile of the filtered plane.
3. Means from those sums, gates from the means, and the result: channel 2c is kept channel c, channel 2c + 1 the
   filtered channel c times its gate.

Layout   x_i, y_i [N, 2 C_i, H_i, W_i] of any strides; weighted and filtered maps [N, C_i, H_i, W_i] contiguous;
         sums [N, C_i, tiles] in fp32 (fp64 for fp64), in which everything is computed.
Mapping  2 and 3: a program has a tile of some channels' planes, whole planes where they are small. In 3 every program
         computes its branch's hidden values again, from a mean for each channel.
Traffic  in bytes of a half of the channels: 1 reads one, twice, and writes one; 2 reads one, the neighbours from a
         cache, and writes one; 3 reads two and writes two.
Sums     in the order of the tiles, without atomics: two runs are bitwise equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.ops.registration import accumulate_dtype, cast_tensors, empty_like_map
from litehrnet_cuda.triton.checks import (
    check_branches,
    check_count,
    check_inference,
    check_parameter,
    check_weighting,
    hidden_channels,
)
from litehrnet_cuda.triton.cross_resolution_weighting import launch_cross_resolution_weighting
from litehrnet_cuda.triton.tiles import COMPILATION, power_of_two, strides, with_narrow_planes

_NAME = "conditional_channel_weighting"
_TILE = 512  # pixels of all channels of a program: four for each of 128 threads
_MATRIX_TILE = 2048  # elements of a tile of the gates' matrices: 16
_WARPS = 4


def conditional_channel_weighting(
    x: Sequence[Tensor],
    weight1: Tensor,
    bias1: Tensor,
    weight2: Tensor,
    bias2: Tensor,
    depthwise_weight: Sequence[Tensor],
    depthwise_bias: Sequence[Tensor],
    gate_weight1: Sequence[Tensor],
    gate_bias1: Sequence[Tensor],
    gate_weight2: Sequence[Tensor],
    gate_bias2: Sequence[Tensor],
) -> list[Tensor]:
    """:func:`litehrnet_cuda.functional.conditional_channel_weighting` without gradients.

    Raises:
        InputError: for arguments that do not fit, or that want gradients.
    """
    x, matrices = list(x), [weight1, bias1, weight2, bias2]
    lists = [
        list(group) for group in (depthwise_weight, depthwise_bias, gate_weight1, gate_bias1, gate_weight2, gate_bias2)
    ]
    check_branches(_NAME, x)
    check_inference(_NAME, [*x, *matrices, *(t for group in lists for t in group)])
    if torch.is_autocast_enabled(x[0].device.type):
        x, matrices, lists = cast_tensors((x, matrices, lists), torch.get_autocast_dtype(x[0].device.type))
    _check(x, matrices, lists)
    y = [empty_like_map(s, s.shape[1]) for s in x]
    if not x[0].shape[0]:
        return y
    x = [with_narrow_planes(s) for s in x]
    changed = [s[:, s.shape[1] // 2 :] for s in x]
    weighted, filtered = ([s.new_empty(s.shape) for s in changed] for _ in range(2))
    tiles = _Tiles.of(changed)
    sums = [s.new_empty(*s.shape[:2], t, dtype=accumulate_dtype(s)) for s, t in zip(changed, tiles.tiles, strict=True)]
    filters, biases, *gates = (tuple(t.contiguous() for t in group) for group in lists)
    launch_cross_resolution_weighting(changed, matrices, weighted)
    with torch.cuda.device_of(x[0]):  # type: ignore[no-untyped-call]
        _launch_depthwise_conv(weighted, filters, biases, filtered, sums, tiles)
        _launch_spatial_weighting(filtered, x, y, sums, gates, tiles)
    return y


class _Tiles(NamedTuple):
    """How the planes of all branches are cut, one value for each branch."""

    channels: tuple[int, ...]
    heights: tuple[int, ...]
    widths: tuple[int, ...]
    tiles: tuple[int, ...]  # of a plane
    together: tuple[int, ...]  # channels of a tile, a power of two
    pixels: tuple[int, ...]  # of a tile, a power of two

    @classmethod
    def of(cls, maps: Sequence[Tensor]) -> _Tiles:
        channels, heights, widths = (tuple(s.shape[axis] for s in maps) for axis in (1, 2, 3))
        areas = [s.shape[2] * s.shape[3] for s in maps]
        pixels = tuple(min(power_of_two(area), _TILE) for area in areas)
        tiles = tuple(triton.cdiv(area, p) for area, p in zip(areas, pixels, strict=True))
        together = tuple(min(power_of_two(c), _TILE // p) for c, p in zip(channels, pixels, strict=True))
        return cls(channels, heights, widths, tiles, together, pixels)

    def programs(self) -> int:
        """Of an image."""
        cut = zip(self.channels, self.together, self.tiles, strict=True)
        return sum(triton.cdiv(c, together) * tiles for c, together, tiles in cut)

    def sizes(self) -> tuple[Any, ...]:
        """As both kernels take them after their tensors."""
        return self.channels, self.heights, self.widths, self.tiles, self.programs()

    def constants(self) -> dict[str, Any]:
        """What both kernels are compiled for."""
        constants = {"BRANCHES": len(self.channels), "CHANNELS": self.together, "PIXELS": self.pixels}
        return {**constants, "num_warps": _WARPS, **COMPILATION}


def _launch_depthwise_conv(
    x: Sequence[Tensor],
    weight: Sequence[Tensor],
    bias: Sequence[Tensor],
    y: Sequence[Tensor],
    sums: Sequence[Tensor],
    tiles: _Tiles,
) -> None:
    depthwise_conv_kernel[(len(x[0]) * tiles.programs(),)](
        *map(tuple, (x, weight, bias, y, sums)), *tiles.sizes(), **tiles.constants()
    )


def _launch_spatial_weighting(
    x: Sequence[Tensor],
    kept: Sequence[Tensor],
    y: Sequence[Tensor],
    sums: Sequence[Tensor],
    gates: Sequence[Sequence[Tensor]],
    tiles: _Tiles,
) -> None:
    hidden = tuple(map(len, gates[0]))
    sides = tuple(map(power_of_two, hidden))
    blocks = tuple(min(power_of_two(c), max(1, _MATRIX_TILE // r)) for c, r in zip(tiles.channels, sides, strict=True))
    parts = tuple(min(power_of_two(t), max(1, _MATRIX_TILE // b)) for t, b in zip(tiles.tiles, blocks, strict=True))
    spatial_weighting_kernel[(len(x[0]) * tiles.programs(),)](
        *map(tuple, (x, kept, y, sums, *gates)),
        *(hidden, tuple(map(strides, kept)), tuple(map(strides, y)), *tiles.sizes()),
        **tiles.constants(),
        HIDDEN=sides,
        BLOCKS=blocks,
        PARTS=parts,
    )


def _check(x: Sequence[Tensor], matrices: Sequence[Tensor], lists: Sequence[Sequence[Tensor]]) -> None:
    names = ("depthwise_weight", "depthwise_bias", "gate_weight1", "gate_bias1", "gate_weight2", "gate_bias2")
    for name, group in zip(names, lists, strict=True):
        check_count(_NAME, name, group, len(x))
    for i, s in enumerate(x):
        if s.shape[1] % 2:
            raise InputError(
                f"{_NAME}: x[{i}]: expected an even number of channels, because they are split in halves, "
                f"got {s.shape[1]}"
            )
    halves = [s.shape[1] // 2 for s in x]
    check_weighting(_NAME, x, halves, matrices)
    for i, c in enumerate(halves):
        r = hidden_channels(_NAME, f"gate_weight1[{i}]", lists[2][i], c)
        shapes = ([c, 3, 3], [c], [r, c], [r], [c, r], [c])
        for name, group, shape in zip(names, lists, shapes, strict=True):
            check_parameter(_NAME, f"{name}[{i}]", group[i], shape, x[0])


@triton.jit
def depthwise_conv_kernel(
    x: tl.tuple,  # [N, C, H, W] contiguous; here and below one for each branch
    weight: tl.tuple,  # [C, 3, 3]
    bias: tl.tuple,  # [C]
    y: tl.tuple,  # as x
    sums: tl.tuple,  # [N, C, tiles]
    channels: tl.tuple,
    heights: tl.tuple,
    widths: tl.tuple,
    tiles: tl.tuple,  # of a plane
    programs: tl.tensor,  # of an image
    BRANCHES: tl.constexpr,
    CHANNELS: tl.constexpr,  # of a tile; powers of two
    PIXELS: tl.constexpr,
) -> None:
    image, block = (tl.program_id(0) // programs).to(tl.int64), tl.program_id(0) % programs
    for b in tl.static_range(BRANCHES):
        blocks = tl.cdiv(channels[b], CHANNELS[b]) * tiles[b]
        if (block >= 0) & (block < blocks):
            c = block // tiles[b] * CHANNELS[b] + tl.arange(0, CHANNELS[b])
            pixel = block % tiles[b] * PIXELS[b] + tl.arange(0, PIXELS[b])
            _filter_tile(
                *(x[b], weight[b], bias[b], y[b], sums[b], image * channels[b] + c, c, channels[b], pixel),
                *(heights[b], widths[b], block % tiles[b], tiles[b]),
            )
        block -= blocks


@triton.jit
def _filter_tile(
    x: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    y: tl.tensor,
    sums: tl.tensor,
    plane: tl.tensor,
    c: tl.tensor,
    channels: tl.tensor,
    pixel: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    tile: tl.tensor,
    tiles: tl.tensor,
) -> None:
    dtype = sums.dtype.element_ty
    start = (plane * height * width)[:, None]
    in_branch = c < channels
    total = tl.load(bias + c, mask=in_branch, other=0).to(dtype)[:, None] + tl.zeros(
        (c.shape[0], pixel.shape[0]), dtype
    )
    for k in tl.static_range(9):
        i, j = pixel // width + (k // 3 - 1), pixel % width + (k % 3 - 1)
        inside = (i >= 0) & (i < height) & (j >= 0) & (j < width)
        value = tl.load(x + start + (i * width + j)[None, :], mask=in_branch[:, None] & inside[None, :], other=0)
        total += value.to(dtype) * tl.load(weight + c * 9 + k, mask=in_branch, other=0).to(dtype)[:, None]
    mask = in_branch[:, None] & (pixel < height * width)[None, :]
    filtered = total.to(y.dtype.element_ty)
    tl.store(y + start + pixel[None, :], filtered, mask=mask)
    tl.store(sums + plane * tiles + tile, tl.sum(tl.where(mask, filtered.to(dtype), 0), axis=1), mask=in_branch)


@triton.jit
def spatial_weighting_kernel(
    x: tl.tuple,  # [N, C, H, W] contiguous; here and below one for each branch
    kept: tl.tuple,  # [N, 2 C, H, W], of which the first half is kept
    y: tl.tuple,  # as kept
    sums: tl.tuple,  # of x, [N, C, tiles]
    weight1: tl.tuple,  # [R, C]
    bias1: tl.tuple,  # [R]
    weight2: tl.tuple,  # [C, R]
    bias2: tl.tuple,  # [C]
    hidden: tl.tuple,  # R
    kept_strides: tl.tuple,
    y_strides: tl.tuple,
    channels: tl.tuple,
    heights: tl.tuple,
    widths: tl.tuple,
    tiles: tl.tuple,  # of a plane
    programs: tl.tensor,  # of an image
    BRANCHES: tl.constexpr,
    CHANNELS: tl.constexpr,  # of a tile; powers of two
    PIXELS: tl.constexpr,
    HIDDEN: tl.constexpr,  # at least R; powers of two
    BLOCKS: tl.constexpr,  # channels of a tile of a matrix
    PARTS: tl.constexpr,  # sums that are added at a time
) -> None:
    image, block = (tl.program_id(0) // programs).to(tl.int64), tl.program_id(0) % programs
    for b in tl.static_range(BRANCHES):
        blocks = tl.cdiv(channels[b], CHANNELS[b]) * tiles[b]
        if (block >= 0) & (block < blocks):
            c = block // tiles[b] * CHANNELS[b] + tl.arange(0, CHANNELS[b])
            pixel = block % tiles[b] * PIXELS[b] + tl.arange(0, PIXELS[b])
            area = heights[b] * widths[b]
            values = _hidden_values(
                *(sums[b] + image * channels[b] * tiles[b], weight1[b], bias1[b], channels[b], tiles[b], area),
                *(hidden[b], HIDDEN[b], BLOCKS[b], PARTS[b]),
            )
            gate = _gates(values, weight2[b], bias2[b], c, channels[b], hidden[b], HIDDEN[b])
            mask = (c < channels[b])[:, None] & (pixel < area)[None, :]
            gated = tl.load(x[b] + ((image * channels[b] + c) * area)[:, None] + pixel[None, :], mask=mask, other=0)
            gated = (gated.to(gate.dtype) * gate[:, None]).to(gated.dtype)
            i, j = pixel // widths[b], pixel % widths[b]
            first = kept[b] + image * kept_strides[b][0] + c.to(tl.int64) * kept_strides[b][1]
            offset = (i * kept_strides[b][2] + j * kept_strides[b][3])[None, :]
            unchanged = tl.load(first[:, None] + offset, mask=mask, other=0)
            even = y[b] + image * y_strides[b][0] + 2 * c.to(tl.int64) * y_strides[b][1]
            offset = (i * y_strides[b][2] + j * y_strides[b][3])[None, :]
            tl.store(even[:, None] + offset, unchanged, mask=mask)
            tl.store((even + y_strides[b][1])[:, None] + offset, gated, mask=mask)
        block -= blocks


@triton.jit
def _hidden_values(
    sums: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    channels: tl.tensor,
    tiles: tl.tensor,
    area: tl.tensor,
    hidden: tl.tensor,
    HIDDEN: tl.constexpr,
    BLOCK: tl.constexpr,
    PARTS: tl.constexpr,
) -> tl.tensor:
    """``relu(W1 mean + b1)`` of one image and branch, [HIDDEN]."""
    dtype = sums.dtype.element_ty
    r = tl.arange(0, HIDDEN)
    total = tl.load(bias + r, mask=r < hidden, other=0).to(dtype)
    for start in range(0, channels, BLOCK):
        c = start + tl.arange(0, BLOCK)
        mean = tl.zeros((BLOCK,), dtype)
        for first in range(0, tiles, PARTS):
            t = first + tl.arange(0, PARTS)
            mask = (c < channels)[:, None] & (t < tiles)[None, :]
            mean += tl.sum(tl.load(sums + c[:, None] * tiles + t[None, :], mask=mask, other=0), axis=1)
        mask = (r < hidden)[:, None] & (c < channels)[None, :]
        matrix = tl.load(weight + r[:, None] * channels + c[None, :], mask=mask, other=0).to(dtype)
        total += tl.sum(matrix * (mean / area)[None, :], axis=1)
    return tl.where(total < 0, 0, total)  # and NaN stays, as in PyTorch


@triton.jit
def _gates(
    values: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    c: tl.tensor,
    channels: tl.tensor,
    hidden: tl.tensor,
    HIDDEN: tl.constexpr,
) -> tl.tensor:
    """``sigmoid(W2 values + b2)`` for some channels."""
    r = tl.arange(0, HIDDEN)
    mask = (c < channels)[:, None] & (r < hidden)[None, :]
    matrix = tl.load(weight + c[:, None] * hidden + r[None, :], mask=mask, other=0).to(values.dtype)
    logit = tl.sum(matrix * values[None, :], axis=1)
    logit += tl.load(bias + c, mask=c < channels, other=0).to(values.dtype)
    return 1 / (1 + tl.exp(-logit))
