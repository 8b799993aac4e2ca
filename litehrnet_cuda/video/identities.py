"""Who is who from frame to frame: people are matched by their boxes and poses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from litehrnet_cuda.metrics.oks import oks
from litehrnet_cuda.results import KeyPoints

Array = np.ndarray[Any, Any]

LEAST_SIMILARITY = 0.3  # of boxes or of poses, for two to be of one person
PATIENCE = 1.0  # seconds for which somebody who is not found is remembered


@dataclass
class _Seen:
    person: KeyPoints  # one
    time: float


class Identities:
    """Gives people numbers that stay with them from frame to frame.

    The people of a frame are matched with those of the last frame and the last second: the most similar pair first,
    then the next of those that are left. Similarity is the sum of the overlap of the boxes (intersection over union)
    and of the likeness of the poses (object keypoint similarity), of which one has to reach 0.3: boxes tell people
    apart who move fast, poses those who stand close. Who matches nobody is new.
    """

    def __init__(self) -> None:
        self._seen: dict[int, _Seen] = {}
        self._time = 0.0  # of the last frame
        self._next = 1

    def __call__(self, people: KeyPoints, time: float) -> list[int]:
        """The numbers of the people of the next frame, from 1, each of them once.

        Args:
            people: P people.
            time: seconds.
        """
        oldest = min(time - PATIENCE, self._time)  # however long ago the last frame was
        self._seen = {number: seen for number, seen in self._seen.items() if seen.time >= oldest}
        self._time = time
        known = list(self._seen)
        similarity = np.zeros((len(people), len(known)))
        for column, number in enumerate(known):
            similarity[:, column] = _similarity(people, self._seen[number].person)
        numbers = [0] * len(people)
        while similarity.size and (best := similarity.max()) > 0:
            row, column = (int(index) for index in np.argwhere(similarity == best)[0])
            numbers[row] = known[column]
            similarity[row], similarity[:, column] = 0, 0
        for row in range(len(people)):
            if not numbers[row]:
                numbers[row], self._next = self._next, self._next + 1
            self._seen[numbers[row]] = _Seen(people[row], time)
        return numbers

    def __contains__(self, number: int) -> bool:
        """Whether somebody is remembered."""
        return number in self._seen


def _similarity(people: KeyPoints, one: KeyPoints) -> Array:
    """``[P]`` from 0, which stands for somebody else, to 2."""
    areas = [np.prod(of.boxes[:, 2:] - of.boxes[:, :2], axis=1) for of in (people, one)]
    overlap = intersection_over_union(people.boxes, one.boxes)[:, 0]
    likeness = oks(people.keypoints, areas[0], one.keypoints, areas[1], people.keypoint_set.sigmas)[:, 0]
    return np.where(np.maximum(overlap, likeness) >= LEAST_SIMILARITY, overlap + likeness, 0)


def intersection_over_union(boxes: Array, others: Array) -> Array:
    """``[P, M]`` float64 of boxes ``[P, 4]`` and ``[M, 4]`` (left, top, right, bottom)."""
    first, second = np.asarray(boxes, np.float64)[:, None], np.asarray(others, np.float64)[None]
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    shared = np.prod(np.maximum(sides, 0), axis=-1)
    areas = [np.prod(of[..., 2:] - of[..., :2], axis=-1) for of in (first, second)]
    return np.asarray(shared / np.maximum(areas[0] + areas[1] - shared, 1e-12))
