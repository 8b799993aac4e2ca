"""COCO key-point average precision: rescoring, suppression of duplicates, and pycocotools.

A predicted person's score is its box's score times the mean score of its confident joints; duplicates are suppressed by
OKS (official evaluation: joints above 0.2, OKS above 0.9). Average precision itself is pycocotools'.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import COCO, KeypointSet
from litehrnet_cuda.metrics.oks import oks_nms, soft_oks_nms

Array = np.ndarray[Any, Any]

ScoreMode = Literal["box_and_joints", "box", "joints"]
Suppression = Literal["oks", "soft_oks", "none"]
SCORE_MODES: tuple[ScoreMode, ...] = get_args(ScoreMode)
SUPPRESSIONS: tuple[Suppression, ...] = get_args(Suppression)

STATISTICS = ("AP", "AP .5", "AP .75", "AP (M)", "AP (L)", "AR", "AR .5", "AR .75", "AR (M)", "AR (L)")


@dataclass(frozen=True)
class PredictedPose:
    """One person as the network found it; ``area`` is that of the cut-out region, padding included.

    ``annotation_id`` is whose box was looked in, None for a detector's.
    """

    image_id: int
    keypoints: Array  # [K, 2] image pixels
    joint_scores: Array  # [K]
    box_score: float
    area: float
    annotation_id: int | None = None


def coco_results(
    poses: Sequence[PredictedPose],
    keypoint_set: KeypointSet = COCO,
    *,
    score_mode: ScoreMode = "box_and_joints",
    suppression: Suppression = "oks",
    oks_threshold: float = 0.9,
    joint_threshold: float = 0.2,
    category_id: int = 1,
) -> list[dict[str, Any]]:
    """Score the poses, suppress duplicates image by image, and write them in COCO's results format.

    Args:
        poses: of any number of images, in any order.
        score_mode: ``box_and_joints`` multiplies the box's score by the mean of the joint scores above
            ``joint_threshold`` (0 if there is none); ``box`` and ``joints`` (mean of all joints) use only one.
        suppression: by ``oks_nms``, ``soft_oks_nms``, or none at all.
        oks_threshold: of the suppression.
        joint_threshold: see ``score_mode``.
        category_id: written into the results.

    Returns:
        ``[{"image_id", "category_id", "keypoints": [x, y, score, ...], "score"}, ...]``: plain numbers, ready for JSON;
        images in ascending order of id, best person first unless ``suppression`` is none.
    """
    if score_mode not in SCORE_MODES:
        raise InputError(f"score_mode: expected one of {', '.join(SCORE_MODES)}, got {score_mode!r}")
    if suppression not in SUPPRESSIONS:
        raise InputError(f"suppression: expected one of {', '.join(SUPPRESSIONS)}, got {suppression!r}")
    by_image: dict[int, list[PredictedPose]] = {}
    for pose in poses:
        by_image.setdefault(pose.image_id, []).append(pose)

    results = []
    for image_id in sorted(by_image):
        people = by_image[image_id]
        scores = np.array([_score(pose, score_mode, joint_threshold) for pose in people])
        keypoints, areas = np.stack([pose.keypoints for pose in people]), np.array([pose.area for pose in people])
        if suppression == "oks":
            kept = oks_nms(keypoints, scores, areas, keypoint_set.sigmas, oks_threshold)
        elif suppression == "soft_oks":
            kept = soft_oks_nms(keypoints, scores, areas, keypoint_set.sigmas, oks_threshold)
        else:
            kept = np.arange(len(people))
        for index in kept:
            triples = np.column_stack([keypoints[index], people[index].joint_scores])
            results.append(
                {
                    "image_id": image_id,
                    "category_id": category_id,
                    "keypoints": triples.astype(np.float64).ravel().tolist(),
                    "score": float(scores[index]),
                }
            )
    return results


def coco_average_precision(
    results: Sequence[dict[str, Any]],
    annotations: str | Path | dict[str, Any],
    keypoint_set: KeypointSet = COCO,
    category_ids: Sequence[int] | None = None,
    image_ids: Container[int] | None = None,
) -> dict[str, float]:
    """Average precision and recall over OKS 0.50:0.05:0.95, as COCO defines them.

    Args:
        results: as :func:`coco_results` writes them.
        annotations: COCO key-point annotations: a file, or its content. Where ``area`` is missing the box's is taken.
        keypoint_set: its sigmas are used.
        category_ids: whose annotations count, all as the first one, which results name; those of all by default, each
            of its own.
        image_ids: the images whose annotations count; all by default.

    Returns:
        the ten numbers named by ``STATISTICS``, 0..1; -1 where there is nobody to find (such as nobody of medium size).

    Raises:
        InputError: if the annotations cannot be used, or a result has an unknown image or the wrong number of joints.
    """
    # Imported here: it takes long and only evaluation needs it.
    from pycocotools.coco import COCO as CocoIndex
    from pycocotools.cocoeval import COCOeval

    content = _evaluable(annotations, category_ids, image_ids)
    known, joints = {image["id"] for image in content["images"]}, len(keypoint_set)
    for index, result in enumerate(results):
        if result["image_id"] not in known:
            raise InputError(f"results[{index}]: image_id {result['image_id']} is not among the annotated images")
        if len(result["keypoints"]) != 3 * joints:
            raise InputError(
                f"results[{index}]: keypoints: expected {3 * joints} numbers (x, y, score of {joints} joints),"
                f" got {len(result['keypoints'])}"
            )
    if not results:
        return dict.fromkeys(STATISTICS, 0.0)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        truth = CocoIndex()
        truth.dataset = content
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(copy.deepcopy(list(results))), "keypoints")
        evaluation.params.kpt_oks_sigmas = np.array(keypoint_set.sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float(value) for name, value in zip(STATISTICS, evaluation.stats, strict=True)}


def _score(pose: PredictedPose, mode: ScoreMode, threshold: float) -> float:
    scores = np.asarray(pose.joint_scores, dtype=np.float64)
    if mode == "box":
        return pose.box_score
    if mode == "joints":
        return float(scores.mean())
    confident = scores[scores > threshold]
    return pose.box_score * float(confident.mean()) if len(confident) else 0.0


def _evaluable(
    annotations: str | Path | dict[str, Any],
    category_ids: Sequence[int] | None,
    image_ids: Container[int] | None,
) -> dict[str, Any]:
    """A copy of the annotations as pycocotools needs them."""
    name = "annotations" if isinstance(annotations, dict) else str(annotations)
    try:
        content = (
            annotations if isinstance(annotations, dict) else json.loads(Path(annotations).read_text(encoding="utf-8"))
        )
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: expected a readable JSON file: {error}") from None
    people = []
    try:
        # pycocotools takes the id 0 for "not found": number the annotations anew from 1.
        for number, annotation in enumerate(content["annotations"], start=1):
            category = annotation.get("category_id", content["categories"][0]["id"])
            if category_ids is not None:
                if category not in category_ids:
                    continue
                category = category_ids[0]  # pycocotools cannot do without categories where it measures key points
            if image_ids is not None and annotation["image_id"] not in image_ids:
                continue
            visible = int(np.count_nonzero(np.asarray(annotation["keypoints"])[2::3]))
            fields = {key: annotation[key] for key in ("image_id", "bbox", "keypoints")}
            fields |= {"id": number, "category_id": category, "num_keypoints": visible}
            area = annotation.get("area", annotation["bbox"][2] * annotation["bbox"][3])
            people.append({**fields, "area": area, "iscrowd": annotation.get("iscrowd", 0)})
        images = [image | {"id": image["id"]} for image in content["images"]]
        if image_ids is not None:
            images = [image for image in images if image["id"] in image_ids]
        return {"images": images, "categories": content["categories"], "annotations": people}
    except KeyError as error:
        raise InputError(f"{name}: the field {error.args[0]} is missing, which average precision needs") from None
    except (TypeError, IndexError):
        raise InputError(
            f"{name}: expected COCO key-point annotations, an object with images, categories, annotations"
        ) from None
