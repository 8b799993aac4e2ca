"""What is changed at random about an image and its mask from epoch to epoch.

Source: the training pipeline of mmsegmentation's Cityscapes recipes, with which Lite-HRNet was published for
segmentation (``Resize`` with ``ratio_range``, ``RandomCrop`` with ``cat_max_ratio``, ``RandomFlip``,
``PhotoMetricDistortion``).
Resizing and cutting out are one step here, which reads only the pixels that are needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from litehrnet_cuda.classes import IGNORE_INDEX
from litehrnet_cuda.errors import InputError

Array = np.ndarray[Any, Any]

_TRIES = 10  # to find a part in which no class has too much
_BRIGHTNESS = 32  # added or taken away, at most
_CONTRAST = (0.5, 1.5)
_SATURATION = (0.5, 1.5)
_HUE = 18  # of OpenCV's 180


@dataclass(frozen=True)
class MaskAugmentation:
    """What is changed at random. The defaults are the published recipe for Cityscapes.

    Args:
        least_scale, most_scale: images are resized by a factor from this range.
        largest_share: another part of the image is tried, up to ten times, while one class has this share of the
            labelled pixels or more; 1 takes the first.
        flip_probability: of mirroring.
        color_probability: of each of four changes: brightness, contrast, saturation, hue.
    """

    least_scale: float = 0.5
    most_scale: float = 2.0
    largest_share: float = 0.75
    flip_probability: float = 0.5
    color_probability: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.least_scale <= self.most_scale < 100:
            raise InputError(
                "augmentation.least_scale, most_scale: expected 0 < least_scale <= most_scale, got "
                f"{self.least_scale} and {self.most_scale}"
            )
        for name in ("flip_probability", "color_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"augmentation.{name}: expected a probability from 0 to 1, got {getattr(self, name)}")
        if not 0 < self.largest_share <= 1:
            raise InputError(
                f"augmentation.largest_share: expected more than 0 and at most 1, got {self.largest_share}"
            )


NO_MASK_AUGMENTATION = MaskAugmentation(1.0, 1.0, 1.0, 0.0, 0.0)


def augment(
    image: Array, labels: Array, size: tuple[int, int], augmentation: MaskAugmentation, random: np.random.Generator
) -> tuple[Array, Array]:
    """A part of an image at a random scale, with its labels.

    Args:
        image: ``[H, W, 3]`` uint8 BGR.
        labels: ``[H, W]`` uint8.
        size: (width, height) of the part; where the scaled image is smaller, the part is too.
        augmentation: what to change.
        random: where the random numbers are from.

    Returns:
        ``[h, w, 3]`` uint8 BGR and ``[h, w]`` uint8
    """
    scale = random.uniform(augmentation.least_scale, augmentation.most_scale)
    height, width = (max(1, round(side * scale)) for side in labels.shape)
    wide, high = min(size[0], width), min(size[1], height)
    for _ in range(_TRIES):
        left, top = (int(random.integers(room + 1)) for room in (width - wide, height - high))
        part = _labels_in(labels, (top, left, high, wide), (height, width))
        if augmentation.largest_share == 1 or _largest_share(part) < augmentation.largest_share:
            break
    pixels = _pixels_in(image, (top, left, high, wide), (height, width))
    if random.random() < augmentation.flip_probability:
        pixels, part = pixels[:, ::-1], part[:, ::-1]
    return change_colors(np.ascontiguousarray(pixels), augmentation.color_probability, random), part


def change_colors(image: Array, probability: float, random: np.random.Generator) -> Array:
    """Changes brightness, contrast, saturation and hue, each with a probability.

    Contrast comes before saturation and hue or after them, as in mmsegmentation's ``PhotoMetricDistortion``.

    Args:
        image: ``[H, W, 3]`` uint8 BGR, which stays as it is.
        probability: of each of the changes.
        random: where the random numbers are from.

    Returns:
        ``[H, W, 3]`` uint8 BGR
    """
    bright, contrast, saturate, turn, early = (random.random() < p for p in (*[probability] * 4, 0.5))
    offset = random.uniform(-_BRIGHTNESS, _BRIGHTNESS)
    factor, saturation = random.uniform(*_CONTRAST), random.uniform(*_SATURATION)
    hue = int(random.integers(-_HUE, _HUE))
    values = np.arange(256, dtype=np.float64)
    before = _bytes(values + offset) if bright else np.arange(256, dtype=np.uint8)
    if contrast and early:
        before = _bytes(before * factor)
    if bright or (contrast and early):
        image = cv2.LUT(image, before)
    if saturate or turn:
        planes = list(cv2.split(cv2.cvtColor(image, cv2.COLOR_BGR2HSV)))
        if saturate:
            planes[1] = cv2.LUT(planes[1], _bytes(values * saturation))
        if turn:
            planes[0] = cv2.LUT(planes[0], ((np.arange(256) + hue) % 180).astype(np.uint8))
        image = cv2.cvtColor(cv2.merge(planes), cv2.COLOR_HSV2BGR)
    if contrast and not early:
        image = cv2.LUT(image, _bytes(values * factor))
    return np.asarray(image)


def _bytes(values: Array) -> Array:
    return np.asarray(values.clip(0, 255).astype(np.uint8))


def _labels_in(labels: Array, part: tuple[int, int, int, int], size: tuple[int, int]) -> Array:
    """A part of the labels as if they were resized: at each place the nearest one."""
    top, left, high, wide = part
    rows = ((np.arange(top, top + high) + 0.5) * (labels.shape[0] / size[0])).astype(np.intp)
    columns = ((np.arange(left, left + wide) + 0.5) * (labels.shape[1] / size[1])).astype(np.intp)
    return np.asarray(labels[rows[:, None], columns])


def _pixels_in(image: Array, part: tuple[int, int, int, int], size: tuple[int, int]) -> Array:
    """A part of an image as if it were resized bilinearly, the centres of whose pixels are at 1/2."""
    top, left, high, wide = part
    if size == image.shape[:2]:
        return np.asarray(image[top : top + high, left : left + wide])
    down, across = image.shape[0] / size[0], image.shape[1] / size[1]
    matrix = np.array([[across, 0, (left + 0.5) * across - 0.5], [0, down, (top + 0.5) * down - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(image, matrix, (wide, high), flags=flags, borderMode=cv2.BORDER_REPLICATE))


def _largest_share(labels: Array) -> float:
    """Of one class among the labelled pixels; 1 where only one class is there."""
    counts = np.bincount(labels.reshape(-1), minlength=256)
    counts[IGNORE_INDEX] = 0
    return float(counts.max() / max(1, counts.sum())) if counts.any() else 1.0
