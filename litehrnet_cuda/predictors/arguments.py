"""What predictors take: devices, images, boxes and sizes, checked with a sentence for what cannot be used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from litehrnet_cuda.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.models.checkpoint_files import CheckpointMetadata
from litehrnet_cuda.models.litehrnet import MIN_SIZE

Array = np.ndarray[Any, Any]

MAX_SIZE = 8192  # of the input; far beyond what makes sense, and still within memory
FARTHEST = 1e6  # pixels from the image's corner, where float32 still tells sixteenths of a pixel apart


def choose_device(device: torch.device | str | None) -> torch.device:
    """The device of that name, tried out; by default a CUDA device if there is one.

    Raises:
        InputError: for a name that torch does not know, or a device that cannot be used here.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen).cpu()
    except (RuntimeError, AssertionError, TypeError):  # torch has no one error for this
        usable = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        raise InputError(
            f"device: expected one that can be used here ({', '.join(usable)}), got {str(device)!r}"
        ) from None
    return chosen


def check_metadata(metadata: CheckpointMetadata, task: str, place: str = "checkpoint") -> None:
    """Raises :class:`InputError` for a network that is for another task, or for other images, with its place."""
    if metadata.task != task:
        wanted = {"pose": "poses"}.get(task, task)
        got = "a backbone without a head" if metadata.task == "backbone" else f"one for {metadata.task}"
        raise InputError(f"{place}: expected a network for {wanted}, got {got}")
    expected = (IMAGENET_MEAN, IMAGENET_STD)
    found = tuple(tuple(255 * value for value in values) for values in (metadata.mean, metadata.std))
    if not np.allclose(found, expected, rtol=1e-3):
        raise InputError(
            f"{place}: expected a network that was trained on images normalised by ImageNet's mean and deviation, "
            f"got mean {metadata.mean} and deviation {metadata.std}"
        )


def check_image(image: Any) -> None:
    """Raises :class:`InputError` unless an image is ``[H, W, 3]`` uint8 with at least one pixel."""
    if image is None:  # the most common mistake
        raise InputError("image: expected an array, got None, which cv2.imread returns for a file that it cannot read")
    if not isinstance(image, np.ndarray):
        raise InputError(f"image: expected a file or a uint8 array [H, W, 3] (BGR), got {type(image).__name__}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise InputError(
            f"image: expected uint8 of shape [H, W, 3] (BGR) with at least one pixel, got {image.dtype} of shape "
            f"{list(image.shape)}"
        )


def check_boxes(boxes: Array | Sequence[Sequence[float]] | None, image: Array) -> Array:
    """Boxes ``[P, 4]`` float32 that can be used with an image; the whole image if None.

    Raises:
        InputError: for boxes of another shape, that are not finite, empty, or outside of the image.
    """
    height, width = image.shape[:2]
    if boxes is None:
        return np.array([[0, 0, width, height]], np.float32)
    try:
        with np.errstate(over="ignore"):  # to infinity, which is reported below
            corners = np.asarray(boxes, np.float32)
    except (TypeError, ValueError, OverflowError):
        raise InputError("boxes: expected numbers of shape [P, 4] (left, top, right, bottom)") from None
    if corners.shape == (0,):
        return np.empty((0, 4), np.float32)
    if corners.ndim != 2 or corners.shape[1] != 4:
        raise InputError(f"boxes: expected shape [P, 4] (left, top, right, bottom), got {list(corners.shape)}")
    for index, (left, top, right, bottom) in enumerate(corners.tolist()):
        if not (np.isfinite(corners[index]).all() and left < right and top < bottom):
            raise InputError(
                "boxes: expected finite left < right and top < bottom, got "
                f"{[left, top, right, bottom]} for box {index}"
            )
        if left >= width or top >= height or right <= 0 or bottom <= 0 or np.abs(corners[index]).max() > FARTHEST:
            raise InputError(
                f"boxes: expected boxes that overlap the image of {width}x{height} pixels and end within "
                f"{FARTHEST:.0f} pixels, got {[left, top, right, bottom]} for box {index}"
            )
    return corners


def check_scores(scores: Array | Sequence[float] | None, count: int) -> Array:
    """``[P]`` float32, ones if None."""
    if scores is None:
        return np.ones(count, np.float32)
    try:
        checked = np.asarray(scores, np.float32)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"box_scores: expected {count} numbers, one per box") from None
    if checked.shape != (count,) or not np.isfinite(checked).all():
        raise InputError(f"box_scores: expected {count} finite numbers, one per box, got {checked.tolist()!s:.80}")
    return checked


def check_size(size: Any, name: str = "input_size", least: int = MIN_SIZE) -> tuple[int, int]:
    """(width, height) as ints."""
    whole = (
        isinstance(size, (tuple, list)) and len(size) == 2 and all(isinstance(side, (int, np.integer)) for side in size)
    )
    if not whole or min(size) < least or max(size) > MAX_SIZE:
        raise InputError(f"{name}: expected (width, height) of {least} to {MAX_SIZE} pixels each way, got {size!r:.80}")
    return int(size[0]), int(size[1])
