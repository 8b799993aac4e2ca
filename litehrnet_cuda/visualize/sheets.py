"""Sheets of images with captions."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.visualize.canvas import PAPER, Array, copy_image, write_text


def contact_sheet(
    images: Sequence[Array],
    titles: Sequence[str] | None = None,
    columns: int = 4,
    cell: tuple[int, int] | None = None,
    heading: str | None = None,
) -> Array:
    """A grid of images with a line of text below each.

    Args:
        images: at least one, of any sizes; each is fitted into its cell with its proportions kept.
        titles: as many as images.
        columns: number of columns, 1 or more.
        cell: (width, height) of the space for an image; by default the largest image's.
        heading: one line above the grid.

    Raises:
        InputError: without images, or when the number of titles differs.
    """
    if not images:
        raise InputError("images: expected at least one, got none")
    if titles is not None and len(titles) != len(images):
        raise InputError(f"titles: expected {len(images)}, one per image, got {len(titles)}")
    if columns < 1:
        raise InputError(f"columns: expected 1 or more, got {columns}")
    pictures = [copy_image(image) for image in images]
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    width, height = cell or (max(p.shape[1] for p in pictures), max(p.shape[0] for p in pictures))
    gap = max(8, width // 40)
    size = float(np.clip(width / 620, 0.36, 0.9))
    caption = round(38 * size) + 4 if titles is not None else 0
    top = round(52 * size) + 14 if heading else 0
    sheet = np.full((top + gap + rows * (height + caption + gap), gap + columns * (width + gap), 3), PAPER, np.uint8)
    if heading:
        write_text(sheet, heading, (gap, top - int(12 * size)), size * 1.35, sheet.shape[1] - 2 * gap)
    for i, picture in enumerate(pictures):
        x = gap + i % columns * (width + gap)
        y = top + gap + i // columns * (height + caption + gap)
        fitted = _fit(picture, width, height)
        h, w = fitted.shape[:2]
        left, up = x + (width - w) // 2, y + (height - h) // 2
        sheet[up : up + h, left : left + w] = fitted
        if titles is not None:
            write_text(sheet, titles[i], (x, y + height + caption - int(10 * size)), size, width)
    return sheet


def _fit(picture: Array, width: int, height: int) -> Array:
    scale = min(width / picture.shape[1], height / picture.shape[0])
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    if size == (picture.shape[1], picture.shape[0]):
        return picture
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
