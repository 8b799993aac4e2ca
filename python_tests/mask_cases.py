"""Small images with masks, drawn for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

Array = np.ndarray[Any, Any]


def draw(seed: int, size: tuple[int, int] = (72, 56), classes: int = 3) -> tuple[Array, Array]:
    """A rectangle of each class above 0 on a ground of class 0, ``[H, W, 3]`` and ``[H, W]`` uint8.

    Classes differ in colour, and an edge of each mask is ignored.
    """
    random = np.random.default_rng(seed)
    width, height = size
    labels = np.zeros((height, width), np.uint8)
    for index in range(1, classes):
        left, top = random.integers(0, width // 2), random.integers(0, height // 2)
        labels[top : top + height // 3, left : left + width // 3] = index
    image = (labels[..., None] * [60, 20, 90] + random.integers(0, 60, (height, width, 3))).astype(np.uint8)
    labels[:, -2:] = 255
    return image, labels


def write_part(root: Path, split: str, count: int, *, size: tuple[int, int] = (72, 56), classes: int = 3) -> None:
    """``root/images/SPLIT/NUMBER.png`` and ``root/masks/SPLIT/NUMBER.png``; an empty name for no folder."""
    for kind in ("images", "masks"):
        (root / kind / split).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image, labels = draw(number + 1000 * len(split), size, classes)
        cv2.imwrite(str(root / "images" / split / f"{number}.png"), image)
        cv2.imwrite(str(root / "masks" / split / f"{number}.png"), labels)


def write_cityscapes(root: Path, split: str = "val", *, ids: bool = True) -> Array:
    """One image in Cityscapes' layout; its mask holds the ids 0 to 33 and 255, or indices. Returns the mask."""
    mask = np.array([*range(34), 255], np.uint8) if ids else np.array([*range(19), 255], np.uint8)
    mask = np.repeat(np.tile(mask, 2)[None], 40, axis=0)
    for folder in ("leftImg8bit", "gtFine"):
        (root / folder / split / "ulm").mkdir(parents=True, exist_ok=True)
    kind = "labelIds" if ids else "labelTrainIds"
    image = np.zeros((*mask.shape, 3), np.uint8)
    cv2.imwrite(str(root / "leftImg8bit" / split / "ulm" / "ulm_000_leftImg8bit.png"), image)
    cv2.imwrite(str(root / "gtFine" / split / "ulm" / f"ulm_000_gtFine_{kind}.png"), mask)
    return mask
