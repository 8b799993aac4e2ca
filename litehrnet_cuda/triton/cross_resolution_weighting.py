"""Cross-resolution weighting in one launch: ``y_i = x_i * upsample(sigmoid(W2 relu(W1 pool(x) + b1) + b2))_i``.

Layout   x_i, y_i [N, C_i, H_i, W_i] of any strides; W1 [R, C], W2 [C, R] of any strides; sums in fp32 (fp64 for fp64).
Mapping  A program has some positions of the last branch's h x w in one image: it pools their windows in all branches,
         computes their gates, and weights the pixels that read them. No program needs another. Channels are taken in
         blocks, and windows in chunks, so that a tile [channels, positions, pixels] fits into registers.
Traffic  x is read twice, the second time from a cache, and y written once. Every program fetches both matrices: where
         there are programs enough for every multiprocessor, four positions share them.
Sums     in the order of the tiles, without atomics: two runs are bitwise equal.
Limits   sizes up to 32,767, so that their products fit into 32 bits; 1 to 4 branches.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from litehrnet_cuda.ops.registration import cast_tensors, empty_like_map
from litehrnet_cuda.triton.checks import check_branches, check_inference, check_weighting
from litehrnet_cuda.triton.tiles import COMPILATION, power_of_two, strides, with_narrow_planes

_NAME = "cross_resolution_weighting"
_MANY_PROGRAMS = 512  # some for every multiprocessor of large GPUs
_SHARING = 4  # positions of a program beyond that
_MATRIX_TILE = 2048  # elements of a tile [R, channels, positions]: 8 for each of 256 threads
_PIXEL_TILE = 1024  # of a tile [channels, positions, pixels]
_WARPS = 8


def cross_resolution_weighting(
    x: Sequence[Tensor], weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor
) -> list[Tensor]:
    """:func:`litehrnet_cuda.functional.cross_resolution_weighting` without gradients.

    Raises:
        InputError: for arguments that do not fit, or that want gradients.
    """
    x, matrices = list(x), [weight1, bias1, weight2, bias2]
    check_branches(_NAME, x)
    check_inference(_NAME, [*x, *matrices])
    if torch.is_autocast_enabled(x[0].device.type):
        x, matrices = cast_tensors((x, matrices), torch.get_autocast_dtype(x[0].device.type))
    check_weighting(_NAME, x, [s.shape[1] for s in x], matrices)
    y = [empty_like_map(s, s.shape[1]) for s in x]
    launch_cross_resolution_weighting(x, matrices, y)
    return y


def launch_cross_resolution_weighting(x: Sequence[Tensor], matrices: Sequence[Tensor], y: Sequence[Tensor]) -> None:
    """Writes weighted maps into ``y``; all other arguments are those of the op, checked."""
    if not x[0].shape[0]:
        return
    weight1, bias1, weight2, bias2 = matrices
    x = [with_narrow_planes(s) for s in x]
    height, width = x[-1].shape[2:]
    hidden = power_of_two(len(weight1))
    positions, programs = _positions_of_a_program(len(x[0]), height * width)
    blocks = tuple(min(power_of_two(s.shape[1]), max(1, _MATRIX_TILE // (hidden * positions))) for s in x)
    columns = tuple(power_of_two(_largest_window(s.shape[3], width)) for s in x)
    pixels = [power_of_two(_largest_window(s.shape[2], height)) * c for s, c in zip(x, columns, strict=True)]
    chunks = tuple(min(p, max(1, _PIXEL_TILE // (b * positions))) for p, b in zip(pixels, blocks, strict=True))
    with torch.cuda.device_of(x[0]):  # type: ignore[no-untyped-call]
        cross_resolution_weighting_kernel[(len(x[0]) * programs,)](
            tuple(x),
            tuple(y),
            *(weight1, bias1.contiguous(), weight2, bias2.contiguous()),
            *(tuple(s.shape[1] for s in x), tuple(s.shape[2] for s in x), tuple(s.shape[3] for s in x)),
            *(tuple(map(strides, x)), tuple(map(strides, y)), weight1.stride(), weight2.stride()),
            # What interpolate() multiplies by, in fp32.
            *(tuple(height / s.shape[2] for s in x), tuple(width / s.shape[3] for s in x)),
            *(len(weight1), sum(s.shape[1] for s in x), programs),
            BRANCHES=len(x),
            HIDDEN=hidden,
            POSITIONS=positions,
            BLOCKS=blocks,
            COLUMNS=columns,
            CHUNKS=chunks,
            num_warps=_WARPS,
            **COMPILATION,
        )


def _positions_of_a_program(batch: int, positions: int) -> tuple[int, int]:
    """How many positions a program has, and how many programs an image has."""
    share = _SHARING if batch * triton.cdiv(positions, _SHARING) >= _MANY_PROGRAMS else 1
    return share, triton.cdiv(positions, share)


def _largest_window(size: int, positions: int) -> int:
    """At least as many pixels as a position pools, or as read it, along one axis."""
    ratio = size // positions
    exact = size % positions == 0 and ratio & (ratio - 1) == 0  # else fp32 may give a position a pixel more
    return ratio if exact else ratio + 2


@triton.jit
def cross_resolution_weighting_kernel(
    x: tl.tuple,
    y: tl.tuple,
    weight1: tl.tensor,  # [R, C]
    bias1: tl.tensor,  # [R]
    weight2: tl.tensor,  # [C, R]
    bias2: tl.tensor,  # [C]
    channels: tl.tuple,  # from here on one value for each branch
    heights: tl.tuple,
    widths: tl.tuple,
    x_strides: tl.tuple,
    y_strides: tl.tuple,
    strides1: tl.tuple,  # of weight1 and of weight2
    strides2: tl.tuple,
    scales_y: tl.tuple,
    scales_x: tl.tuple,
    hidden_channels: tl.tensor,  # R
    all_channels: tl.tensor,  # C
    programs: tl.tensor,  # of an image
    BRANCHES: tl.constexpr,
    HIDDEN: tl.constexpr,  # from here on powers of two: at least R
    POSITIONS: tl.constexpr,  # of a program
    BLOCKS: tl.constexpr,  # channels of a tile
    COLUMNS: tl.constexpr,  # at least a window's
    CHUNKS: tl.constexpr,  # pixels of a tile
) -> None:
    dtype = tl.float64 if x[0].dtype.element_ty == tl.float64 else tl.float32
    image = (tl.program_id(0) // programs).to(tl.int64)
    height, width = heights[BRANCHES - 1], widths[BRANCHES - 1]
    # The positions that the last program lacks repeat the last one; nothing is stored for them twice but equal values.
    position = tl.minimum(tl.program_id(0) % programs * POSITIONS + tl.arange(0, POSITIONS), height * width - 1)
    row, column = position // width, position % width
    r = tl.arange(0, HIDDEN)
    in_hidden = r < hidden_channels

    hidden = tl.zeros((HIDDEN, POSITIONS), dtype)
    first = 0
    for b in tl.static_range(BRANCHES):
        top, left = row * heights[b] // height, column * widths[b] // width
        bottom = ((row + 1) * heights[b] + height - 1) // height
        right = ((column + 1) * widths[b] + width - 1) // width
        for start in range(0, channels[b], BLOCKS[b]):
            c = start + tl.arange(0, BLOCKS[b])
            in_branch = c < channels[b]
            offset = r[:, None] * strides1[0] + (first + c)[None, :] * strides1[1]
            matrix = tl.load(weight1 + offset, mask=in_hidden[:, None] & in_branch[None, :], other=0).to(dtype)
            planes = x[b] + image * x_strides[b][0] + c.to(tl.int64) * x_strides[b][1]
            means = _window_means(
                *(planes[:, None, None], in_branch[:, None, None], x_strides[b]),
                *(top, left, bottom, right, COLUMNS[b], CHUNKS[b], dtype),
            )
            hidden += tl.sum(matrix[:, :, None] * means[None, :, :], axis=1)
        first += channels[b]
    hidden += tl.load(bias1 + r, mask=in_hidden, other=0).to(dtype)[:, None]
    hidden = tl.where(hidden < 0, 0, hidden)  # and NaN stays, as in PyTorch

    first = 0
    for b in tl.static_range(BRANCHES):
        top = _first_reader(row, heights[b], height, scales_y[b])
        left = _first_reader(column, widths[b], width, scales_x[b])
        bottom = _first_reader(row + 1, heights[b], height, scales_y[b])
        right = _first_reader(column + 1, widths[b], width, scales_x[b])
        for start in range(0, channels[b], BLOCKS[b]):
            c = start + tl.arange(0, BLOCKS[b])
            in_branch = c < channels[b]
            offset = (first + c)[:, None] * strides2[0] + r[None, :] * strides2[1]
            matrix = tl.load(weight2 + offset, mask=in_branch[:, None] & in_hidden[None, :], other=0).to(dtype)
            logit = tl.sum(matrix[:, :, None] * hidden[None, :, :], axis=1)
            logit += tl.load(bias2 + first + c, mask=in_branch, other=0).to(dtype)[:, None]
            x_planes = x[b] + image * x_strides[b][0] + c.to(tl.int64) * x_strides[b][1]
            y_planes = y[b] + image * y_strides[b][0] + c.to(tl.int64) * y_strides[b][1]
            _weight_windows(
                *(x_planes[:, None, None], y_planes[:, None, None], in_branch[:, None, None], 1 / (1 + tl.exp(-logit))),
                *(x_strides[b], y_strides[b], top, left, bottom, right, COLUMNS[b], CHUNKS[b]),
            )
        first += channels[b]


@triton.jit
def _window_means(
    planes: tl.tensor,
    plane_mask: tl.tensor,
    strides: tl.tuple,
    top: tl.tensor,
    left: tl.tensor,
    bottom: tl.tensor,
    right: tl.tensor,
    COLUMNS: tl.constexpr,
    CHUNK: tl.constexpr,
    dtype: tl.constexpr,
) -> tl.tensor:
    """Means of the windows from top left to bottom right, [channels, positions]."""
    total = tl.zeros((planes.shape[0], top.shape[0]), dtype)
    for start in range(0, tl.max(bottom - top) * COLUMNS, CHUNK):
        k = start + tl.arange(0, CHUNK)[None, :]
        i, j = top[:, None] + k // COLUMNS, left[:, None] + k % COLUMNS
        mask = plane_mask & ((i < bottom[:, None]) & (j < right[:, None]))[None, :, :]
        pixels = tl.load(planes + (i * strides[2] + j * strides[3])[None, :, :], mask=mask, other=0)
        total += tl.sum(pixels.to(dtype), axis=2)
    return total / ((bottom - top) * (right - left)).to(dtype)[None, :]


@triton.jit
def _weight_windows(
    x_planes: tl.tensor,
    y_planes: tl.tensor,
    plane_mask: tl.tensor,
    gate: tl.tensor,
    x_strides: tl.tuple,
    y_strides: tl.tuple,
    top: tl.tensor,
    left: tl.tensor,
    bottom: tl.tensor,
    right: tl.tensor,
    COLUMNS: tl.constexpr,
    CHUNK: tl.constexpr,
) -> None:
    """Multiplies the windows from top left to bottom right, which may be empty, by gates [channels, positions]."""
    for start in range(0, tl.max(bottom - top) * COLUMNS, CHUNK):
        k = start + tl.arange(0, CHUNK)[None, :]
        i, j = top[:, None] + k // COLUMNS, left[:, None] + k % COLUMNS
        mask = plane_mask & ((i < bottom[:, None]) & (j < right[:, None]))[None, :, :]
        pixels = tl.load(x_planes + (i * x_strides[2] + j * x_strides[3])[None, :, :], mask=mask, other=0)
        weighted = pixels.to(gate.dtype) * gate[:, :, None]
        tl.store(y_planes + (i * y_strides[2] + j * y_strides[3])[None, :, :], weighted.to(pixels.dtype), mask=mask)


@triton.jit
def _first_reader(position: tl.tensor, size: tl.tensor, positions: tl.tensor, scale: tl.tensor) -> tl.tensor:
    """The first of ``size`` pixels that nearest upsampling gives ``position`` or a later one.

    PyTorch multiplies a pixel by the scale in fp32, so that some read the position before the one that exact
    arithmetic gives: the pixel is the one that exact arithmetic gives, or the next while sizes have 15 bits.
    """
    guess = position * size // positions
    guess += ((guess.to(tl.float32) * scale).to(tl.int32) < position).to(tl.int32)
    return tl.where(position < positions, guess, size)
