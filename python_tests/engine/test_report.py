"""Pictures of predictions beside the truth."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

from litehrnet_cuda.data.coco import CocoKeypoints
from litehrnet_cuda.engine.report import predictions_beside_truth, truth
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.predictors import PoseEstimator


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
