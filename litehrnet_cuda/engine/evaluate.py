"""Accuracy of pose networks on annotated people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import DataLoader
from tqdm import tqdm

from litehrnet_cuda.data.coco import CocoKeypoints, PersonBox
from litehrnet_cuda.data.pose_dataset import PersonCrops, batches, use_one_thread
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.metrics.coco import PredictedPose, coco_average_precision, coco_results
from litehrnet_cuda.predictors import PoseEstimator


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Args:
        metrics: COCO's average precision and recall, 0 to 1 (``"AP"``, ``"AP .5"``, ... ``"AR (L)"``).
        results: all poses in COCO's results format, duplicates suppressed.
        poses: the same poses before that.
    """

    metrics: dict[str, float]
    results: list[dict[str, Any]]
    poses: list[PredictedPose]


def evaluate(
    estimator: PoseEstimator,
    annotations: CocoKeypoints,
    boxes: Sequence[PersonBox] | None = None,
    *,
    oks_threshold: float = 0.9,
    joint_threshold: float = 0.2,
    workers: int = 0,
    progress: bool = True,
) -> Evaluation:
    """COCO average precision of an estimator (official: OKS-NMS above 0.9, joints above 0.2 count in the score).

    Args:
        estimator: network, input size, decoder and flip test.
        annotations: the truth.
        boxes: where to look for people: ``annotations.detections(file)``, or the annotated boxes by default.
        oks_threshold: of the suppression of duplicates.
        joint_threshold: joints below it do not count in a person's score.
        workers: processes that read images; 0 does it in this one.
        progress: show a progress bar, where standard error is a terminal.

    Raises:
        InputError: if there is nothing to evaluate, or the joints of annotations and estimator differ.
    """
    if len(annotations.keypoint_set) != len(estimator.keypoint_set):
        raise InputError(
            f"evaluate: expected annotations with {len(estimator.keypoint_set)} joints as the network has outputs, got "
            f"{len(annotations.keypoint_set)}"
        )
    boxes = annotations.people if boxes is None else sorted(boxes, key=lambda box: box.image_id)
    if not boxes:
        raise InputError(f"{annotations.annotation_file}: expected at least one box to look for people in, got none")
    # Tells now, rather than after the work, if average precision cannot be had from these annotations.
    coco_average_precision([], annotations.annotation_file, annotations.keypoint_set)
    crops = PersonCrops(annotations, boxes, estimator.input_size, udp=estimator.udp)
    loader = DataLoader(crops, batch_size=estimator.batch_size, num_workers=workers, worker_init_fn=use_one_thread)
    poses: list[PredictedPose] = []
    with tqdm(total=len(boxes), desc="evaluate", unit="person", disable=None if progress else True, leave=False) as bar:
        for batch in batches(loader):
            centers, scales = batch["center"].numpy(), batch["scale"].numpy()
            keypoints, scores = estimator.predict_crops(batch["image"], centers, scales)
            for row in range(len(keypoints)):
                poses.append(
                    PredictedPose(
                        image_id=int(batch["image_id"][row]),
                        keypoints=keypoints[row],
                        joint_scores=scores[row],
                        box_score=float(batch["box_score"][row]),
                        area=float(np.prod(scales[row])),
                    )
                )
            bar.update(len(keypoints))
    results = coco_results(
        poses,
        annotations.keypoint_set,
        oks_threshold=oks_threshold,
        joint_threshold=joint_threshold,
        category_id=annotations.category_ids[0],
    )
    metrics = coco_average_precision(results, annotations.annotation_file, annotations.keypoint_set)
    return Evaluation(metrics, results, poses)
