"""Poses on images: what is drawn, where, and in which colour."""

from __future__ import annotations

import numpy as np
import pytest
from pixel_colors import has

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import COCO
from litehrnet_cuda.results import KeyPoints
from litehrnet_cuda.visualize import (
    CENTER,
    LEFT,
    RIGHT,
    draw_poses,
)


def person(scores: float = 1.0, scale: float = 1.0) -> KeyPoints:
    """Someone who faces the camera with the left side at larger x, in a box of 100 x 200 times scale."""
    places = {
        "nose": (60, 30), "eye": (66, 26), "ear": (72, 30), "shoulder": (90, 60), "elbow": (98, 95),
        "wrist": (100, 130), "hip": (78, 130), "knee": (80, 170), "ankle": (82, 205),
    }  # fmt: skip
    points = []
    for name in COCO.names:
        side, _, joint = name.partition("_")
        x, y = places[joint or "nose"]
        points.append((120 - x if side == "right" else x, y))
    keypoints = np.array([points], float) * scale
    box = np.array([[10, 10, 110, 210]]) * scale
    return KeyPoints(keypoints, np.full((1, 17), scores), box, np.ones(1))


def test_sides_have_their_colours() -> None:
    drawn = draw_poses(np.full((220, 120, 3), 127, np.uint8), person())
    assert np.nonzero(has(drawn, LEFT))[1].min() > 60 - 5
    assert np.nonzero(has(drawn, RIGHT))[1].max() < 60 + 5
    assert has(drawn, CENTER)[60].any(), "the line between the shoulders"
    knee = person().keypoints[0, COCO.names.index("left_knee")].astype(int)
    assert tuple(drawn[knee[1], knee[0]]) == LEFT


def test_faint_joints_are_left_out() -> None:
    image = np.full((220, 120, 3), 127, np.uint8)
    assert np.array_equal(draw_poses(image, person(0.1)), image)
    assert not np.array_equal(draw_poses(image, person(0.1), min_score=0.05), image)
    assert np.array_equal(draw_poses(image, KeyPoints.empty()), image)


def test_lines_grow_with_the_person() -> None:
    shares = []
    for scale in (1.0, 4.0):
        image = np.full((int(220 * scale), int(120 * scale), 3), 127, np.uint8)
        shares.append(np.mean(draw_poses(image, person(scale=scale)) != image))
    # A constant share of the picture means widths in proportion; outlines of one pixel make it fall a little.
    assert 0.5 < shares[1] / shares[0] <= 1.1


def test_boxes_grey_images_and_joints_far_outside() -> None:
    grey = np.full((220, 120), 127, np.uint8)
    plain, boxed = draw_poses(grey, person()), draw_poses(grey, person(), boxes=True)
    assert plain.shape == (220, 120, 3)
    assert tuple(plain[150, 10]) == (127, 127, 127)
    assert tuple(boxed[150, 10]) != (127, 127, 127)
    far = person()
    moved = KeyPoints(far.keypoints * 1e6, far.scores, far.boxes, far.box_scores)
    assert draw_poses(grey, moved).shape == (220, 120, 3)


def test_labels_are_above_people_and_inside_of_the_image() -> None:
    image = np.full((220, 120, 3), 127, np.uint8)
    plain, labelled = draw_poses(image, person()), draw_poses(image, person(), labels=["7"])
    rows, columns = np.nonzero((plain != labelled).any(axis=2))
    assert rows.max() < 30, "above the nose"
    assert 40 < columns.mean() < 80
    assert np.array_equal(draw_poses(image, person(0.1), labels=["7"]), image), "nothing is seen of the person"
    assert not np.array_equal(
        draw_poses(image, person(), boxes=True, labels=["7"]), draw_poses(image, person(), boxes=True)
    )
    far = person()
    far = KeyPoints(far.keypoints * 1e6, far.scores, far.boxes, far.box_scores)
    assert (draw_poses(image, far, labels=["7"])[-30:, -30:] == 235).any(), "moved into the image"
    with pytest.raises(InputError, match="labels: expected 1, one for each person, got 2"):
        draw_poses(image, person(), labels=["1", "2"])
