"""Where pictures have a colour."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def has(image: np.ndarray, color: tuple[int, ...]) -> np.ndarray:
    """Which pixels of an image are of a colour, BGR."""
    return np.all(image == color, axis=2)


def colored(path: Path, *bgr: int) -> int:
    """How many pixels of a picture in a file are of a colour."""
    return int(has(cv2.imread(str(path)), bgr).sum())
