"""Where people are looked for in a video, who is followed, and what a line of JSON says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from spot_network import SpotNetwork
from video_files import number_of, write_video

from litehrnet_cuda.data.boxes import ImageBoxes
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import COCO
from litehrnet_cuda.predictors.pose_estimator import PoseEstimator
from litehrnet_cuda.results import KeyPoints
from litehrnet_cuda.video.frames import Frame, VideoFrames
from litehrnet_cuda.video.poses import FramePoses, VideoPoseEstimator, estimate_video

Array = np.ndarray[Any, Any]

SHAPE = np.random.default_rng(0).uniform(0.1, 0.9, (len(COCO), 2))


class Finder:
    """Stands in for a PoseEstimator: people are bright rectangles, whose pose is found in any box that touches them.

    Args:
        people: by the number of a frame (the picture's first value), the rectangles in it.
    """

    def __init__(self, people: Callable[[int], list[tuple[float, float, float, float]]]) -> None:
        self.people = people
        self.boxes: list[list[list[float]] | None] = []

    def __call__(self, image: Array, boxes: Any = None, scores: Any = None) -> KeyPoints:
        self.boxes.append(None if boxes is None else np.round(boxes).astype(int).tolist())
        corners = np.array([[0, 0, image.shape[1], image.shape[0]]] if boxes is None else boxes, np.float32)
        corners = corners.reshape(-1, 4)
        points = np.zeros((len(corners), len(COCO), 2))
        found = np.zeros((len(corners), len(COCO)))
        for row, (left, top, right, bottom) in enumerate(corners.tolist()):
            middle = np.array([(left + right) / 2, (top + bottom) / 2])
            points[row] = middle
            candidates = [p for p in self.people(int(image[0, 0, 0])) if p[0] < right and p[2] > left]
            if candidates:
                best = min(candidates, key=lambda p: abs((p[0] + p[2]) / 2 - middle[0]))
                low, high = np.array(best[:2]), np.array(best[2:])
                points[row], found[row] = low + SHAPE * (high - low), 0.9
        given = np.ones(len(corners)) if scores is None else scores
        return KeyPoints(points, found, corners, given)


def frame(index: int, rate: float = 10) -> Frame:
    return Frame(index, index / rate, np.full((120, 400, 3), index, np.uint8))


def walker(index: int) -> list[tuple[float, float, float, float]]:
    """Somebody who walks four pixels a frame and, from frame 5 on, somebody else who stands."""
    people = [(20.0 + 4 * index, 10.0, 60.0 + 4 * index, 110.0)]
    return [*people, (300.0, 10.0, 340.0, 110.0)] if index >= 5 else people


def test_without_anything_the_whole_frame_is_one_person() -> None:
    finder = Finder(walker)
    find = VideoPoseEstimator(finder)  # type: ignore[arg-type]
    found = [find(frame(index)) for index in range(3)]
    assert finder.boxes == [None] * 3
    assert [poses.identities for poses in found] == [None] * 3


def test_boxes_of_frames() -> None:
    finder = Finder(walker)
    given = {0: ImageBoxes([[20, 10, 60, 110]], [0.5]), 2: ImageBoxes([[25, 10, 65, 110]], [0.75])}
    find = VideoPoseEstimator(finder, boxes=given.get)  # type: ignore[arg-type]
    found = [find(frame(index)) for index in range(4)]
    assert [len(poses) for poses in found] == [1, 0, 1, 0]
    assert [poses.poses.box_scores.tolist() for poses in found] == [[0.5], [], [0.75], []]


def test_a_detector_is_asked_for_every_frame() -> None:
    finder, asked = Finder(walker), []

    def detector(image: Array) -> list[tuple[float, ...]]:
        asked.append(int(image[0, 0, 0]))
        return [*walker(asked[-1])]

    find = VideoPoseEstimator(finder, detector=detector, identify=True)  # type: ignore[arg-type]
    found = [find(frame(index)).identities for index in range(7)]
    assert asked == list(range(7))
    assert found == [(1,)] * 5 + [(1, 2)] * 2


def test_people_are_followed_between_looks() -> None:
    finder, asked = Finder(walker), []

    def detector(image: Array) -> list[tuple[float, ...]]:
        asked.append(int(image[0, 0, 0]))
        return [*walker(asked[-1])]

    find = VideoPoseEstimator(finder, detector=detector, track=True, look_every=4)  # type: ignore[arg-type]
    found = [find(frame(index)) for index in range(13)]
    assert asked == [0, 4, 8, 12]
    assert [poses.identities for poses in found] == [(1,)] * 8 + [(1, 2)] * 5
    for index, poses in enumerate(found):  # and the poses are of where the walker is by now
        np.testing.assert_allclose(poses.poses.keypoints[0, :, 0], 20 + 4 * index + 40 * SHAPE[:, 0], rtol=1e-5)


def test_boxes_of_the_first_frame_are_enough_to_follow() -> None:
    finder = Finder(walker)
    given = {0: ImageBoxes([[20, 10, 60, 110]], [0.5])}
    find = VideoPoseEstimator(finder, boxes=given.get, track=True)  # type: ignore[arg-type]
    for index in range(20):
        poses = find(frame(index))
        assert poses.identities == (1,)
        middle = poses.poses.keypoints[0].mean(axis=0)
        assert middle[0] == pytest.approx(20 + 4 * index + 40 * SHAPE[:, 0].mean(), abs=1)
    assert poses.poses.box_scores.tolist() == [0.5]


def test_somebody_who_is_lost_is_looked_for_anew() -> None:
    finder, asked = Finder(lambda index: walker(index) if index not in (3, 4) else []), []

    def detector(image: Array) -> list[tuple[float, ...]]:
        asked.append(int(image[0, 0, 0]))
        return [*finder.people(asked[-1])]

    find = VideoPoseEstimator(finder, detector=detector, track=True, look_every=0)  # type: ignore[arg-type]
    found = [find(frame(index)) for index in range(8)]
    assert asked == [0, 4, 5]
    assert [poses.identities for poses in found][5:] == [(1, 2)] * 3


def test_who_walks_out_of_the_picture_is_not_followed() -> None:
    finder = Finder(lambda index: [(340.0 + 20 * index, 10.0, 380.0 + 20 * index, 110.0)])
    given = {0: ImageBoxes([[340, 10, 380, 110]], [1.0])}
    find = VideoPoseEstimator(finder, boxes=given.get, track=True)  # type: ignore[arg-type]
    assert [len(find(frame(index))) for index in range(6)] == [1, 1, 1, 0, 0, 0]


def test_joints_that_fall_into_one_place_are_not_followed() -> None:
    finder = Finder(lambda index: [(50.0, 50.0, 50.0, 50.0)])
    given = {0: ImageBoxes([[30, 30, 70, 70]], [1.0])}
    find = VideoPoseEstimator(finder, boxes=given.get, track=True)  # type: ignore[arg-type]
    counts = [len(find(frame(index))) for index in range(60)]
    assert counts[:5] == [1] * 5, "joints that are hidden for a moment take no boxes away"
    assert counts[-1] == 0


def test_two_who_are_followed_into_one_pose_become_one() -> None:
    finder = Finder(lambda index: [(20.0, 10.0, 60.0, 110.0)])
    given = {0: ImageBoxes([[20, 10, 60, 110], [24, 10, 64, 110]], [1.0, 0.5])}
    find = VideoPoseEstimator(finder, boxes=given.get, track=True)  # type: ignore[arg-type]
    found = [find(frame(index)) for index in range(3)]
    assert [len(poses) for poses in found] == [1, 1, 1]
    assert found[0].poses.box_scores.tolist() == [1.0]


def test_joints_are_steadied_person_by_person() -> None:
    rng = np.random.default_rng(0)
    trembling = {index: rng.normal(0, 1.5, 2) for index in range(60)}

    def people(index: int) -> list[tuple[float, float, float, float]]:
        x, y = trembling[index]
        both = [(20 + x, 10 + y, 60 + x, 110 + y), (200 - x, 10 - y, 240 - x, 110 - y)]
        return both if index % 2 else both[::-1]

    plain, smooth = (
        VideoPoseEstimator(
            Finder(people),  # type: ignore[arg-type]
            detector=lambda image: people(int(image[0, 0, 0])),
            smooth=smooth,
            identify=True,
        )
        for smooth in (False, True)
    )
    paths: dict[tuple[str, int], list[Array]] = {}
    for index in range(60):
        for name, find in (("plain", plain), ("smooth", smooth)):
            found = find(frame(index, rate=30))
            assert found.identities == ((1, 2) if index % 2 == 0 else (2, 1))
            for number, points in zip(found.identities or (), found.poses.keypoints, strict=True):
                paths.setdefault((name, number), []).append(points)
    for number in (1, 2):
        steps = {name: np.abs(np.diff(paths[name, number][20:], axis=0)).mean() for name in ("plain", "smooth")}
        assert steps["smooth"] < 0.5 * steps["plain"]


def test_a_line_says_frame_time_and_people() -> None:
    poses = Finder(walker)(frame(3).image, [[20, 10, 60, 110]])
    record = FramePoses(3, 0.3, poses, (7,)).record()
    (person,) = record.pop("people")
    assert record == {"frame": 3, "time": 0.3, "keypoint_set": "coco"}
    assert list(person) == ["identity", "score", "box", "box_score", "keypoints"]
    assert person["identity"] == 7
    assert list(person["keypoints"]) == list(COCO.names)
    assert "identity" not in FramePoses(3, 0.3, poses).record()["people"][0]


def test_numbers_are_drawn() -> None:
    poses = Finder(walker)(frame(3).image, [[20, 10, 60, 110]])
    image = np.zeros((120, 400, 3), np.uint8)
    plain, numbered = FramePoses(3, 0.3, poses).draw(image), FramePoses(3, 0.3, poses, (7,)).draw(image)
    assert (plain != numbered).any()
    assert not FramePoses(3, 0.3, poses, min_score=0.95).draw(image).any()


def test_a_video_is_gone_through(tmp_path: Path) -> None:
    estimator = PoseEstimator(SpotNetwork(), device="cpu")
    file = write_video(tmp_path / "a.mp4", 5)
    found = list(estimate_video(file, estimator, smooth=True))
    assert [number_of(frame.image) for frame, _ in found] == list(range(5))
    assert [(poses.index, poses.identities) for _, poses in found] == [(i, (1,)) for i in range(5)]
    with VideoFrames(file) as frames:
        expected = estimator(next(iter(frames)).image)
    np.testing.assert_array_equal(found[0][1].poses.keypoints, expected.keypoints)


def test_a_detector_that_is_none_is_said_with_its_frame(tmp_path: Path) -> None:
    file = write_video(tmp_path / "a.mp4", 3)
    estimator = PoseEstimator(SpotNetwork(), device="cpu")
    with pytest.raises(InputError, match=r"frame 0: detector: expected boxes of shape \[P, 4\]"):
        list(estimate_video(file, estimator, detector=lambda image: [1, 2]))
    with pytest.raises(InputError, match=r"frame 0: mine\.py: expected boxes"):
        list(estimate_video(file, estimator, detector=lambda image: [1, 2], detector_name="mine.py"))
