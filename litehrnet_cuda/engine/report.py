"""Pictures and files that show what a network has learnt, and where it fails."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from litehrnet_cuda.data.annotations import PoseAnnotations
from litehrnet_cuda.data.images import encode_image
from litehrnet_cuda.data.transforms import boxes_to_centers_scales, crop, warp_keypoints, warp_matrix
from litehrnet_cuda.engine.evaluate import Evaluation
from litehrnet_cuda.engine.matching import Match, match_people
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.files import output_folder, written_whole
from litehrnet_cuda.metrics.pck import box_lengths, distances, in_lengths
from litehrnet_cuda.metrics.undefined import with_nulls
from litehrnet_cuda.predictors.pose_estimator import PoseEstimator
from litehrnet_cuda.results import KeyPoints
from litehrnet_cuda.visualize import contact_sheet, plot_joint_errors

Array = np.ndarray[Any, Any]

PERSON_CELL = (225, 300)  # (width, height) of a person in a sheet, in pixels


def truth(annotations: PoseAnnotations, image_id: int) -> KeyPoints:
    """The annotated people of an image; joints that are not annotated have score 0."""
    people = [person for person in annotations.people if person.image_id == image_id]
    if not people:
        return KeyPoints.empty(annotations.keypoint_set)
    return KeyPoints(
        keypoints=np.stack([person.keypoints for person in people]),
        scores=np.stack([person.visible for person in people]),
        boxes=np.stack([person.box for person in people]),
        box_scores=np.ones(len(people), np.float32),
        keypoint_set=annotations.keypoint_set,
    )


def predictions_beside_truth(estimator: PoseEstimator, annotations: PoseAnnotations, count: int = 8) -> Array:
    """A sheet of image pairs: the annotated poses, and what the estimator finds in the annotated boxes.

    Args:
        estimator: what to show.
        annotations: images and truth; the first ``count`` images with people are taken.
        count: number of pairs.

    Returns:
        ``[H, W, 3]`` uint8 BGR.
    """
    image_ids = list(dict.fromkeys(person.image_id for person in annotations.people))[:count]
    pictures: list[Array] = []
    titles: list[str] = []
    for image_id in image_ids:
        image = annotations.read_image(image_id)
        expected = truth(annotations, image_id)
        predicted = estimator(image, expected.boxes)
        pictures += [expected.draw(image), predicted.draw(image)]
        titles += ["truth", f"predicted, mean joint score {predicted.scores.mean():.2f}"]
    return contact_sheet(
        pictures,
        titles,
        heading="Truth and prediction, unseen people in annotated boxes (blue: their left, orange: right)",
    )


def worst_and_best(evaluation: Evaluation, annotations: PoseAnnotations, count: int = 4) -> Array:
    """A sheet of people: the worst predictions and the best ones, by OKS, each beside the truth.

    Predictions show the annotated joints, whatever their scores, so that they can be compared one by one.

    Args:
        evaluation: what to show.
        annotations: the truth it was measured with.
        count: number of people in each of the two rows, or fewer if there are fewer.

    Returns:
        ``[H, W, 3]`` uint8 BGR.

    Raises:
        InputError: if no annotated person was found.
    """
    matches = sorted(match_people(evaluation.poses, annotations), key=lambda match: match.similarity)
    matches = [match for match in matches if match.person.visible.any()]
    if not matches:
        raise InputError(
            f"{annotations.annotation_file}: expected an annotated person that was found, got none to show"
        )
    count = min(count, max(1, len(matches) // 2))
    pictures: list[Array] = []
    titles: list[str] = []
    for kind, chosen in (("worst", matches[:count]), ("best", matches[-count:][::-1])):
        for place, match in enumerate(chosen, start=1):
            pictures += _truth_and_prediction(match, annotations)
            titles += [
                f"{kind} {place}: truth, {annotations.images[match.person.image_id].path.name}",
                f"predicted, OKS {match.similarity:.2f}",
            ]
    heading = f"Truth and prediction: {count} worst and {count} best of {len(matches)} people in "
    return contact_sheet(
        *(pictures, titles, 2 * count, PERSON_CELL),
        heading=f"{heading}{evaluation.boxes} boxes (blue: their left, orange: their right)",
    )


def _truth_and_prediction(match: Match, annotations: PoseAnnotations) -> list[Array]:
    person, pose = match.person, match.pose
    shown = [person.keypoints[person.visible > 0], person.box.reshape(2, 2)]
    corners = np.concatenate([np.min(np.concatenate(shown), axis=0), np.max(np.concatenate(shown), axis=0)])
    center, scale = boxes_to_centers_scales(corners, PERSON_CELL)
    matrix = warp_matrix(center, scale, PERSON_CELL)
    picture = crop(annotations.read_image(person.image_id), matrix, PERSON_CELL)
    return [
        KeyPoints(
            keypoints=warp_keypoints(keypoints, matrix)[None],
            scores=person.visible[None],
            boxes=warp_keypoints(person.box.reshape(2, 2), matrix).reshape(1, 4),
            box_scores=np.ones(1),
            keypoint_set=annotations.keypoint_set,
        ).draw(picture)
        for keypoints in (person.keypoints, pose.keypoints)
    ]


def joint_errors(evaluation: Evaluation, annotations: PoseAnnotations) -> tuple[list[Array], str]:
    """How far each joint is from the truth, over the annotated people that were found.

    Returns:
        for each of the K joints the distances, and their unit: percent of the longer side of the annotated box, or for
        ``pckh`` of the head's size.
    """
    matches = match_people(evaluation.poses, annotations)
    if not matches:
        return [np.empty(0) for _ in annotations.keypoint_set.names], "percent"
    distance = distances(
        np.stack([match.pose.keypoints for match in matches]),
        np.stack([match.person.keypoints for match in matches]),
        np.stack([match.person.visible for match in matches]),
    )
    if evaluation.metric == "pckh":
        lengths, unit = np.array([match.person.head_size for match in matches]), "percent of the head's size"
    else:
        lengths = box_lengths(np.stack([match.person.box for match in matches]))
        unit = "percent of the longer side of the box"
    percent = 100 * in_lengths(distance, lengths)
    return [of_joint[~np.isnan(of_joint)] for of_joint in percent.T], unit


def write_report(
    folder: str | Path, evaluation: Evaluation, annotations: PoseAnnotations, details: Mapping[str, Any]
) -> list[Path]:
    """Leaves an evaluation in a folder, which is created.

    ``metrics.json`` has the details and the figures (null for what is annotated nowhere),
    ``results_annotated_boxes.json`` or ``results_detected_boxes.json`` the poses in COCO's results format,
    ``joint_errors.png`` a chart, ``worst_and_best.png`` people. All of them say which boxes were used.

    Args:
        folder: files of an earlier evaluation in it are replaced.
        evaluation: what to leave.
        annotations: the truth it was measured with; images that the evaluation skipped are left out.
        details: how it was made; plain values.

    Returns:
        the files.
    """
    folder = output_folder(folder)
    annotations = annotations.without_images(evaluation.skipped)
    figures = with_nulls(evaluation.metrics)
    described = {"metric": evaluation.metric, "boxes": evaluation.boxes, **details, **figures}
    files = [folder / "metrics.json", folder / f"results_{evaluation.boxes}_boxes.json"]
    for file, content in zip(files, (json.dumps(described, indent=1), json.dumps(evaluation.results)), strict=True):
        with written_whole(file) as draft:
            draft.write_text(content + "\n", encoding="utf-8")
    matches = match_people(evaluation.poses, annotations)
    errors, unit = joint_errors(evaluation, annotations)
    files.append(folder / "joint_errors.png")
    with written_whole(files[-1]) as draft:
        found = f"{len(matches)} of {len(annotations.people)} people, found in {evaluation.boxes} boxes"
        plot_joint_errors(annotations.keypoint_set.names, errors, draft, unit=unit, heading=found)
    if matches:
        files.append(folder / "worst_and_best.png")
        with written_whole(files[-1]) as draft:
            draft.write_bytes(encode_image(worst_and_best(evaluation, annotations), ".png"))
    return files
