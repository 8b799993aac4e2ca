"""Which prediction belongs to which person."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from litehrnet_cuda.data.coco import CocoKeypoints, Person
from litehrnet_cuda.engine.matching import match_people
from litehrnet_cuda.metrics.coco import PredictedPose


def person(number: int, left: float, image_id: int = 1, visible: int = 17) -> Person:
    """Somebody whose joints stand in a column, 10 pixels apart."""
    joints = np.stack([np.full(17, left + 20), 10 * np.arange(17)], axis=1).astype(np.float32)
    box = np.array([left, 0, left + 50, 200], np.float32)
    return Person(image_id, box, 1.0, number, joints, (np.arange(17) < visible).astype(np.float32))


def pose_of(someone: Person, shift: float = 0.0, own: bool = False) -> PredictedPose:
    number = someone.annotation_id if own else None
    return PredictedPose(someone.image_id, someone.keypoints + shift, np.zeros(17), 0.9, 1.0, number)


@pytest.fixture
def crowd(people: CocoKeypoints) -> CocoKeypoints:
    three = copy.copy(people)
    three.people = [person(5, 0), person(6, 30), person(7, 0, image_id=2)]
    return three


def test_the_pose_in_an_annotated_box_is_that_persons(crowd: CocoKeypoints) -> None:
    first, second, third = crowd.people
    # The pose in the first one's box is of the second one: it is not given away.
    poses = [pose_of(second, own=True), pose_of(third, own=True), pose_of(first, shift=30, own=True)]
    matches = match_people(poses, crowd)
    assert [match.person.annotation_id for match in matches] == [5, 6, 7]
    assert matches[0].pose is poses[2]
    assert matches[0].similarity < 0.7 < matches[1].similarity == pytest.approx(1)


def test_a_detectors_poses_go_to_the_most_similar(crowd: CocoKeypoints) -> None:
    _, second, third = crowd.people
    far, near, other = pose_of(second, shift=12), pose_of(second, shift=1), pose_of(third, shift=2)
    matches = match_people([far, near, other], crowd)
    assert [match.person.annotation_id for match in matches] == [5, 6, 7]
    assert [id(match.pose) for match in matches] == [id(far), id(near), id(other)]
    # One pose for two people goes to the nearer one, and nobody is found in another image.
    assert [match.person.annotation_id for match in match_people([near], crowd)] == [6]
    assert match_people([], crowd) == []


def test_only_annotated_joints_count(crowd: CocoKeypoints) -> None:
    crowd.people = [person(5, 0, visible=3), person(6, 300, visible=0)]
    pose = pose_of(crowd.people[0], own=True)
    pose.keypoints[3:] += 500
    matches = match_people([pose, pose_of(crowd.people[1], own=True)], crowd)
    assert [match.similarity for match in matches] == [pytest.approx(1), 0]


def test_similarity_is_oks_with_the_area_of_the_box(crowd: CocoKeypoints) -> None:
    pose = pose_of(crowd.people[0], own=True)
    pose.keypoints[:, 0] += 9
    sigmas = np.array(crowd.keypoint_set.sigmas)
    expected = np.exp(-(9**2) / (2 * (50 * 200) * (2 * sigmas) ** 2)).mean()
    assert match_people([pose], crowd)[0].similarity == pytest.approx(expected)
