"""Accuracy of pose networks on annotated people, by the metric that belongs to the data."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from torch.utils.data import DataLoader
from tqdm import tqdm

from litehrnet_cuda.codecs.heatmap import Decoder
from litehrnet_cuda.data.annotations import Person, PersonBox, PoseAnnotations
from litehrnet_cuda.data.coco import CocoKeypoints
from litehrnet_cuda.data.mpii import MpiiKeypoints, head_size_file
from litehrnet_cuda.data.pose_dataset import BadImages, PersonCrops, batches, use_one_thread
from litehrnet_cuda.engine.distributed import ALONE, Processes
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import MPII
from litehrnet_cuda.metrics.coco import PredictedPose, coco_average_precision, coco_results
from litehrnet_cuda.metrics.pck import box_lengths, pck_figures
from litehrnet_cuda.metrics.pckh import pckh
from litehrnet_cuda.predictors.pose_estimator import PoseEstimator

Array = np.ndarray[Any, Any]
Metric = Literal["coco", "pckh", "pck"]
Boxes = Literal["annotated", "detected"]
METRICS: tuple[Metric, ...] = get_args(Metric)


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Args:
        metrics: the most telling figure first; -1 where there is nothing to measure, such as unannotated joints.
            ``coco``: average precision and recall from 0 to 1 (``"AP"``, ``"AP .5"``, ... ``"AR (L)"``);
            ``pckh``: see :func:`litehrnet_cuda.metrics.pckh.pckh`;
            ``pck``: see :func:`litehrnet_cuda.metrics.pck.pck_figures`.
        results: all poses in COCO's results format; for ``coco`` duplicates are suppressed.
        poses: the same poses before that, in the order of the boxes.
        metric: which one.
        boxes: whether people were looked for in their annotated boxes or in a detector's, which give lower figures.
        skipped: images that could not be read, by id, and what is wrong with each; their people do not count.
    """

    metrics: dict[str, float]
    results: list[dict[str, Any]]
    poses: list[PredictedPose]
    metric: Metric = "coco"
    boxes: Boxes = "annotated"
    skipped: dict[int, str] = field(default_factory=dict)

    @property
    def score_name(self) -> str:
        """What :attr:`score` is called."""
        return next(iter(self.metrics))

    @property
    def score(self) -> float:
        """The figure to choose a checkpoint by, 0 to 1: AP, PCKh@0.5, or PCK; -1 if there is nobody to find."""
        return self.metrics[self.score_name]

    @property
    def measured_in(self) -> str:
        """Which boxes were used, in words."""
        return f"{self.boxes} boxes"


def natural_metric(annotations: PoseAnnotations) -> Metric:
    """``pckh`` where all people have a head size, as MPII's have; else ``coco`` for COCO's format; else ``pck``."""
    people = annotations.people
    if people and all(person.head_size is not None for person in people):
        return "pckh"
    return "coco" if isinstance(annotations, CocoKeypoints) else "pck"


def why_not_pckh(annotations: PoseAnnotations) -> str | None:
    """Why MPII's people are not measured by PCKh, in a sentence; None where they are, or are none of MPII's."""
    if not isinstance(annotations, MpiiKeypoints) or natural_metric(annotations) == "pckh":
        return None
    file = annotations.annotation_file
    without = sum(person.head_size is None for person in annotations.people)
    return (
        f"{file}: PCK by the size of boxes is reported instead of PCKh, because {without} of "
        f"{len(annotations.people)} people have no head size; put {head_size_file(file).name} beside it, or give "
        "everybody a head_size"
    )


def evaluate(
    estimator: PoseEstimator,
    annotations: PoseAnnotations,
    boxes: Sequence[PersonBox] | None = None,
    *,
    metric: Metric | None = None,
    oks_threshold: float = 0.9,
    joint_threshold: float = 0.2,
    pck_threshold: float = 0.2,
    workers: int = 0,
    bad_images: BadImages = "stop",
    processes: Processes = ALONE,
    progress: bool = True,
) -> Evaluation:
    """Accuracy of an estimator.

    Args:
        estimator: network, input size, decoder and flip test.
        annotations: the truth.
        boxes: where to look for people: ``annotations.detections(file)``, or the annotated boxes by default.
        metric: ``coco``, ``pckh``, ``pck``, or what :func:`natural_metric` says. The last two compare person by person,
            so that they need annotated boxes.
        oks_threshold: ``coco``: of the suppression of duplicates (official: 0.9).
        joint_threshold: ``coco``: joints below it do not count in a person's score (official: 0.2).
        pck_threshold: ``pck``: as a fraction of the longer side of the annotated box.
        workers: processes that read images; 0 does it in this one.
        bad_images: ``"stop"`` at an image that cannot be read, or ``"skip"`` it: neither what is found in it nor who is
            annotated in it counts.
        processes: that share the work; all of them have to call this, and all return what one would return.
        progress: show a progress bar, where standard error is a terminal.

    Raises:
        InputError: if there is nothing to evaluate, the joints of annotations and estimator differ, or the metric
            cannot be had from these annotations or boxes.
    """
    decoder = estimator.decoder
    return evaluate_decoders(
        estimator,
        annotations,
        boxes,
        (decoder,),
        metric=metric,
        oks_threshold=oks_threshold,
        joint_threshold=joint_threshold,
        pck_threshold=pck_threshold,
        workers=workers,
        bad_images=bad_images,
        processes=processes,
        progress=progress,
    )[decoder]


