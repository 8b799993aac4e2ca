"""Object keypoint similarity (OKS) between predictions, and non-maximum suppression by it.

OKS = mean over joints of exp(-d^2 / (2 area (2 sigma)^2)), d the distance of the joints and area the mean of both
people's (COCO, https://cocodataset.org/#keypoints-eval). The suppression is that of Simple Baselines (Xiao et al.,
2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from litehrnet_cuda.errors import InputError

Array = np.ndarray[Any, Any]


def oks(
    keypoints: Array,
    areas: Array,
    others: Array,
    other_areas: Array,
    sigmas: Sequence[float] | Array,
    *,
    joint_scores: Array | None = None,
    other_joint_scores: Array | None = None,
    joint_threshold: float | None = None,
) -> Array:
    """Similarity of every person of one list to every person of another.

    Args:
        keypoints: ``[N, K, 2]``; others: ``[M, K, 2]``, in the same pixels.
        areas: ``[N]``; other_areas: ``[M]``, in square pixels.
        sigmas: ``[K]``, :attr:`litehrnet_cuda.keypoints.KeypointSet.sigmas`.
        joint_scores: ``[N, K]``; other_joint_scores: ``[M, K]``: needed with a threshold.
        joint_threshold: count only joints whose score is above this in both people (0 if there is none).

    Returns:
        ``[N, M]`` float64 from 0 to 1.

    Raises:
        InputError: if the shapes don't belong together.
    """
    first, second = np.asarray(keypoints, dtype=np.float64), np.asarray(others, dtype=np.float64)
    variances = (2 * np.asarray(sigmas, dtype=np.float64)) ** 2
    for name, value in (("keypoints", first), ("others", second)):
        if value.ndim != 3 or value.shape[1:] != (len(variances), 2):
            raise InputError(
                f"{name}: expected shape [N, {len(variances)}, 2], one joint per sigma, got {list(value.shape)}"
            )
    for name, value, count in (("areas", areas, len(first)), ("other_areas", other_areas, len(second))):
        if np.shape(value) != (count,):
            raise InputError(f"{name}: expected shape [{count}], one per person, got {list(np.shape(value))}")
    squared = ((first[:, None] - second[None]) ** 2).sum(axis=-1)
    area = (np.asarray(areas, dtype=np.float64)[:, None] + np.asarray(other_areas, dtype=np.float64)[None]) / 2
    similarity = np.exp(-squared / variances / (area[..., None] + np.spacing(1)) / 2)
    if joint_threshold is None:
        return np.asarray(similarity.mean(axis=-1))
    if joint_scores is None or other_joint_scores is None:
        raise InputError("joint_scores: expected scores [N, K] for both lists, as joint_threshold is given, got None")
    counted = (np.asarray(joint_scores)[:, None] > joint_threshold) & (
        np.asarray(other_joint_scores)[None] > joint_threshold
    )
    return np.asarray((similarity * counted).sum(axis=-1) / np.maximum(counted.sum(axis=-1), 1))


def oks_nms(
    keypoints: Array,
    scores: Array,
    areas: Array,
    sigmas: Sequence[float] | Array,
    threshold: float,
    *,
    joint_scores: Array | None = None,
    joint_threshold: float | None = None,
) -> Array:
    """Keep the best people and drop those that are too similar to a better one.

    Args:
        keypoints: ``[N, K, 2]`` of one image; scores, areas: ``[N]``; the rest as in :func:`oks`.
        threshold: people with a greater similarity than this to a kept one are dropped (official: 0.9).

    Returns:
        indices of the kept, best first, int64.
    """
    similarity = _self_similarity(keypoints, areas, sigmas, joint_scores, joint_threshold)
    order = _descending(_checked_scores(scores, len(similarity)))
    keep = []
    while len(order):
        best, order = order[0], order[1:]
        keep.append(best)
        order = order[similarity[best, order] <= threshold]
    return np.array(keep, dtype=np.int64)


def soft_oks_nms(
    keypoints: Array,
    scores: Array,
    areas: Array,
    sigmas: Sequence[float] | Array,
    threshold: float,
    *,
    max_detections: int = 20,
    joint_scores: Array | None = None,
    joint_threshold: float | None = None,
) -> Array:
    """Order people by a score that decays with similarity to better ones: times exp(-oks^2 / threshold) for each.

    Args are those of :func:`oks_nms`; at most ``max_detections`` are kept. Returns their indices, best first.
    """
    similarity = _self_similarity(keypoints, areas, sigmas, joint_scores, joint_threshold)
    decayed = _checked_scores(scores, len(similarity)).copy()
    order = _descending(decayed)
    keep: list[int] = []
    while len(order) and len(keep) < max_detections:
        best, order = order[0], order[1:]
        keep.append(best)
        decayed[order] *= np.exp(-(similarity[best, order] ** 2) / threshold)
        order = order[_descending(decayed[order])]
    return np.array(keep, dtype=np.int64)


def _self_similarity(
    keypoints: Array, areas: Array, sigmas: Sequence[float] | Array, joint_scores: Array | None, threshold: float | None
) -> Array:
    return oks(
        *(keypoints, areas, keypoints, areas, sigmas),
        joint_scores=joint_scores,
        other_joint_scores=joint_scores,
        joint_threshold=threshold,
    )


def _checked_scores(scores: Array, count: int) -> Array:
    scores = np.asarray(scores, dtype=np.float64)
    if scores.shape != (count,):
        raise InputError(f"scores: expected shape [{count}], one per person, got {list(scores.shape)}")
    return scores


def _descending(values: Array) -> Array:
    return np.argsort(-values, kind="stable")
