"""Masks of classes on images."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.visualize.canvas import PAPER, Array, Color, copy_image, write_text

_PALETTE: tuple[Color, ...] = (
    *((178, 114, 0), (0, 159, 230), (115, 158, 0), (66, 228, 240), (233, 180, 86), (167, 121, 204)),
    *((0, 94, 213), (160, 160, 160), (90, 60, 130), (40, 110, 60), (200, 200, 120), (120, 90, 240)),
)


def draw_masks(
    image: Array,
    index_mask: Array,
    opacity: float = 0.55,
    background: int | None = 0,
    colors: Array | None = None,
) -> Array:
    """Tints every class of a mask and outlines its regions.

    Args:
        image: ``[H, W, 3]`` uint8 BGR, or ``[H, W]`` grey.
        index_mask: ``[H, W]`` class indices, 0 to 255.
        opacity: of the tint, 0 to 1.
        background: the index that stays as it is, or None to tint all.
        colors: ``[C, 3]`` BGR, of classes 0 to C - 1, beyond which pixels stay as they are; by default some that
            differ, again and again.

    Raises:
        InputError: for a mask that does not fit the image, or an opacity out of range.
    """
    canvas = copy_image(image)
    mask = np.asarray(index_mask)
    fits = mask.shape == canvas.shape[:2] and np.issubdtype(mask.dtype, np.integer)
    if not fits or mask.min() < 0 or mask.max() > 255:
        values = f", {mask.min()} to {mask.max()}" if mask.size else ""
        raise InputError(
            f"index_mask: expected whole numbers 0 to 255 of shape {list(canvas.shape[:2])}, as the image, "
            f"got {mask.dtype} of shape {list(mask.shape)}{values}"
        )
    if not 0 <= opacity <= 1:
        raise InputError(f"opacity: expected 0 to 1, got {opacity}")
    mask = np.ascontiguousarray(mask, np.uint8)
    if colors is None:
        colors = np.array([_PALETTE[(index - (background == 0)) % len(_PALETTE)] for index in range(256)], np.uint8)
    shown = [i for i in np.flatnonzero(np.bincount(mask.ravel())) if i != background and i < len(colors)]
    tints, is_tinted = np.zeros((256, 1, 3), np.uint8), np.zeros(256, np.uint8)
    tints[shown, 0], is_tinted[shown] = colors[shown], 1
    blended = cv2.addWeighted(canvas, 1 - opacity, cv2.LUT(cv2.merge([mask] * 3), tints), opacity, 0)
    cv2.copyTo(blended, cv2.LUT(mask, is_tinted), canvas)
    for index in shown:
        region = cv2.inRange(mask, int(index), int(index))
        contours, _ = cv2.findContours(region, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, contours, -1, [int(value * 0.55) for value in colors[index]], 1)
    return canvas


def add_legend(image: Array, names: Sequence[str], colors: Array) -> Array:
    """The image with a strip below it: a patch of each colour with its name, in as many rows as it takes.

    Args:
        image: ``[H, W, 3]`` uint8 BGR.
        names: of the entries; without any the image comes back as it is.
        colors: ``[len(names), 3]`` BGR.

    Raises:
        InputError: when the numbers of names and colours differ.
    """
    canvas = copy_image(image)
    if len(names) != len(colors):
        raise InputError(f"colors: expected {len(names)}, one per name, got {len(colors)}")
    if not names:
        return canvas
    width = canvas.shape[1]
    size = float(np.clip(width / 900, 0.36, 0.9))
    patch, line, gap = round(22 * size), round(40 * size), round(18 * size)
    places: list[tuple[int, int]] = []
    x, y = gap, 0
    for name in names:
        (text, _), _ = cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
        needed = patch + gap * 2 // 3 + text + gap
        if x > gap and x + needed > width:
            x, y = gap, y + line
        places.append((x, y))
        x += needed
    strip = np.full((y + line + gap // 2, width, 3), PAPER, np.uint8)
    for name, color, (x, y) in zip(names, colors, places, strict=True):
        top = y + (line - patch) // 2 + gap // 4
        cv2.rectangle(strip, (x, top), (x + patch, top + patch), [int(value) for value in color], -1)
        start = x + patch + gap * 2 // 3
        write_text(strip, name, (start, top + patch - patch // 6), size, width - start)
    return np.concatenate([canvas, strip])
