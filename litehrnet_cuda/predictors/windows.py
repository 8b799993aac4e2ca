"""Windows that slide over an image: where they lie, and the mean of what a network says in them.

Source: ``slide_inference`` of mmsegmentation's ``EncoderDecoder``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Window(NamedTuple):
    """A part of an image, in pixels: rows ``top`` to ``bottom - 1``, columns ``left`` to ``right - 1``."""

    top: int
    bottom: int
    left: int
    right: int


def place_windows(size: Sequence[int], window: Sequence[int], stride: Sequence[int]) -> list[Window]:
    """As many windows as it takes to cover an image, all of one size and all within it.

    They follow one another at the stride; the last of a row and of a column are moved back to the image's edge. In a
    direction in which the image is smaller than the window there is one, as large as the image.

    Args:
        size, window, stride: (height, width) each, the stride at most the window.
    """
    (tops, height), (lefts, width) = (_starts(*along) for along in zip(size, window, stride, strict=True))
    return [Window(top, top + height, left, left + width) for top in tops for left in lefts]


def _starts(length: int, window: int, stride: int) -> tuple[list[int], int]:
    """Where the windows along one side begin, and their length."""
    window = min(window, length)
    count = -(-(length - window) // stride) + 1
    return [min(number * stride, length - window) for number in range(count)], window


def average_windows(
    network: Callable[[Tensor], list[Tensor]], image: Tensor, windows: Sequence[Window], batch_size: int
) -> list[Tensor]:
    """Logits at an image's own size, each the mean over the windows that the pixel is in.

    Args:
        network: from images to a list of logits of a lower resolution.
        image: ``[1, channels, height, width]``.
        windows: of one size, that cover the image.
        batch_size: the most windows that go through the network at once.

    Returns:
        as many as the network gives, each ``[1, C, height, width]``
    """
    height, width = image.shape[-2:]
    totals: list[Tensor] = []
    times = image.new_zeros(height, width, dtype=torch.float32)
    for first in range(0, len(windows), batch_size):
        some = windows[first : first + batch_size]
        parts = torch.cat([image[:, :, w.top : w.bottom, w.left : w.right] for w in some])
        found = [F.interpolate(maps, parts.shape[-2:], mode="bilinear", align_corners=False) for maps in network(parts)]
        if not totals:
            totals = [maps.new_zeros(1, maps.shape[1], height, width) for maps in found]
        for number, w in enumerate(some):
            times[w.top : w.bottom, w.left : w.right] += 1
            for total, maps in zip(totals, found, strict=True):
                total[0, :, w.top : w.bottom, w.left : w.right] += maps[number]
    return [total.div_(times) for total in totals]
