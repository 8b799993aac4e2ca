"""Pictures of what a network has learnt."""

from __future__ import annotations

from typing import Any

import numpy as np

from litehrnet_cuda.data.coco import CocoKeypoints
from litehrnet_cuda.predictors import PoseEstimator
from litehrnet_cuda.results import KeyPoints
from litehrnet_cuda.visualize import contact_sheet

Array = np.ndarray[Any, Any]


def truth(annotations: CocoKeypoints, image_id: int) -> KeyPoints:
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


def predictions_beside_truth(estimator: PoseEstimator, annotations: CocoKeypoints, count: int = 8) -> Array:
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
        pictures, titles, heading="Truth and prediction on unseen people (blue: their left, orange: their right)"
    )
