"""The result objects: they check their input, select and draw, and survive the way to files and back."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from litehrnet_cuda.classes import CITYSCAPES, PERSON
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import MPII, KeypointSet
from litehrnet_cuda.results import KeyPoints, Segmentation


def arrays(people: int = 3, joints: int = 17) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 100, (people, 2))
    return {
        "keypoints": rng.uniform(0, 200, (people, joints, 2)),
        "scores": rng.uniform(0, 1, (people, joints)),
        "boxes": np.concatenate([corners, corners + rng.uniform(10, 90, (people, 2))], axis=1),
        "box_scores": rng.uniform(0, 1, people),
    }


def same(a: KeyPoints, b: KeyPoints) -> bool:
    names = ("keypoints", "scores", "boxes", "box_scores")
    return a.keypoint_set == b.keypoint_set and all(np.array_equal(getattr(a, n), getattr(b, n)) for n in names)


def test_converts_copies_and_freezes() -> None:
    given = arrays()
    result = KeyPoints(**given)
    assert len(result) == 3
    assert all(getattr(result, name).dtype == np.float32 for name in given)
    given["keypoints"][0] = -1
    assert result.keypoints.min() >= 0
    with pytest.raises(ValueError, match="read-only"):
        result.scores[0, 0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.scores = given["scores"]  # type: ignore[misc]


def test_nobody() -> None:
    for result in (KeyPoints.empty(), KeyPoints([], [], [], [])):  # type: ignore[arg-type]
        assert len(result) == 0
        assert result.keypoints.shape == (0, 17, 2)
        assert result.person_scores.shape == (0,)
        assert result.to_coco(1) == []
        assert same(KeyPoints.from_json(result.to_json()), result)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("keypoints", np.zeros((3, 16, 2)), r"keypoints: expected shape \[P, K, 2\] = \[3, 17, 2\].*got \[3, 16, 2\]"),
        ("scores", np.zeros((2, 17)), r"scores: expected shape \[P, K\] = \[3, 17\]"),
        ("boxes", np.zeros((3, 5)), r"boxes: expected shape \[P, 4\] = \[3, 4\]"),
        ("box_scores", np.zeros((3, 1)), r"box_scores: expected shape \[P\] = \[3\]"),
        (
            "boxes",
            [[0, 0, 9, 9], [5, 0, 5, 9], [0, 0, 9, 9]],
            r"x1 < x2 and y1 < y2, got \[5.0, 0.0, 5.0, 9.0\] in row 1",
        ),
        ("scores", np.full((3, 17), np.nan), "scores: expected finite numbers, got NaN"),
        ("box_scores", ["a", "b", "c"], "box_scores: expected numbers"),
        ("keypoints", 3.0, "keypoints: expected shape"),
    ],
)
def test_bad_input(name: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        KeyPoints(**(arrays() | {name: value}))


def test_selection() -> None:
    result = KeyPoints(**arrays())
    assert np.array_equal(result[1].keypoints, result.keypoints[1:2])
    assert np.array_equal(result[-1].boxes, result.boxes[2:])
    assert len(result[1:]) == 2
    assert len(result[[]]) == 0
    assert np.array_equal(result[[2, 0]].box_scores, result.box_scores[[2, 0]])
    assert np.array_equal(result[np.array([True, False, True])].scores, result.scores[[0, 2]])
    assert len(list(result)) == 3
    with pytest.raises(IndexError):
        result[3]


def test_person_scores_follow_the_official_rescoring() -> None:
    given = arrays(2)
    given["scores"][:] = 0.1
    given["scores"][0, :3] = 0.5, 0.9, 0.2  # 0.2 itself does not count
    given["box_scores"][:] = 0.5, 0.9
    # float32 of (0.5 + 0.9) / 2 * 0.5
    assert KeyPoints(**given).person_scores == pytest.approx([0.35, 0.0], rel=1e-6)


def test_coco_entries() -> None:
    result = KeyPoints(**arrays())
    entries = result.to_coco(42)
    assert [entry["image_id"] for entry in entries] == [42] * 3
    triples = np.array(entries[1]["keypoints"]).reshape(17, 3)
    assert np.array_equal(triples[:, :2], result.keypoints[1])
    assert np.array_equal(triples[:, 2], result.scores[1])
    assert entries[1]["score"] == result.person_scores[1]


def test_json_restores_every_bit(tmp_path: Path) -> None:
    result = KeyPoints(**arrays(joints=16), keypoint_set=MPII)
    text = result.to_json(tmp_path / "result.json")
    assert same(KeyPoints.from_json(text), result)
    assert same(KeyPoints.from_json(tmp_path / "result.json"), result)


def test_json_with_joints_of_ones_own() -> None:
    pair = KeypointSet("pair", ("left_end", "right_end"), ((0, 1),), (0.1, 0.1))
    result = KeyPoints(**arrays(joints=2), keypoint_set=pair)
    assert same(KeyPoints.from_json(result.to_json(), pair), result)
    with pytest.raises(InputError, match="no 'pair'"):
        KeyPoints.from_json(result.to_json())


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"keypoint_set": "coco"}', '{"keypoint_set": "coco", "people": [{}]}']
)
def test_json_that_is_something_else(text: str) -> None:
    with pytest.raises(InputError, match="source: expected JSON"):
        KeyPoints.from_json(text)


def test_draw_leaves_the_image_as_it_is() -> None:
    image = np.zeros((200, 220, 3), np.uint8)
    drawn = KeyPoints(**arrays()).draw(image)
    assert drawn.any()
    assert not image.any()


# ---------------------------------------------------------------------------------------------------- segmentation

QUARTERS = np.array([[0, 0, 1, 1], [0, 0, 255, 1]])


def test_labels_are_copied_bytes() -> None:
    labels = QUARTERS.copy()
    segmentation = Segmentation(labels, PERSON)
    labels[:] = 0
    assert segmentation.labels.dtype == np.uint8
    np.testing.assert_array_equal(segmentation.labels, QUARTERS)
    assert not segmentation.labels.flags.writeable


def test_coverage_is_the_share_of_every_class() -> None:
    assert Segmentation(QUARTERS, PERSON).coverage() == {"background": 4 / 8, "person": 3 / 8}
    shares = Segmentation(np.full((3, 5), 255), CITYSCAPES).coverage()
    assert list(shares) == list(CITYSCAPES.names)
    assert set(shares.values()) == {0.0}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((2, 3, 1), int), r"whole numbers of shape \[H, W\], .* got int64 of shape \[2, 3, 1\]"),
        (np.zeros((2, 3)), "got float64"),
        (np.zeros((0, 3), int), r"at least one, got int64 of shape \[0, 3\]"),
        (np.array([[0, 2]]), r"expected 0 to 1, the classes of 'person', or 255, got 2"),
        (np.array([[0, -1]]), "got -1"),
        (np.array([[0, 256]]), "got 256"),  # which would be 0 as a byte
    ],
)
def test_labels_that_are_none(labels: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"labels: .*{message}"):
        Segmentation(labels, PERSON)


def test_saved_labels_are_the_values_of_a_grey_picture(tmp_path: Path) -> None:
    path = Segmentation(QUARTERS, PERSON).save(tmp_path / "new" / "labels.png")
    read = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, QUARTERS)
    with pytest.raises(InputError, match=r"ends in \.png, got labels\.jpg"):
        Segmentation(QUARTERS, PERSON).save(tmp_path / "labels.jpg")


def test_drawn_classes_have_the_colours_of_the_set() -> None:
    image = np.full((20, 30, 3), 100, np.uint8)
    labels = np.zeros((20, 30), int)
    labels[:, 10:20], labels[:, 20:] = 13, 255
    drawn = Segmentation(labels, CITYSCAPES).draw(image, opacity=1)
    np.testing.assert_array_equal(drawn[10, 5], (128, 64, 128))  # road; the colours of inner pixels, not of outlines
    np.testing.assert_array_equal(drawn[10, 15], (142, 0, 0))  # a car is dark blue
    np.testing.assert_array_equal(drawn[10, 25], (100, 100, 100))  # what has no class stays
    person = Segmentation((labels == 13).astype(int), PERSON).draw(image)
    np.testing.assert_array_equal(person[:, :10], image[:, :10])
    assert not np.array_equal(person[10, 15], image[10, 15])


def test_a_legend_names_what_is_there() -> None:
    image = np.full((60, 200, 3), 100, np.uint8)
    labels = np.zeros((60, 200), int)
    labels[20:40, 50:90], labels[:5] = 1, 255
    segmentation = Segmentation(labels, PERSON)
    with_legend = segmentation.draw(image, legend=True)
    np.testing.assert_array_equal(with_legend[:60], segmentation.draw(image))
    strip = with_legend[60:]
    assert len(strip) > 10
    assert (strip == PERSON.colors[1]).all(axis=2).sum() > 50
    nobody = Segmentation(np.zeros((60, 200), int), PERSON).draw(image, legend=True)
    np.testing.assert_array_equal(nobody, image)
