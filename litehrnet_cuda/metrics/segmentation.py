"""How well classes of pixels were found: counts of which class was taken for which, and the figures that they give.

IoU of a class is the number of pixels that truth and prediction both give it over the number that either does; mIoU is
its mean over the classes that occur in either (as ``total_intersect_over_union`` of mmsegmentation, and the Cityscapes
benchmark). Counts are over all images together, not a mean over images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from litehrnet_cuda.classes import IGNORE_INDEX

Array = np.ndarray[Any, Any]


def confusion_matrix(truth: Array, predicted: Array, classes: int) -> Array:
    """How often each class was taken for each.

    Args:
        truth: indices of classes, of any shape; where it is ``IGNORE_INDEX`` nothing is counted.
        predicted: of the same shape.
        classes: number C of classes.

    Returns:
        ``[C, C]`` int64, of row t and column p how many pixels of class t were taken for class p
    """
    counted = truth != IGNORE_INDEX
    pairs = truth[counted].astype(np.int64) * classes + predicted[counted]
    return np.asarray(np.bincount(pairs, minlength=classes * classes).reshape(classes, classes))


def class_ious(matrix: Array) -> Array:
    """IoU of every class, ``[C]`` float64; NaN where the class is neither in the truth nor predicted."""
    both = np.diag(matrix).astype(np.float64)
    either = matrix.sum(axis=0) + matrix.sum(axis=1) - both
    return np.asarray(np.divide(both, either, out=np.full(len(both), np.nan), where=either > 0))


def mean_iou(matrix: Array) -> float:
    """The mean over the classes that occur; -1 where there is none."""
    ious = class_ious(matrix)
    return float(np.nanmean(ious)) if np.isfinite(ious).any() else -1.0


def segmentation_figures(matrix: Array, names: Sequence[str]) -> dict[str, float]:
    """All figures, from 0 to 1, or -1 where there is nothing to measure.

    Args:
        matrix: of :func:`confusion_matrix`.
        names: of the classes.

    Returns:
        ``"mIoU"``; ``"pixel accuracy"``, the share of pixels whose class was found; ``"mean accuracy"``, the mean of
        that over the classes in the truth; and ``"IoU NAME"`` of every class.
    """
    right, of_class = np.diag(matrix).astype(np.float64), matrix.sum(axis=1)
    there = of_class > 0
    total = int(of_class.sum())
    figures = {
        "mIoU": mean_iou(matrix),
        "pixel accuracy": float(right.sum() / total) if total else -1.0,
        "mean accuracy": float((right[there] / of_class[there]).mean()) if total else -1.0,
    }
    ious = class_ious(matrix)
    return figures | {
        f"IoU {name}": -1.0 if np.isnan(iou) else float(iou) for name, iou in zip(names, ious, strict=True)
    }
