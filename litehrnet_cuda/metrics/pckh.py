"""PCKh, the metric of MPII: the share of joints closer to the truth than a fraction of the head's size.

Defined by Andriluka et al. (CVPR 2014) in MATLAB; the groups and averages are those of Simple Baselines (Xiao et al.,
2018), which all later papers report.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import MPII

Array = np.ndarray[Any, Any]

HEAD_BIAS = 0.6  # MPII's head size is 0.6 times the diagonal of the annotated head box

# The joints of a group are averaged with equal weight; the pelvis and the thorax count nowhere.
_GROUPS = {
    "Head": ("head_top",),
    "Shoulder": ("left_shoulder", "right_shoulder"),
    "Elbow": ("left_elbow", "right_elbow"),
    "Wrist": ("left_wrist", "right_wrist"),
    "Hip": ("left_hip", "right_hip"),
    "Knee": ("left_knee", "right_knee"),
    "Ankle": ("left_ankle", "right_ankle"),
}
_UNCOUNTED = ("pelvis", "thorax")


def head_sizes(head_boxes: Array) -> Array:
    """Head sizes ``[N]`` from MPII's head boxes ``[N, 4]`` (left, top, right, bottom)."""
    boxes = np.asarray(head_boxes, dtype=np.float64)
    return np.asarray(HEAD_BIAS * np.linalg.norm(boxes[:, 2:] - boxes[:, :2], axis=1))


def pckh(predictions: Array, truth: Array, visible: Array, sizes: Array) -> dict[str, float]:
    """PCKh@0.5 of each group of joints and of all, and PCKh@0.1 of all.

    Args:
        predictions: ``[N, 16, 2]`` in image pixels.
        truth: ``[N, 16, 2]`` in the same pixels (MPII's own file counts pixels from 1: subtract 1 to compare with
            predictions in an image that is counted from 0).
        visible: ``[N, 16]``, nonzero where a joint is annotated.
        sizes: ``[N]`` head sizes in pixels, see :func:`head_sizes`.

    Returns:
        ``"Head PCK"``, ``"Shoulder PCK"``, ... ``"Ankle PCK"``, ``"PCK"`` and ``"PCK@0.1"``, in percent; NaN for joints
        that are annotated nowhere.

    Raises:
        InputError: if the shapes don't belong together or a head size is not positive.
    """
    predicted, expected = np.asarray(predictions, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    annotated, sizes = np.asarray(visible) != 0, np.asarray(sizes, dtype=np.float64)
    joints = len(MPII)
    if predicted.ndim != 3 or predicted.shape[1:] != (joints, 2):
        raise InputError(
            f"predictions: expected shape [N, {joints}, 2], the joints of MPII, got {list(predicted.shape)}"
        )
    count = len(predicted)
    wanted = {
        "truth": (expected, (count, joints, 2)),
        "visible": (annotated, (count, joints)),
        "sizes": (sizes, (count,)),
    }
    for name, (value, shape) in wanted.items():
        if value.shape != shape:
            raise InputError(f"{name}: expected shape {list(shape)} to go with predictions, got {list(value.shape)}")
    if not (sizes > 0).all():
        raise InputError(f"sizes: expected positive head sizes, got {sizes[~(sizes > 0)][0]}")

    distance = np.linalg.norm(predicted - expected, axis=-1) / sizes[:, None]
    total = annotated.sum(axis=0)

    def share(threshold: float) -> Array:
        hits = ((distance <= threshold) & annotated).sum(axis=0)
        return np.asarray(np.divide(100.0 * hits, total, out=np.full(joints, np.nan), where=total > 0))

    at_half, at_tenth = share(0.5), share(0.1)
    index = {name: position for position, name in enumerate(MPII.names)}
    weight = np.where([name in _UNCOUNTED for name in MPII.names], 0, total)

    def average(shares: Array) -> float:
        counted = weight > 0
        return float(np.average(shares[counted], weights=weight[counted])) if counted.any() else float("nan")

    result = {
        f"{group} PCK": float(np.mean(at_half[[index[name] for name in names]])) for group, names in _GROUPS.items()
    }
    return result | {"PCK": average(at_half), "PCK@0.1": average(at_tenth)}
