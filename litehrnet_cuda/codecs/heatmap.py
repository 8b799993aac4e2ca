"""Key points to heat maps (the training target) and back (the prediction).

Three coordinate systems: *image* pixels, *crop* pixels (the network's input, ``data/transforms.py`` maps to and
from them) and *heat-map* pixels (usually a quarter of the crop). This module goes between the last two.

Sources: the target and the quarter offset are those of Simple Baselines (Xiao et al., 2018) as Lite-HRNet uses
them; ``unbiased`` and ``dark`` are Distribution-Aware coordinate Representation (Zhang et al., CVPR 2020); ``udp``
is Unbiased Data Processing (Huang et al., CVPR 2020) with its variant of DARK.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import cv2
import numpy as np

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


def decode_heatmaps(
    heatmaps: Array,
    input_size: tuple[int, int],
    *,
    decoder: Decoder = "quarter",
    blur_kernel_size: int = 11,
) -> tuple[Array, Array]:
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

    Args:
        heatmaps: ``[N, K, h, w]``, any float type.
        input_size: (width, height) of the crop that the heat maps belong to.
        decoder: see above.
        blur_kernel_size: width in heat-map pixels, odd, of the blur before ``dark`` and ``udp`` (11 for sigma 2,
            17 for sigma 3).

    Returns:
        keypoints ``[N, K, 2]`` float32 in crop pixels and scores ``[N, K]`` float32.

    Raises:
        InputError: for a shape, a decoder or a kernel size that cannot be used.
    """
    maps = np.asarray(heatmaps, dtype=np.float32)
    if maps.ndim != 4 or 0 in maps.shape[1:]:
        raise InputError(f"heatmaps: expected shape [N, K, h, w] with K, h, w >= 1, got {list(maps.shape)}")
    if decoder not in DECODERS:
        raise InputError(f"decoder: expected one of {', '.join(DECODERS)}, got {decoder!r}")
    if blur_kernel_size < 1 or blur_kernel_size % 2 == 0:
        raise InputError(f"blur_kernel_size: expected a positive odd number, got {blur_kernel_size}")
    persons, joints, height, width = maps.shape
    maps = maps.reshape(-1, height, width)

    finite: Array = np.all(np.isfinite(maps), axis=(1, 2))
    if not finite.all():
        maps = np.where(finite[:, None, None], maps, np.float32(0))
    highest = maps.reshape(len(maps), height * width).argmax(axis=1)
    y, x = np.divmod(highest, width)
    scores = maps[np.arange(len(maps)), y, x]
    found = np.flatnonzero(scores > 0)

    positions = np.full((len(maps), 2), -1, dtype=np.float32)
    positions[found] = np.stack([x, y], axis=1)[found]
    if len(found):
        peaks = (maps[found], x[found], y[found])
        if decoder == "dark":
            positions[found] += _dark_offset(*peaks, blur_kernel_size)
        elif decoder == "udp":
            positions[found] += _udp_offset(*peaks, blur_kernel_size)
        else:
            positions[found] += _quarter_offset(*peaks, per_axis=decoder == "quarter_per_axis")

    if decoder == "udp":
        last = np.maximum(np.subtract((width, height), 1), 1)
        positions = (positions / last * input_size).astype(np.float32)
    else:
        positions *= _stride(input_size, (width, height), udp=False)
    return positions.reshape(persons, joints, 2), scores.reshape(persons, joints)


def _stride(input_size: tuple[int, int], heatmap_size: tuple[int, int], *, udp: bool) -> Array:
    """Crop pixels per heat-map pixel, ``[2]`` float32."""
    if min(*input_size, *heatmap_size) < 2:
        raise InputError(
            "input_size and heatmap_size: expected (width, height) of at least 2 pixels,"
            f" got {input_size} and {heatmap_size}"
        )
    last = 1 if udp else 0
    return np.asarray((np.array(input_size) - last) / (np.array(heatmap_size) - last), dtype=np.float32)


