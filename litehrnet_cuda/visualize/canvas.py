"""What pictures are drawn on, and text."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from litehrnet_cuda.errors import InputError

Array = np.ndarray[Any, Any]
Color = tuple[int, int, int]  # BGR

PAPER: Color = (250, 250, 250)
INK: Color = (60, 52, 46)


def copy_image(image: Array) -> Array:
    """``[H, W, 3]`` uint8 of its own; grey becomes BGR."""
    array = np.asarray(image)
    if (
        array.dtype != np.uint8
        or array.ndim not in (2, 3)
        or (array.ndim == 3 and array.shape[2] != 3)
        or not array.size
    ):
        raise InputError(
            f"image: expected uint8 of shape [H, W, 3] (BGR) or [H, W], got {array.dtype} of shape {list(array.shape)}"
        )
    return cv2.cvtColor(array, cv2.COLOR_GRAY2BGR) if array.ndim == 2 else np.ascontiguousarray(array).copy()


def write_text(sheet: Array, text: str, origin: tuple[int, int], size: float, room: int) -> None:
    """One line, shortened with dots to ``room`` pixels."""
    font, weight = cv2.FONT_HERSHEY_SIMPLEX, 1 if size < 0.8 else 2
    shown = text
    while len(shown) > 4 and cv2.getTextSize(shown, font, size, weight)[0][0] > room:
        shown = shown.rstrip(".")[:-1] + "..."
    cv2.putText(sheet, shown, origin, font, size, INK, weight, cv2.LINE_AA)
