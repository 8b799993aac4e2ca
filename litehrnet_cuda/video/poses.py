"""Poses in a video: where people are, their poses, who is who, and steady joints."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from litehrnet_cuda.data.boxes import ImageBoxes
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.metrics.oks import oks_nms
from litehrnet_cuda.predictors.pose_estimator import PoseEstimator
from litehrnet_cuda.results import KeyPoints
from litehrnet_cuda.video.detectors import Detections, Detector, detect
from litehrnet_cuda.video.frames import Frame, VideoFrames
from litehrnet_cuda.video.identities import Identities
from litehrnet_cuda.video.smoothing import OneEuroFilter
from litehrnet_cuda.video.threads import read_ahead

Array = np.ndarray[Any, Any]

SEEN = 0.2  # score of a joint that counts, as in the official rescoring
_MARGIN = 1 / 8  # on each side: people's boxes in COCO are 1.2 (height) to 1.26 (width) times their joints'
_LEAST_SHARE = 1 / 3  # of the joints have to be seen in somebody who is followed
_LEAST_SIDE = 8.0  # pixels of the longer side of a followed box; less is nobody, but joints that fell into one place
_SHRINKS_TO = 0.9  # at most from frame to frame: joints that are hidden for a moment take no people's boxes away
_DOUBLE = 0.9  # similarity of two poses that are of one person; the official threshold


@dataclass(frozen=True, eq=False)
class FramePoses:
    """The people of one frame.

    Args:
        index: the frame's number, from 0.
        time: seconds since the first frame.
        poses: P people.
        identities: P numbers that stay with people from frame to frame, or None where nobody is matched.
        min_score: of joints that are drawn.
    """

    index: int
    time: float
    poses: KeyPoints
    identities: tuple[int, ...] | None = None
    min_score: float = SEEN

    def __len__(self) -> int:
        return len(self.poses)

    def draw(self, image: Array) -> Array:
        """A copy of ``image`` (``[H, W, 3]`` uint8 BGR) with the people drawn on it, with their numbers."""
        from litehrnet_cuda.visualize import draw_poses

        labels = None if self.identities is None else [str(number) for number in self.identities]
        return draw_poses(image, self.poses, min_score=self.min_score, labels=labels)

    def record(self) -> dict[str, Any]:
        """What a line of JSON says: frame, time, and the people as :meth:`KeyPoints.to_json` gives them."""
        content = json.loads(self.poses.to_json())
        if self.identities is not None:
            content["people"] = [
                {"identity": number, **person}
                for number, person in zip(self.identities, content["people"], strict=True)
            ]
        return {"frame": self.index, "time": round(self.time, 6), **content}


class VideoPoseEstimator:
    """Finds the poses in the frames of one video, which are to come in their order.

    Where people are is said by boxes, or found by a detector; without either the whole frame is one person.

    Args:
        estimator: finds the poses in boxes.
        boxes: by the number of a frame, its boxes; frames without an entry have nobody in them.
        detector: takes an image and returns boxes ``[P, 4]``, or boxes and scores ``[P]``.
        detector_name: of it, in messages.
        track: follow people by their poses: a frame's boxes come from the poses of the last one.
        look_every: with ``track`` and a detector, frames from one look of the detector to the next, which finds who is
            new; 0 for a look only when nobody is left to follow. Given boxes are always used.
        smooth: steady the joints: one filter for each person, see
            :class:`~litehrnet_cuda.video.smoothing.OneEuroFilter`. True for its default settings.
        identify: number the people; done anyway with ``track`` or ``smooth``.
        min_score: of joints that are drawn.
    """

    def __init__(
        self,
        estimator: PoseEstimator,
        *,
        boxes: Callable[[int], ImageBoxes | None] | None = None,
        detector: Detector | None = None,
        detector_name: str = "detector",
        track: bool = False,
        look_every: int = 10,
        smooth: bool | Callable[[], OneEuroFilter] = False,
        identify: bool = False,
        min_score: float = SEEN,
    ) -> None:
        self.estimator = estimator
        self.min_score = min_score
        self._boxes = boxes
        self._detector = detector
        self._detector_name = detector_name
        self._track = track
        self._look_every = look_every
        self._new_filter = OneEuroFilter if smooth is True else smooth
        self._filters: dict[int, OneEuroFilter] = {}
        self._identities = Identities() if identify or track or smooth else None
        self._followed = Detections()
        self._since_look = 0

    def __call__(self, frame: Frame) -> FramePoses:
        """The people of the next frame.

        Raises:
            InputError: for a frame, boxes, or a detector that cannot be used, naming the frame.
        """
        try:
            return self._find(frame)
        except InputError as error:
            raise InputError(f"frame {frame.index}: {error}") from error

    def _find(self, frame: Frame) -> FramePoses:
        where = self._where(frame)
        if where is None:
            poses = self.estimator(frame.image)
        else:
            poses = self.estimator(frame.image, where.boxes, where.scores)
        if self._track:
            poses = _without_doubles(poses)
            self._followed = _boxes_around(poses, frame.image)
        if self._identities is None:
            return FramePoses(frame.index, frame.time, poses, None, self.min_score)
        numbers = self._identities(poses, frame.time)
        if self._new_filter:
            poses = self._smoothed(poses, numbers, frame.time)
        return FramePoses(frame.index, frame.time, poses, tuple(numbers), self.min_score)

    def _where(self, frame: Frame) -> Detections | None:
        """The boxes of people, or None for the whole frame."""
        given = self._boxes(frame.index) if self._boxes else None
        if given is not None:
            return _given(given)
        if self._track and len(self._followed):
            self._since_look += 1
            if not self._detector or not self._look_every or self._since_look < self._look_every:
                return self._followed
        if self._detector:
            self._since_look = 0
            return detect(self._detector, frame.image, self._detector_name)
        return None if self._boxes is None else Detections()

    def _smoothed(self, poses: KeyPoints, numbers: list[int], time: float) -> KeyPoints:
        assert self._identities is not None
        assert callable(self._new_filter)
        self._filters = {number: kept for number, kept in self._filters.items() if number in self._identities}
        keypoints = np.empty_like(poses.keypoints)
        for row, number in enumerate(numbers):
            steady = self._filters.setdefault(number, self._new_filter())
            left, top, right, bottom = poses.boxes[row].tolist()
            size = ((right - left) * (bottom - top)) ** 0.5
            keypoints[row] = steady(poses.keypoints[row], time, size, poses.scores[row] >= SEEN)
        return KeyPoints(keypoints, poses.scores, poses.boxes, poses.box_scores, poses.keypoint_set)


def estimate_video(
    source: str | Path | int, estimator: PoseEstimator, **options: Any
) -> Iterator[tuple[Frame, FramePoses]]:
    """Goes through a video and finds the poses in it.

    Example::

        for frame, found in estimate_video("street.mp4", estimator, detector=my_detector, smooth=True):
            cv2.imwrite(f"{frame.index:06}.jpg", found.draw(frame.image))

    Args:
        source: a file, camera or stream as :class:`~litehrnet_cuda.video.frames.VideoFrames` takes it. Of a camera or a
            stream, frames that come while the last one is worked on are passed over.
        estimator: finds the poses in boxes.
        options: as :class:`VideoPoseEstimator` takes them.

    Yields:
        each frame, with its poses.

    Raises:
        InputError: for a source or option that cannot be used.
    """
    find = VideoPoseEstimator(estimator, **options)
    with VideoFrames(source) as frames, closing(ahead_of(frames)) as ready:
        for frame in ready:
            yield frame, find(frame)


def ahead_of(frames: VideoFrames) -> Any:
    """The frames, read by a thread: of a live source the newest one, of a file all."""
    return read_ahead(frames, 1 if frames.live else 4, newest=frames.live)


def _given(boxes: ImageBoxes) -> Detections:
    return Detections(np.array(boxes.boxes, np.float32).reshape(-1, 4), np.array(boxes.scores, np.float32))


def _without_doubles(poses: KeyPoints) -> KeyPoints:
    """The people without those who were followed into the pose of another."""
    if len(poses) < 2:
        return poses
    areas = np.prod(poses.boxes[:, 2:] - poses.boxes[:, :2], axis=1)
    kept = oks_nms(poses.keypoints, poses.person_scores, areas, poses.keypoint_set.sigmas, _DOUBLE)
    return poses[np.sort(kept)]


def _boxes_around(poses: KeyPoints, image: Array) -> Detections:
    """The boxes in which to look for people in the next frame; who is hardly seen is not followed."""
    height, width = image.shape[:2]
    boxes, scores = [], []
    for points, joints, box, score in zip(poses.keypoints, poses.scores, poses.boxes, poses.box_scores, strict=True):
        seen = points[joints >= SEEN]
        if len(seen) < max(2, _LEAST_SHARE * len(points)):
            continue
        low, high = seen.min(axis=0), seen.max(axis=0)
        sides = np.maximum((high - low) * (1 + 2 * _MARGIN), _SHRINKS_TO * (box[2:] - box[:2]))
        middle = (low + high) / 2
        if sides.max() < _LEAST_SIDE or not (0 <= middle[0] < width and 0 <= middle[1] < height):
            continue
        boxes.append([*(middle - sides / 2), *(middle + sides / 2)])
        scores.append(score)
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32))
