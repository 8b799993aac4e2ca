"""Which prediction belongs to which annotated person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from litehrnet_cuda.data.annotations import Person, PoseAnnotations
from litehrnet_cuda.metrics.coco import PredictedPose
from litehrnet_cuda.metrics.oks import oks


@dataclass(frozen=True)
class Match:
    """An annotated person, the pose that was found for them, and how similar it is: 0 to 1.

    The similarity is OKS over the annotated joints with the area of the person's box, which every data set has, in
    place of the outline's. It is good for an order; COCO's own is somewhat lower.
    """

    person: Person
    pose: PredictedPose
    similarity: float


def match_people(poses: Sequence[PredictedPose], annotations: PoseAnnotations) -> list[Match]:
    """Pairs of people and poses, in the order of the people.

    A pose found in an annotated box belongs to that person. Those of a detector's boxes are given away by similarity,
    the greatest first, each to one person of the image at most; people for whom none is left are not in the list.
    """
    sigmas = annotations.keypoint_set.sigmas
    by_id: dict[int | None, PredictedPose] = {}
    detected: dict[int, list[PredictedPose]] = {}
    for pose in poses:
        if pose.annotation_id is not None:
            by_id[pose.annotation_id] = pose
        else:
            detected.setdefault(pose.image_id, []).append(pose)
    people: dict[int, list[Person]] = {}
    for person in annotations.people:
        people.setdefault(person.image_id, []).append(person)

    matches: dict[int | None, Match] = {}
    for image_id, of_image in people.items():
        free = detected.get(image_id, [])
        candidates = []
        for person in of_image:
            own = by_id.get(person.annotation_id)
            for pose, similarity in _similarities(free if own is None else [own], person, sigmas):
                candidates.append((similarity, person, pose))
        taken: set[int] = set()
        for similarity, person, pose in sorted(candidates, key=lambda candidate: -candidate[0]):
            if person.annotation_id not in matches and id(pose) not in taken:
                taken.add(id(pose))
                matches[person.annotation_id] = Match(person, pose, similarity)
    return [matches[person.annotation_id] for person in annotations.people if person.annotation_id in matches]


def _similarities(
    poses: Sequence[PredictedPose], person: Person, sigmas: Sequence[float]
) -> list[tuple[PredictedPose, float]]:
    if not poses:
        return []
    area = np.prod(person.box[2:].astype(np.float64) - person.box[:2])
    keypoints = np.stack([pose.keypoints for pose in poses])
    values = oks(
        *(keypoints, np.full(len(poses), area), person.keypoints[None], np.array([area]), sigmas),
        joint_scores=np.ones(keypoints.shape[:2]),
        other_joint_scores=person.visible[None],
        joint_threshold=0.5,
    )
    return [(pose, float(value)) for pose, value in zip(poses, values[:, 0], strict=True)]
