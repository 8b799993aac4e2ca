"""People keep their numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from litehrnet_cuda.keypoints import COCO
from litehrnet_cuda.results import KeyPoints
from litehrnet_cuda.video.identities import PATIENCE, Identities, intersection_over_union

Array = np.ndarray[Any, Any]

SHAPE = np.random.default_rng(0).uniform(0.1, 0.9, (len(COCO), 2))


def people(*boxes: tuple[float, float, float, float], shapes: list[Array] | None = None) -> KeyPoints:
    """People in boxes, all in the same pose unless other ones are given."""
    corners = np.array(boxes, np.float64).reshape(-1, 4)
    poses = [
        corner[:2] + (shapes[row] if shapes else SHAPE) * (corner[2:] - corner[:2])
        for row, corner in enumerate(corners)
    ]
    count = len(corners)
    return KeyPoints(np.array(poses), np.ones((count, len(COCO))), corners, np.ones(count))


LEFT, RIGHT = (0, 0, 40, 100), (60, 0, 100, 100)


def test_numbers_follow_people_in_any_order() -> None:
    who = Identities()
    assert who(people(LEFT, RIGHT), 0.0) == [1, 2]
    assert who(people((64, 2, 104, 102), (3, 1, 43, 101)), 0.1) == [2, 1]
    assert who(people((6, 1, 46, 101), (300, 0, 340, 100), (67, 2, 107, 102)), 0.2) == [1, 3, 2]


def test_people_whose_boxes_are_the_same_are_told_apart_by_their_poses() -> None:
    other = SHAPE[::-1]
    who = Identities()
    assert who(people(LEFT, LEFT, shapes=[SHAPE, other]), 0.0) == [1, 2]
    assert who(people(LEFT, LEFT, shapes=[other, SHAPE]), 0.1) == [2, 1]


def test_people_whose_poses_changed_are_known_by_their_boxes() -> None:
    who = Identities()
    assert who(people(LEFT), 0.0) == [1]
    assert who(people(LEFT, shapes=[1 - SHAPE]), 0.1) == [1]


def test_somebody_who_was_not_found_for_a_while_keeps_the_number() -> None:
    who = Identities()
    who(people(LEFT, RIGHT), 0.0)
    assert who(people(RIGHT), 0.5) == [2]
    assert 1 in who
    assert who(people(LEFT, RIGHT), PATIENCE) == [1, 2]
    assert who(people(), 3.0) == []
    assert who(people(LEFT), 3.1) == [3]
    assert 1 not in who


def test_frames_may_be_further_apart_than_anybody_is_remembered() -> None:
    who = Identities()
    for index in range(4):
        assert who(people(LEFT, RIGHT), index * 5 * PATIENCE) == [1, 2]


def test_every_number_is_given_once() -> None:
    who = Identities()
    assert who(people(LEFT), 0.0) == [1]
    assert who(people((2, 0, 42, 100), (1, 0, 41, 100)), 0.1) == [2, 1]


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ((0, 0, 10, 10), 1.0),
        ((5, 0, 15, 10), 1 / 3),
        ((10, 0, 20, 10), 0.0),
        ((2, 2, 4, 4), 0.04),
        ((50, 50, 60, 60), 0.0),
    ],
)
def test_overlap(other: tuple[int, ...], expected: float) -> None:
    found = intersection_over_union(np.array([[0, 0, 10, 10]]), np.array([other]))
    np.testing.assert_allclose(found, [[expected]])
