"""Key points to heat maps (the training target) and back (the prediction).

Three coordinate systems: *image* pixels, *crop* pixels (the network's input, ``data/transforms.py`` maps to and
from them) and *heat-map* pixels (usually a quarter of the crop). This module goes between the last two: to heat maps
with NumPy, as a data set's workers do, and back with PyTorch, on the device that the network left them on.

Sources: the target and the quarter offset are those of Simple Baselines (Xiao et al., 2018) as Lite-HRNet uses
them; ``unbiased`` and ``dark`` are Distribution-Aware coordinate Representation (Zhang et al., CVPR 2020); ``udp``
is Unbiased Data Processing (Huang et al., CVPR 2020) with its variant of DARK.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args, overload

import numpy as np
import torch
from torch import Tensor

from litehrnet_cuda.errors import InputError

Array = np.ndarray[Any, Any]
HeatmapMode = Literal["gaussian", "unbiased", "udp"]
Decoder = Literal["quarter", "quarter_per_axis", "dark", "udp"]
HEATMAP_MODES: tuple[HeatmapMode, ...] = get_args(HeatmapMode)
DECODERS: tuple[Decoder, ...] = get_args(Decoder)


def encode_heatmaps(
    keypoints: Array,
    visible: Array,
    input_size: tuple[int, int],
    heatmap_size: tuple[int, int],
    sigma: float,
    *,
    mode: HeatmapMode = "gaussian",
) -> tuple[Array, Array]:
    """Draw one Gaussian of height 1 per joint.

    * ``gaussian``: centred on the nearest heat-map pixel, cut off at 3 sigma (official Lite-HRNet).
    * ``unbiased``: centred on the exact position, not cut off (DARK).
    * ``udp``: centred on the exact position, cut off at 3 sigma around the nearest pixel; positions run from the
      centre of the first pixel to the centre of the last, so the stride is (input - 1) / (heat map - 1).

    Args:
        keypoints: ``[K, 2]`` or ``[N, K, 2]``, (x, y) in crop pixels.
        visible: ``[K]`` or ``[N, K]``; a joint is drawn where this is at least 0.5.
        input_size: (width, height) of the crop.
        heatmap_size: (width, height) of the heat maps.
        sigma: standard deviation in heat-map pixels (2 for 256x192, 3 for 384x288).
        mode: see above.

    Returns:
        heat maps ``[K, h, w]`` or ``[N, K, h, w]`` float32, and weights ``[K]`` or ``[N, K]`` float32: ``visible``,
        but 0 where the joint is so far outside, or not finite, that nothing of it would be drawn.

    Raises:
        InputError: for shapes, sizes, a sigma or a mode that cannot be used.
    """
    points = np.asarray(keypoints, dtype=np.float32)
    weights = np.array(visible, dtype=np.float32)
    if points.ndim not in (2, 3) or points.shape[-1] != 2:
        raise InputError(f"keypoints: expected shape [K, 2] or [N, K, 2], got {list(points.shape)}")
    if weights.shape != points.shape[:-1]:
        raise InputError(
            f"visible: expected shape {list(points.shape[:-1])} as keypoints has, got {list(weights.shape)}"
        )
    if not sigma > 0:
        raise InputError(f"sigma: expected a positive number of heat-map pixels, got {sigma}")
    if mode not in HEATMAP_MODES:
        raise InputError(f"mode: expected one of {', '.join(HEATMAP_MODES)}, got {mode!r}")

    width, height = heatmap_size
    finite: Array = np.all(np.isfinite(points), axis=-1)
    position = np.where(finite[..., None], points, 0) / _stride(input_size, heatmap_size, udp=mode == "udp")
    # Truncation rather than floor, as in the official code: it matters just outside the left and upper borders.
    pixel = np.trunc(position + np.float32(0.5))
    peak = pixel if mode == "gaussian" else position
    middle = position if mode == "unbiased" else pixel  # of the square that the official code draws in
    radius = 3 * sigma
    outside = ((middle - radius >= (width, height)) | (middle + radius + 1 < 0)).any(axis=-1)
    drawn = (weights >= 0.5) & finite & ~outside
    weights[~finite | (outside & (weights >= 0.5))] = 0

    factors = []
    for axis, size in enumerate((width, height)):
        distance = np.arange(size) - peak[..., axis, None].astype(np.float64)
        factor = np.exp(-(distance**2) / (2 * sigma**2))
        if mode != "unbiased":
            factor[np.abs(np.arange(size) - middle[..., axis, None]) > radius] = 0
        factors.append(factor)
    along_x, along_y = factors[0] * drawn[..., None], factors[1]
    heatmaps = along_y.astype(np.float32)[..., :, None] * along_x.astype(np.float32)[..., None, :]
    return heatmaps, weights


@overload
def decode_heatmaps(
    heatmaps: Tensor, input_size: tuple[int, int], *, decoder: Decoder = ..., blur_kernel_size: int = ...
) -> tuple[Tensor, Tensor]: ...


@overload
def decode_heatmaps(
    heatmaps: Array, input_size: tuple[int, int], *, decoder: Decoder = ..., blur_kernel_size: int = ...
) -> tuple[Array, Array]: ...


def decode_heatmaps(
    heatmaps: Tensor | Array,
    input_size: tuple[int, int],
    *,
    decoder: Decoder = "quarter",
    blur_kernel_size: int = 11,
) -> tuple[Tensor, Tensor] | tuple[Array, Array]:
    """Find the highest pixel of every heat map and refine its position.

    * ``quarter``: a quarter of a pixel towards the higher neighbour along each axis, for peaks at least two pixels
      from the left and upper and one from the right and lower border, on *both* axes (official Lite-HRNet).
    * ``quarter_per_axis``: the same, but a peak near a border of one axis still moves along the other (mmpose 1.x).
    * ``dark``: one Newton step on the logarithm of the blurred heat map, for peaks at least two pixels inside.
    * ``udp``: the same with three-point derivatives, for all peaks, and the stride of ``encode_heatmaps(mode="udp")``.
      Positions are scaled so that 0 and ``input_size`` are the centres of the first and the last pixel, which is
      what ``transforms.keypoints_to_image`` undoes in the same way for all decoders.

    A channel without a positive pixel has its joint at heat-map pixel (-1, -1), unrefined, and its maximum as
    score. A channel with a NaN or an infinity has its joint there too, with score 0, and disturbs no other channel.
    Of equally high pixels the first counts, row by row.

    Tensors stay on their device, and nothing waits for it: there is no transfer in either direction, and no shape
    depends on values, so that decoding can be captured in a CUDA graph and compiled. No gradients pass.

    Args:
        heatmaps: ``[N, K, h, w]``, any float type; a tensor on any device, or an array.
        input_size: (width, height) of the crop that the heat maps belong to.
        decoder: see above.
        blur_kernel_size: width in heat-map pixels, odd, of the blur before ``dark`` and ``udp`` (11 for sigma 2,
            17 for sigma 3).

    Returns:
        keypoints ``[N, K, 2]`` float32 in crop pixels and scores ``[N, K]`` float32: tensors on the same device if
        ``heatmaps`` is a tensor, else arrays.

    Raises:
        InputError: for a shape, a decoder or a kernel size that cannot be used.
    """
    if not isinstance(heatmaps, Tensor):
        writable = np.require(heatmaps, np.float32, ("C", "W"))  # PyTorch shares no other arrays without a warning
        keypoints, scores = decode_heatmaps(
            torch.from_numpy(writable), input_size, decoder=decoder, blur_kernel_size=blur_kernel_size
        )
        return keypoints.numpy(), scores.numpy()
    if heatmaps.ndim != 4 or 0 in heatmaps.shape[1:]:
        raise InputError(f"heatmaps: expected shape [N, K, h, w] with K, h, w >= 1, got {list(heatmaps.shape)}")
    if decoder not in DECODERS:
        raise InputError(f"decoder: expected one of {', '.join(DECODERS)}, got {decoder!r}")
    if blur_kernel_size < 1 or blur_kernel_size % 2 == 0:
        raise InputError(f"blur_kernel_size: expected a positive odd number, got {blur_kernel_size}")
    persons, joints, height, width = heatmaps.shape
    maps = heatmaps.detach().to(torch.float32).reshape(-1, height, width)

    pixels = maps.flatten(1)
    highest, index = pixels.max(dim=1)  # the first of equals, or a NaN
    finite = highest * 0 == pixels.amin(dim=1) * 0  # of an infinity and a NaN this is NaN, which equals nothing
    x, y = index % width, index // width
    if decoder == "dark":
        offset_x, offset_y = _dark_offset(maps, x, y, blur_kernel_size)
    elif decoder == "udp":
        offset_x, offset_y = _udp_offset(maps, x, y, blur_kernel_size)
    else:
        offset_x, offset_y = _quarter_offset(maps, x, y, per_axis=decoder == "quarter_per_axis")
    found = finite & (highest > 0)
    x, y = torch.where(found, x + offset_x, -1.0), torch.where(found, y + offset_y, -1.0)

    if decoder == "udp":
        x, y = x * input_size[0] / max(width - 1, 1), y * input_size[1] / max(height - 1, 1)
    else:
        stride = _stride(input_size, (width, height), udp=False)
        x, y = x * float(stride[0]), y * float(stride[1])
    scores = torch.where(finite, highest, 0.0)
    return torch.stack([x, y], dim=1).view(persons, joints, 2), scores.view(persons, joints)


def _stride(input_size: tuple[int, int], heatmap_size: tuple[int, int], *, udp: bool) -> Array:
    """Crop pixels per heat-map pixel, ``[2]`` float32."""
    if min(*input_size, *heatmap_size) < 2:
        raise InputError(
            "input_size and heatmap_size: expected (width, height) of at least 2 pixels,"
            f" got {input_size} and {heatmap_size}"
        )
    last = 1 if udp else 0
    return np.asarray((np.array(input_size) - last) / (np.array(heatmap_size) - last), dtype=np.float32)


def _quarter_offset(maps: Tensor, x: Tensor, y: Tensor, *, per_axis: bool) -> tuple[Tensor, Tensor]:
    """Along x and y, ``[M]`` each: a quarter of a pixel towards the higher neighbour."""
    _, height, width = maps.shape
    around = _windows(maps, x, y, radius=1)
    slope_x, slope_y = around[:, 1, 2] - around[:, 1, 0], around[:, 2, 1] - around[:, 0, 1]
    inside_x, inside_y = (x > 1) & (x < width - 1), (y > 1) & (y < height - 1)
    if per_axis:
        moves_x, moves_y = inside_x & (y > 0), inside_y & (x > 0)
    else:
        moves_x = moves_y = inside_x & inside_y
    return 0.25 * torch.sign(slope_x) * moves_x, 0.25 * torch.sign(slope_y) * moves_y


def _dark_offset(maps: Tensor, x: Tensor, y: Tensor, kernel_size: int) -> tuple[Tensor, Tensor]:
    """Along x and y, ``[M]`` each: the Newton step with five-point derivatives (DARK, equation 8); 0 near borders."""
    _, height, width = maps.shape
    at = _relative_to_peak(torch.log(_windows(_blur(maps, kernel_size), x, y, radius=2).clamp(min=1e-10)))
    dx, dy = 0.5 * (at(1, 0) - at(-1, 0)), 0.5 * (at(0, 1) - at(0, -1))
    dxx, dyy = 0.25 * (at(2, 0) + at(-2, 0)), 0.25 * (at(0, 2) + at(0, -2))
    dxy = 0.25 * (at(1, 1) - at(-1, 1) - at(1, -1) + at(-1, -1))
    determinant = dxx * dyy - dxy**2
    moves = (x > 1) & (x < width - 2) & (y > 1) & (y < height - 2) & (determinant != 0)
    step_x, step_y = (dxy * dy - dyy * dx) / determinant, (dxy * dx - dxx * dy) / determinant
    return torch.where(moves, step_x, 0.0), torch.where(moves, step_y, 0.0)


def _udp_offset(maps: Tensor, x: Tensor, y: Tensor, kernel_size: int) -> tuple[Tensor, Tensor]:
    """Along x and y, ``[M]`` each: the Newton step with three-point derivatives (UDP); border pixels repeat."""
    at = _relative_to_peak(torch.log(_windows(_blur(maps, kernel_size), x, y, radius=1).clamp(1e-3, 50.0)))
    right, left, below, above = at(1, 0), at(-1, 0), at(0, 1), at(0, -1)
    # The epsilon keeps a flat neighbourhood solvable, and then without a step.
    epsilon = torch.finfo(torch.float32).eps
    dx, dy = 0.5 * (right - left), 0.5 * (below - above)
    dxx, dyy = right + left + epsilon, below + above + epsilon
    dxy = 0.5 * (at(1, 1) - right - below - left - above + at(-1, -1))
    determinant = dxx * dyy - dxy**2
    determinant = torch.where(determinant == 0, epsilon, determinant)
    return (dxy * dy - dyy * dx) / determinant, (dxy * dx - dxx * dy) / determinant


def _relative_to_peak(windows: Tensor) -> Callable[[int, int], Tensor]:
    """``at(dx, dy)``: how much higher than the peak its neighbour at (dx, dy) is, ``[M]``.

    Neighbours are nearly as high, so these differences are exact or nearly so, and so are derivatives made of them.
    """
    middle = windows.shape[1] // 2
    differences = windows - windows[:, middle, None, middle, None]
    return lambda dx, dy: differences[:, middle + dy, middle + dx]


def _windows(maps: Tensor, x: Tensor, y: Tensor, radius: int) -> Tensor:
    """The squares around pixels (x, y) of ``[M, h, w]``, ``[M, 2 radius + 1, 2 radius + 1]``; border pixels repeat."""
    _, height, width = maps.shape
    reach = torch.arange(-radius, radius + 1, device=maps.device)
    rows, columns = (y[:, None] + reach).clamp(0, height - 1), (x[:, None] + reach).clamp(0, width - 1)
    indices = rows[:, :, None] * width + columns[:, None, :]
    return maps.flatten(1).gather(1, indices.flatten(1)).view_as(indices)


def _blur(maps: Tensor, kernel_size: int) -> Tensor:
    """Gaussian blur of ``[M, h, w]`` with zeros outside; every map keeps its maximum.

    Sums of shifted maps rather than a convolution, because then the weights are mere numbers, which need no upload,
    no TF32 comes in, and a map's result is the same bits whatever maps are beside it.
    """
    weights = gaussian_weights(kernel_size)
    blurred = _blur_along(1, _blur_along(2, maps, weights), weights)
    before, after = maps.amax(dim=(1, 2), keepdim=True), blurred.amax(dim=(1, 2), keepdim=True)
    return blurred * torch.where(after != 0, before / after, 1.0)


def _blur_along(axis: int, maps: Tensor, weights: Sequence[float]) -> Tensor:
    size = maps.shape[axis]
    blurred = maps * weights[0]
    for distance, weight in enumerate(weights[1:size], start=1):
        rest = size - distance
        blurred.narrow(axis, distance, rest).add_(maps.narrow(axis, 0, rest), alpha=weight)
        blurred.narrow(axis, 0, rest).add_(maps.narrow(axis, distance, rest), alpha=weight)
    return blurred


def gaussian_weights(kernel_size: int) -> list[float]:
    """Weights of OpenCV's ``getGaussianKernel(kernel_size, 0)`` at distances 0, 1, ... from the middle.

    Up to nine they are rounded to binary fractions there; beyond, the standard deviation goes with the size.
    """
    if kernel_size in _SMALL_KERNELS:
        return _SMALL_KERNELS[kernel_size]
    radius = kernel_size // 2
    sigma = 0.3 * (radius - 1) + 0.8
    heights = [math.exp(-(distance**2) / (2 * sigma**2)) for distance in range(radius + 1)]
    total = heights[0] + 2 * sum(heights[1:])
    return [height / total for height in heights]


_SMALL_KERNELS = {
    1: [1.0],
    3: [1 / 2, 1 / 4],
    5: [6 / 16, 4 / 16, 1 / 16],
    7: [18 / 64, 14 / 64, 7 / 64, 2 / 64],
    9: [60 / 256, 51 / 256, 30 / 256, 13 / 256, 4 / 256],
}
