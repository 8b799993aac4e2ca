"""PCKh, the metric of MPII: the share of joints closer to the truth than a fraction of the head's size.

Defined by Andriluka et al. (CVPR 2014) in MATLAB; the groups and averages are those of Simple Baselines (Xiao et al.,
2018), which all later papers report.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import MPII, MPII_HEAD_BIAS
from litehrnet_cuda.metrics.pck import NOT_ANNOTATED, distances, in_lengths, share_within

Array = np.ndarray[Any, Any]

THRESHOLDS = (0.5, 0.1)

# The joints of a group are averaged with equal weight; the pelvis and the thorax count nowhere.
GROUPS = {
    "head": ("head_top",),
    "shoulder": ("left_shoulder", "right_shoulder"),
    "elbow": ("left_elbow", "right_elbow"),
    "wrist": ("left_wrist", "right_wrist"),
    "hip": ("left_hip", "right_hip"),
    "knee": ("left_knee", "right_knee"),
    "ankle": ("left_ankle", "right_ankle"),
}
_UNCOUNTED = ("pelvis", "thorax")


def head_sizes(head_boxes: Array) -> Array:
    """Head sizes ``[N]`` from MPII's head boxes ``[N, 4]`` (left, top, right, bottom)."""
    boxes = np.asarray(head_boxes, dtype=np.float64)
    return np.asarray(MPII_HEAD_BIAS * np.linalg.norm(boxes[:, 2:] - boxes[:, :2], axis=1))


def pckh(predictions: Array, truth: Array, visible: Array, sizes: Array) -> dict[str, float]:
    """PCKh@0.5 and PCKh@0.1 of all joints, of each group, and of each joint.

    Args:
        predictions: ``[N, 16, 2]`` in image pixels.
        truth: ``[N, 16, 2]`` in the same pixels (MPII's own file counts pixels from 1: subtract 1 to compare with
            predictions in an image that is counted from 0).
        visible: ``[N, 16]``, nonzero where a joint is annotated.
        sizes: ``[N]`` head sizes in pixels, see :func:`head_sizes`.

    Returns:
        ``"PCKh@0.5"``, ``"PCKh@0.1"``, then for each of ``GROUPS`` and of the joints of ``MPII`` ``"PCKh@0.5 head"``,
        ``"PCKh@0.1 head"`` and so on: 0 to 1, and -1 for what is annotated nowhere. The first two weight every joint
        by how often it is annotated, and leave the pelvis and the thorax out.

    Raises:
        InputError: if the shapes don't belong together or a head size is not positive.
    """
    if np.ndim(predictions) != 3 or np.shape(predictions)[1:] != (len(MPII), 2):
        raise InputError(
            f"predictions: expected shape [N, {len(MPII)}, 2], the joints of MPII, got {list(np.shape(predictions))}"
        )
    sizes = np.asarray(sizes, dtype=np.float64)
    if sizes.shape == (len(predictions),) and not (sizes > 0).all():
        raise InputError(f"sizes: expected positive head sizes, got {sizes[~(sizes > 0)][0]}")
    distance = in_lengths(distances(predictions, truth, visible), sizes)
    counted = ~np.isin(MPII.names, _UNCOUNTED) & ~np.isnan(distance).all(axis=0)
    weights = (~np.isnan(distance)).sum(axis=0)[counted]
    shares = {threshold: share_within(distance, threshold, inclusive=True) for threshold in THRESHOLDS}

    figures: dict[str, float] = {}
    for threshold, of_joints in shares.items():
        mean = np.average(of_joints[counted], weights=weights) if counted.any() else NOT_ANNOTATED
        figures[f"PCKh@{threshold}"] = float(mean)
    for name, members in (GROUPS | {name: (name,) for name in MPII.names}).items():
        for threshold, of_joints in shares.items():
            of_group = of_joints[[MPII.names.index(member) for member in members]]
            known = (of_group != NOT_ANNOTATED).all()
            figures[f"PCKh@{threshold} {name}"] = float(of_group.mean()) if known else NOT_ANNOTATED
    return figures