def _quarter_offset(maps: Array, x: Array, y: Array, *, per_axis: bool) -> Array:
    """``[M, 2]``: a quarter of a pixel towards the higher neighbour."""
    count, height, width = maps.shape
    every = np.arange(count)
    left, right = np.maximum(x - 1, 0), np.minimum(x + 1, width - 1)
    above, below = np.maximum(y - 1, 0), np.minimum(y + 1, height - 1)
    slope_x = maps[every, y, right] - maps[every, y, left]
    slope_y = maps[every, below, x] - maps[every, above, x]
    inside_x, inside_y = (x > 1) & (x < width - 1), (y > 1) & (y < height - 1)
    if per_axis:
        moves_x, moves_y = inside_x & (y > 0), inside_y & (x > 0)
    else:
        moves_x = moves_y = inside_x & inside_y
    towards = np.stack([np.sign(slope_x) * moves_x, np.sign(slope_y) * moves_y], axis=1)
    return np.asarray(0.25 * towards, dtype=np.float32)


def _dark_offset(maps: Array, x: Array, y: Array, kernel_size: int) -> Array:
    """``[M, 2]``: the Newton step from the peak of the log heat map with five-point derivatives (DARK, equation 8)."""
    count, height, width = maps.shape
    inside = np.flatnonzero((x > 1) & (x < width - 2) & (y > 1) & (y < height - 2))
    offset = np.zeros((count, 2), dtype=np.float32)
    if not len(inside):
        return offset
    x, y = x[inside], y[inside]
    log_maps = np.log(np.maximum(_blur(maps[inside], kernel_size), np.float32(1e-10)))

    def at(dx: int, dy: int) -> Array:
        return np.asarray(log_maps[np.arange(len(inside)), y + dy, x + dx], dtype=np.float64)

    dx, dy = 0.5 * (at(1, 0) - at(-1, 0)), 0.5 * (at(0, 1) - at(0, -1))
    dxx = 0.25 * (at(2, 0) - 2 * at(0, 0) + at(-2, 0))
    dyy = 0.25 * (at(0, 2) - 2 * at(0, 0) + at(0, -2))
    dxy = 0.25 * (at(1, 1) - at(-1, 1) - at(1, -1) + at(-1, -1))
    determinant = dxx * dyy - dxy**2
    solvable = determinant != 0
    determinant[~solvable] = 1
    step = np.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], axis=1) / determinant[:, None]
    offset[inside] = np.where(solvable[:, None], step, 0)
    return offset


def _udp_offset(maps: Array, x: Array, y: Array, kernel_size: int) -> Array:
    """``[M, 2]``: the Newton step with three-point derivatives; border pixels are repeated outwards (UDP)."""
    log_maps = np.log(np.clip(_blur(maps, kernel_size), 1e-3, 50))
    log_maps = np.pad(log_maps, ((0, 0), (1, 1), (1, 1)), mode="edge")

    def at(dx: int, dy: int) -> Array:
        return np.asarray(log_maps[np.arange(len(maps)), y + 1 + dy, x + 1 + dx], dtype=np.float64)

    centre, right, left, below, above = at(0, 0), at(1, 0), at(-1, 0), at(0, 1), at(0, -1)
    # The epsilon keeps a flat neighbourhood solvable, and then without a step.
    epsilon = np.finfo(np.float32).eps
    dx, dy = 0.5 * (right - left), 0.5 * (below - above)
    dxx, dyy = right - 2 * centre + left + epsilon, below - 2 * centre + above + epsilon
    dxy = 0.5 * (at(1, 1) - right - below + 2 * centre - left - above + at(-1, -1))
    determinant = dxx * dyy - dxy**2
    determinant[determinant == 0] = epsilon
    step = np.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], axis=1) / determinant[:, None]
    return np.asarray(step, dtype=np.float32)


def _blur(maps: Array, kernel_size: int) -> Array:
    """Gaussian blur of ``[M, h, w]`` with zeros outside; every map keeps its maximum.

    All maps lie below each other in one picture, with rows of zeros between them, so that OpenCV is called once.
    """
    count, height, width = maps.shape
    gap = kernel_size // 2
    stacked = np.zeros((count, height + gap, width), dtype=np.float32)
    stacked[:, :height] = maps
    picture = stacked.reshape(count * (height + gap), width)
    blurred = cv2.GaussianBlur(picture, (kernel_size, kernel_size), 0, borderType=cv2.BORDER_CONSTANT)
    blurred = np.asarray(blurred).reshape(stacked.shape)[:, :height]
    before, after = maps.max(axis=(1, 2), keepdims=True), blurred.max(axis=(1, 2), keepdims=True)
    return np.asarray(blurred * np.divide(before, after, out=np.ones_like(before), where=after != 0))