def evaluate_decoders(
    estimator: PoseEstimator,
    annotations: PoseAnnotations,
    boxes: Sequence[PersonBox] | None,
    decoders: Sequence[Decoder],
    *,
    metric: Metric | None = None,
    oks_threshold: float = 0.9,
    joint_threshold: float = 0.2,
    pck_threshold: float = 0.2,
    workers: int = 0,
    bad_images: BadImages = "stop",
    processes: Processes = ALONE,
    progress: bool = True,
) -> dict[Decoder, Evaluation]:
    """Accuracy by decoder, from one run of the network, and one more for ``"udp"``, whose crops are others.

    Args:
        decoders: in place of the estimator's own; the rest is as in :func:`evaluate`.
    """
    if len(annotations.keypoint_set) != len(estimator.keypoint_set):
        raise InputError(
            f"{annotations.annotation_file}: expected annotations with {len(estimator.keypoint_set)} joints as the "
            f"network has outputs, got {len(annotations.keypoint_set)} ({annotations.keypoint_set.name})"
        )
    chosen = _checked_metric(metric, annotations)
    looked_in = annotations.people if boxes is None else sorted(boxes, key=lambda box: box.image_id)
    if not looked_in:
        raise InputError(f"{annotations.annotation_file}: expected at least one box to look for people in, got none")
    are_annotated = all(box.annotation_id is not None for box in looked_in)
    if chosen != "coco" and not are_annotated:
        raise InputError(
            f"boxes: expected annotated boxes for the metric {chosen}, which compares person by person, got a "
            f"detector's; leave the detections out, or measure average precision (coco)"
        )

    most: list[Decoder] = [decoder for decoder in decoders if decoder != "udp"]
    last: list[Decoder] = ["udp"] if "udp" in decoders else []
    found: dict[Decoder, list[PredictedPose]] = {}
    skipped: dict[int, str] = {}
    for group in filter(None, (most, last)):
        poses, problems = find_poses(
            *(estimator, annotations, looked_in, group),
            workers=workers,
            bad_images=bad_images,
            processes=processes,
            progress=progress,
        )
        found |= poses
        skipped |= problems
    seen = annotations.without_images(skipped)

    def measured(poses: list[PredictedPose]) -> Evaluation:
        if chosen == "coco":
            metrics, results = _precision(poses, seen, oks_threshold, joint_threshold)
        else:
            metrics = _by_person(chosen, poses, seen, pck_threshold)
            results = coco_results(poses, annotations.keypoint_set, suppression="none")
        return Evaluation(metrics, results, poses, chosen, "annotated" if are_annotated else "detected", skipped)

    return {decoder: measured(found[decoder]) for decoder in decoders}


