"""Pictures of predictions beside the truth."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from litehrnet_cuda.data.coco import CocoKeypoints
from litehrnet_cuda.engine import report
from litehrnet_cuda.engine.evaluate import Evaluation
from litehrnet_cuda.engine.report import joint_errors, predictions_beside_truth, truth, worst_and_best, write_report
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import MPII
from litehrnet_cuda.metrics.coco import PredictedPose
from litehrnet_cuda.predictors.pose_estimator import PoseEstimator


def test_truth_is_what_is_annotated(people: CocoKeypoints) -> None:
    total = 0
    for image_id in people.images:
        expected = [person for person in people.people if person.image_id == image_id]
        found = truth(people, image_id)
        total += len(found)
        assert len(found) == len(expected)
        for row, person in enumerate(expected):
            np.testing.assert_array_equal(found.keypoints[row], person.keypoints)
            np.testing.assert_array_equal(found.scores[row], person.visible)
            np.testing.assert_array_equal(found.boxes[row], person.box)
    assert total == len(people.people)


def test_truth_of_an_image_without_people_is_empty(people: CocoKeypoints) -> None:
    nobody = copy.copy(people)
    nobody.people = []
    assert len(truth(nobody, 1)) == 0


def test_the_sheet_has_pairs_of_truth_and_prediction(people: CocoKeypoints, checkpoint: Path) -> None:
    estimator = PoseEstimator(checkpoint=checkpoint)
    one = predictions_beside_truth(estimator, people, count=1)
    four = predictions_beside_truth(estimator, people)  # fewer images than asked for
    assert one.dtype == four.dtype == np.uint8
    width = 160
    assert 2 * width <= one.shape[1] < 3 * width
    assert 4 * width <= four.shape[1] < 5 * width
    # An untrained network's joints have scores of about zero and are not drawn, so the right half of the pair is the
    # image itself, and the left half is the image with the truth drawn on it.
    first = next(iter(dict.fromkeys(person.image_id for person in people.people)))
    image = people.read_image(first)
    drawn = truth(people, first).draw(image)
    assert not np.array_equal(image, drawn)
    assert contains(one, image)
    assert contains(one, drawn)


def contains(sheet: np.ndarray, picture: np.ndarray) -> bool:
    height, width = picture.shape[:2]
    rows, columns = sheet.shape[0] - height + 1, sheet.shape[1] - width + 1
    possible = np.ones((rows, columns), bool)
    for y, x in np.random.default_rng(0).integers(0, (height, width), (20, 2)):  # a few pixels rule out most places
        possible &= (sheet[y : y + rows, x : x + columns] == picture[y, x]).all(axis=-1)
    return any(np.array_equal(sheet[y : y + height, x : x + width], picture) for y, x in np.argwhere(possible))


def test_a_sheet_of_nobody_is_said(people: CocoKeypoints, checkpoint: Path) -> None:
    with pytest.raises(InputError, match="images: expected at least one, got none"):
        predictions_beside_truth(PoseEstimator(checkpoint=checkpoint), people, count=0)


# ----------------------------------------------------------------------------------------------------- of an evaluation


def found(people: CocoKeypoints, shifts: list[float], **changes: Any) -> Evaluation:
    """Everybody found in their boxes, the joints of the first by so many pixels too far to the right, and so on."""
    poses = []
    for person, shift in zip(people.people, shifts, strict=True):
        keypoints = person.keypoints + np.array([shift, 0], np.float32)
        poses.append(
            PredictedPose(person.image_id, keypoints, np.zeros(len(keypoints)), 1.0, 1.0, person.annotation_id)
        )
    metrics = {"AP": 0.5, "AP (M)": -1.0}
    return replace(Evaluation(metrics, [{"image_id": 1}], poses), **changes)


def test_the_sheet_shows_the_worst_and_the_best(people: CocoKeypoints, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: dict[str, Any] = {}

    def sheet(pictures: Any, titles: Any, *rest: Any, **more: Any) -> np.ndarray:
        shown.update(pictures=pictures, titles=titles, **more)
        return np.zeros((1, 1, 3), np.uint8)

    monkeypatch.setattr(report, "contact_sheet", sheet)
    count = len(people.people)
    shifts = [0.0] * count
    worst, second = 2, count - 1
    shifts[worst], shifts[second] = 60.0, 5.0
    worst_and_best(found(people, shifts), people, count=2)
    titles = shown["titles"]
    for place, row in ((1, worst), (2, second)):
        file = people.images[people.people[row].image_id].path.name
        assert titles[2 * place - 2] == f"worst {place}: truth, {file}"
    assert titles[1] < titles[3] < titles[5] == titles[7] == "predicted, OKS 1.00"
    assert titles[4].startswith("best 1: truth, 0000")
    assert "2 worst and 2 best" in shown["heading"]
    assert "annotated boxes" in shown["heading"]
    for index, picture in enumerate(shown["pictures"][::2]):
        same = np.array_equal(picture, shown["pictures"][2 * index + 1])
        assert same == (index > 1)  # the best are the truth itself; low scores hide no joint


def test_a_sheet_of_few_people_or_none(people: CocoKeypoints) -> None:
    few = copy.copy(people)
    for number, pairs in ((5, 2), (3, 1), (1, 1)):  # a single one is the worst and the best
        few.people = people.people[:number]
        picture = worst_and_best(found(few, [0.0] * number), few, count=4)
        assert picture.dtype == np.uint8
        assert 0 < picture.shape[1] - 2 * pairs * report.PERSON_CELL[0] < report.PERSON_CELL[0]
    with pytest.raises(InputError, match="expected an annotated person that was found, got none to show"):
        worst_and_best(Evaluation({"AP": 0.0}, [], []), few)


def test_errors_of_joints_are_percent_of_the_box_or_the_head(people: CocoKeypoints) -> None:
    count = len(people.people)
    errors, unit = joint_errors(found(people, [3.0] * count), people)
    assert unit == "percent of the longer side of the box"
    for joint, of_joint in enumerate(errors):
        seen = [person for person in people.people if person.visible[joint]]
        sides = [max(person.box[2:] - person.box[:2]) for person in seen]
        np.testing.assert_allclose(of_joint, 300 / np.array(sides), rtol=1e-4)  # float32 beside about 100
    heads = copy.copy(people)
    heads.keypoint_set = MPII
    heads.people = [
        replace(person, keypoints=person.keypoints[:16], visible=person.visible[:16], head_size=15.0)
        for person in people.people
    ]
    errors, unit = joint_errors(found(heads, [3.0] * count, metric="pckh"), heads)
    assert unit == "percent of the head's size"
    np.testing.assert_allclose(np.concatenate(errors), 20, rtol=1e-4)
    assert [len(of_joint) for of_joint in joint_errors(Evaluation({}, [], []), people)[0]] == [0] * 17


def test_the_report_says_which_boxes(people: CocoKeypoints, tmp_path: Path) -> None:
    evaluation = found(people, [1.0] * len(people.people))
    files = write_report(tmp_path / "new", evaluation, people, {"decoder": "dark"})
    assert [file.name for file in files] == [
        "metrics.json",
        "results_annotated_boxes.json",
        "joint_errors.png",
        "worst_and_best.png",
    ]
    content = json.loads(files[0].read_text())
    assert content == {"metric": "coco", "boxes": "annotated", "decoder": "dark", "AP": 0.5, "AP (M)": None}
    assert json.loads(files[1].read_text()) == evaluation.results
    for picture in files[2:]:
        assert cv2.imread(str(picture)) is not None
    nobody = Evaluation({"AP": 0.0}, [], [], boxes="detected")
    files = write_report(tmp_path / "nobody", nobody, people, {})
    assert [file.name for file in files] == ["metrics.json", "results_detected_boxes.json", "joint_errors.png"]
    assert sorted(files) == sorted((tmp_path / "nobody").iterdir())
