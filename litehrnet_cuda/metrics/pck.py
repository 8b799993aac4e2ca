"""PCK, AUC and EPE: how far joints are from the truth, person by person.

PCK (percentage of correct key points, Yang and Ramanan, 2013) is the share of joints closer to the truth than a
fraction of a length, such as the box's; AUC is the mean PCK over a range of distances in pixels; EPE (end-point error)
is the mean distance in pixels. The conventions are those of ``keypoint_pck_accuracy``, ``keypoint_auc`` and
``keypoint_epe`` of mmpose 1.x (``mmpose/evaluation/functional/keypoint_eval.py``), but for two things: sums are in
float64, and the length of a box is its longer side, where mmpose 1.x (``evaluation/metrics/keypoint_2d_metrics.py``)
takes the greater coordinate of its lower right corner.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from litehrnet_cuda.errors import InputError

Array = np.ndarray[Any, Any]

NOT_ANNOTATED = -1.0  # the figure of what is annotated nowhere, as COCO writes it

AUC_REACH = 30.0  # pixels
AUC_STEPS = 20


def distances(predictions: Array, truth: Array, visible: Array) -> Array:
    """Distances between predicted and annotated joints.

    Args:
        predictions: ``[N, K, 2]`` in image pixels.
        truth: ``[N, K, 2]`` in the same pixels.
        visible: ``[N, K]``, nonzero where a joint is annotated.

    Returns:
        ``[N, K]`` float64 in pixels, NaN where a joint is not annotated.

    Raises:
        InputError: if the shapes don't belong together.
    """
    predicted, expected = np.asarray(predictions, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if predicted.ndim != 3 or predicted.shape[-1] != 2:
        raise InputError(f"predictions: expected shape [N, K, 2], got {list(predicted.shape)}")
    for name, shape, wanted in (
        ("truth", expected.shape, predicted.shape),
        ("visible", np.shape(visible), predicted.shape[:2]),
    ):
        if shape != wanted:
            raise InputError(f"{name}: expected shape {list(wanted)} to go with predictions, got {list(shape)}")
    return np.where(np.asarray(visible) != 0, np.linalg.norm(predicted - expected, axis=-1), np.nan)


def in_lengths(distance: Array, lengths: Array) -> Array:
    """Distances ``[N, K]`` as fractions of each person's length ``[N]``.

    Raises:
        InputError: for lengths that are not one positive number per person.
    """
    lengths = np.asarray(lengths, dtype=np.float64)
    if lengths.shape != (len(distance),):
        raise InputError(f"lengths: expected shape [{len(distance)}], one per person, got {list(lengths.shape)}")
    if not (lengths > 0).all():
        raise InputError(f"lengths: expected positive lengths in pixels, got {lengths[~(lengths > 0)][0]}")
    return np.asarray(distance / lengths[:, None])


def box_lengths(boxes: Array) -> Array:
    """The longer sides ``[N]`` of boxes ``[N, 4]`` (left, top, right, bottom)."""
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).max(axis=1))


def share_within(distance: Array, threshold: float, *, inclusive: bool = False) -> Array:
    """PCK: the share of each joint's distances below a threshold.

    Args:
        distance: ``[N, K]``, NaN where a joint is not annotated.
        threshold: in the unit of ``distance``.
        inclusive: whether a distance that equals the threshold counts.

    Returns:
        ``[K]`` float64 from 0 to 1, ``NOT_ANNOTATED`` for joints that are annotated nowhere.
    """
    annotated = (~np.isnan(distance)).sum(axis=0)
    # A comparison with NaN is false.
    hits = (distance <= threshold if inclusive else distance < threshold).sum(axis=0)
    return np.where(annotated > 0, hits / np.maximum(annotated, 1), NOT_ANNOTATED)


def mean_of_joints(values: Array) -> float:
    """The mean over the joints that are annotated somewhere, each with equal weight."""
    known = values[values != NOT_ANNOTATED]
    return float(known.mean()) if len(known) else NOT_ANNOTATED


def auc(distance: Array, *, reach: float = AUC_REACH, steps: int = AUC_STEPS) -> float:
    """Area under the curve of PCK over the distance: its mean at 0, 1, ... ``steps`` - 1 parts of ``reach``.

    Args:
        distance: ``[N, K]`` in pixels, see :func:`distances`.
        reach: in pixels (mmpose: 30).
        steps: number of distances (mmpose: 20). The reach itself is not among them.

    Returns:
        0 to 1, or ``NOT_ANNOTATED``.
    """
    if not (reach > 0 and steps > 0):
        raise InputError(f"auc: expected a positive reach and number of steps, got {reach} and {steps}")
    shares = [mean_of_joints(share_within(distance / reach, step / steps)) for step in range(steps)]
    return float(np.mean(shares))


def epe(distance: Array) -> float:
    """End-point error: the mean of the distances ``[N, K]``, in pixels; every annotated joint has equal weight."""
    known = distance[~np.isnan(distance)]
    return float(known.mean()) if len(known) else NOT_ANNOTATED


def pck_figures(
    predictions: Array,
    truth: Array,
    visible: Array,
    lengths: Array,
    names: Sequence[str],
    *,
    threshold: float = 0.2,
) -> dict[str, float]:
    """PCK, AUC and EPE of all joints, then PCK and EPE joint by joint.

    Args:
        predictions, truth, visible: see :func:`distances`.
        lengths: ``[N]`` in pixels; PCK counts distances below ``threshold`` times these, see :func:`box_lengths`.
        names: of the K joints.
        threshold: of PCK.

    Returns:
        ``"PCK@0.2"``, ``"AUC"``, ``"EPE"``, then ``"PCK@0.2 nose"``, ``"EPE nose"`` and so on. PCK and AUC are 0 to 1,
        EPE is in pixels; ``NOT_ANNOTATED`` where there is nothing to measure.
    """
    if not threshold > 0:
        raise InputError(f"threshold: expected a positive fraction of the length, got {threshold}")
    distance = distances(predictions, truth, visible)
    if len(names) != distance.shape[1]:
        raise InputError(f"names: expected {distance.shape[1]}, one per joint, got {len(names)}")
    shares = share_within(in_lengths(distance, lengths), threshold)
    label = f"PCK@{threshold:g}"
    figures = {label: mean_of_joints(shares), "AUC": auc(distance), "EPE": epe(distance)}
    for joint, name in enumerate(names):
        figures |= {f"{label} {name}": float(shares[joint]), f"EPE {name}": epe(distance[:, joint])}
    return figures