def find_poses(
    estimator: PoseEstimator,
    annotations: PoseAnnotations,
    boxes: Sequence[PersonBox],
    decoders: Sequence[Decoder],
    *,
    workers: int = 0,
    bad_images: BadImages = "stop",
    processes: Processes = ALONE,
    progress: bool = True,
) -> tuple[dict[Decoder, list[PredictedPose]], dict[int, str]]:
    """The pose in each box.

    Args:
        boxes: best those of one image in sequence, because the last image read is kept.
        decoders: ``("udp",)``, or any others; the rest is as in :func:`evaluate`.

    Returns:
        the poses by decoder, in the order of the boxes; and the images that were skipped, by id, with what is wrong
        with them. There are no poses in these.

    Raises:
        InputError: if an image cannot be read and is not to be skipped, or none can.
    """

    def find(share: Sequence[PersonBox]) -> tuple[list[list[PredictedPose]], dict[int, str]]:
        crops = PersonCrops(annotations, share, estimator.input_size, udp="udp" in decoders, bad_images=bad_images)
        loader = DataLoader(crops, batch_size=estimator.batch_size, num_workers=workers, worker_init_fn=use_one_thread)
        poses: list[list[PredictedPose]] = [[] for _ in decoders]
        skipped: dict[int, str] = {}
        rest = iter(share)
        disable = None if progress and processes.first else True
        with tqdm(total=len(share), desc="evaluate", unit="person", disable=disable, leave=False) as bar:
            for batch in batches(loader):
                centers, scales, problems = batch["center"].numpy(), batch["scale"].numpy(), batch["problem"]
                decoded = estimator.predict_crops_with(decoders, batch["image"], centers, scales)
                of_batch = list(itertools.islice(rest, len(centers)))
                skipped |= {box.image_id: said for box, said in zip(of_batch, problems, strict=True) if said}
                for of_decoder, (keypoints, scores) in zip(poses, decoded, strict=True):
                    found = map(_pose, of_batch, keypoints, scores, scales)
                    of_decoder += [pose for pose, said in zip(found, problems, strict=True) if not said]
                bar.update(len(centers))
        return poses, skipped

    parts = processes.gathered(lambda: find(processes.share(boxes, estimator.batch_size)))
    skipped = {image_id: said for _, problems in parts for image_id, said in problems.items()}
    if len(skipped) == len({box.image_id for box in boxes}):
        raise InputError(
            f"{annotations.annotation_file}: expected at least one image that can be read, but all {len(skipped)} with "
            f"boxes are missing or damaged; check {annotations.image_dir}"
        )
    poses = {decoder: [pose for part, _ in parts for pose in part[place]] for place, decoder in enumerate(decoders)}
    return poses, skipped


def _pose(box: PersonBox, keypoints: Array, scores: Array, scale: Array) -> PredictedPose:
    return PredictedPose(box.image_id, keypoints, scores, box.score, float(np.prod(scale)), box.annotation_id)


def _checked_metric(metric: Metric | None, annotations: PoseAnnotations) -> Metric:
    """The metric, if it can be had: better said now than after the work."""
    chosen = metric or natural_metric(annotations)
    if chosen not in METRICS:
        raise InputError(f"metric: expected one of {', '.join(METRICS)}, got {chosen!r}")
    if chosen == "coco":
        if not isinstance(annotations, CocoKeypoints):
            raise InputError(
                f"{annotations.annotation_file}: expected annotations in COCO's format for average precision, got "
                f"{type(annotations).__name__}; measure pckh or pck"
            )
        coco_average_precision(
            [], annotations.annotation_file, annotations.keypoint_set, category_ids=annotations.category_ids
        )
    if chosen == "pckh":
        if len(annotations.keypoint_set) != len(MPII):
            raise InputError(
                f"{annotations.annotation_file}: expected the {len(MPII)} joints of MPII for PCKh, got "
                f"{len(annotations.keypoint_set)}"
            )
        without = [person.annotation_id for person in annotations.people if person.head_size is None]
        if without:
            raise InputError(
                f"{annotations.annotation_file}: expected the size of everybody's head for PCKh, got none for "
                f"annotation {without[0]}; measure pck, which goes by the size of the box"
            )
    return chosen


def _precision(
    poses: list[PredictedPose], annotations: PoseAnnotations, oks_threshold: float, joint_threshold: float
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    assert isinstance(annotations, CocoKeypoints)  # _checked_metric saw to it
    results = coco_results(
        poses,
        annotations.keypoint_set,
        oks_threshold=oks_threshold,
        joint_threshold=joint_threshold,
        category_id=annotations.category_ids[0],
    )
    metrics = coco_average_precision(
        results,
        annotations.annotation_file,
        annotations.keypoint_set,
        category_ids=annotations.category_ids,
        image_ids=annotations.images,
    )
    return metrics, results


def _by_person(
    metric: Metric, poses: list[PredictedPose], annotations: PoseAnnotations, threshold: float
) -> dict[str, float]:
    by_id = {person.annotation_id: person for person in annotations.people}
    people: list[Person] = [by_id[pose.annotation_id] for pose in poses]
    predictions = np.stack([pose.keypoints for pose in poses])
    truth = np.stack([person.keypoints for person in people])
    visible = np.stack([person.visible for person in people])
    if metric == "pckh":
        return pckh(predictions, truth, visible, np.array([person.head_size for person in people]))
    lengths = box_lengths(np.stack([person.box for person in people]))
    return pck_figures(predictions, truth, visible, lengths, annotations.keypoint_set.names, threshold=threshold)
