"""A drawn scene: repeatable, true to what is drawn, and varied."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from litehrnet_cuda.data.generated.clothes import CATEGORIES
from litehrnet_cuda.data.generated.scene import Scene, generate_scene
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import COCO

COUNT = 150


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [generate_scene(11, i) for i in range(COUNT)]


@pytest.fixture(scope="module")
def people(scenes: list[Scene]) -> list[dict[str, Any]]:
    return [annotation for scene in scenes for annotation in scene.annotations]


def flags_of(annotation: dict[str, Any]) -> np.ndarray:
    return np.array(annotation["keypoints"]).reshape(17, 3)[:, 2].astype(int)


def decoded(annotation: dict[str, Any]) -> np.ndarray:
    with warnings.catch_warnings():
        # pycocotools' array class does not know NumPy 2's `copy` keyword.
        warnings.simplefilter("ignore", DeprecationWarning)
        return np.asarray(coco_mask.decode(annotation["segmentation"]))


def test_a_scene_depends_on_seed_and_index_alone(scenes: list[Scene]) -> None:
    for index in (90, 3):
        again = generate_scene(11, index)
        assert np.array_equal(again.image, scenes[index].image)
        assert np.array_equal(again.mask, scenes[index].mask)
        assert again.annotations == scenes[index].annotations
    assert not np.array_equal(generate_scene(12, 3).image, scenes[3].image)
    assert not np.array_equal(scenes[4].image, scenes[3].image)


@pytest.mark.parametrize("size", [(320, 240), (97, 131), (384, 288)])
def test_size_and_types(size: tuple[int, int]) -> None:
    scene = generate_scene((1, 2), 0, size=size)
    assert scene.image.shape == (size[1], size[0], 3)
    assert scene.mask.shape == (size[1], size[0])
    assert scene.image.dtype == scene.mask.dtype == np.uint8


def test_number_of_people() -> None:
    assert generate_scene(0, 0, people=(0, 0)).annotations == []
    assert not generate_scene(0, 0, people=(0, 0)).mask.any()
    # Someone may be wholly hidden, so four is the most, not the rule.
    assert max(len(generate_scene(0, i, people=(4, 4)).annotations) for i in range(5)) == 4


def test_masks_areas_and_boxes_agree(scenes: list[Scene]) -> None:
    for scene in scenes:
        together = np.zeros(scene.mask.shape, int)
        for annotation in scene.annotations:
            mask = decoded(annotation)
            assert mask.sum() == annotation["area"] > 0
            x, y, w, h = annotation["bbox"]
            rows, columns = np.nonzero(mask)
            # The box holds the whole figure, so it contains the seen part and lies inside of the image.
            assert 0 <= x <= columns.min() <= columns.max() < x + w <= scene.mask.shape[1]
            assert 0 <= y <= rows.min() <= rows.max() < y + h <= scene.mask.shape[0]
            together += mask
        assert together.max(initial=0) <= 1, "a pixel belongs to one person at most"
        assert np.array_equal(together > 0, scene.mask > 0)
        assert scene.mask.max(initial=0) < len(CATEGORIES)


def test_box_of_a_person_alone_is_tight() -> None:
    checked = 0
    for i in range(60):
        scene = generate_scene(5, i, people=(1, 1))
        for annotation in scene.annotations:
            rows, columns = np.nonzero(decoded(annotation))
            seen = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
            checked += seen == annotation["bbox"]
    # Objects stand in front of about one person in six and cut some of them at the rim; all others are exact.
    assert checked >= 45


def test_visibility_flags_are_true(scenes: list[Scene]) -> None:
    for scene in scenes:
        height, width = scene.mask.shape
        for annotation in scene.annotations:
            keypoints = np.array(annotation["keypoints"]).reshape(17, 3)
            mask = decoded(annotation)
            assert annotation["num_keypoints"] == np.count_nonzero(keypoints[:, 2])
            for x, y, flag in keypoints:
                assert flag in (0, 1, 2)
                if flag == 0:
                    assert x == y == 0
                else:
                    column, row = int(np.rint(x)), int(np.rint(y))
                    assert 0 <= column < width
                    assert 0 <= row < height
                    assert flag == 1 or mask[row, column], "what is seen of a person lies on the person"


def test_left_is_on_the_right_of_a_person_who_faces_the_camera(people: list[dict[str, Any]]) -> None:
    pairs = [(COCO.names.index(f"left_{joint}"), COCO.names.index(f"right_{joint}")) for joint in ("shoulder", "ear")]
    facing = away = 0
    for annotation in people:
        keypoints = np.array(annotation["keypoints"]).reshape(17, 3)
        for left, right in pairs:
            if keypoints[[left, right], 2].min() == 0:
                continue
            if abs(annotation["yaw"]) < 30:
                facing += 1
                assert keypoints[left, 0] > keypoints[right, 0]
            elif abs(annotation["yaw"]) > 150:
                away += 1
                assert keypoints[left, 0] < keypoints[right, 0]
    assert facing > 50
    assert away > 5


def test_the_face_is_seen_from_the_front_only(people: list[dict[str, Any]]) -> None:
    front = [flags_of(a)[0] for a in people if abs(a["yaw"]) < 40]
    behind = [flags_of(a)[0] for a in people if abs(a["yaw"]) > 150]
    assert np.mean(np.array(front) == 2) > 0.75
    assert not np.any(np.array(behind) == 2)


def test_variety(scenes: list[Scene], people: list[dict[str, Any]]) -> None:
    counts = np.bincount([len(scene.annotations) for scene in scenes], minlength=5)
    assert counts[1:5].min() > 0
    assert counts[0] < 0.02 * COUNT
    yaw = np.abs([a["yaw"] for a in people])
    assert 0.6 < np.mean(yaw < 60) < 0.95
    assert np.any((yaw > 60) & (yaw < 120))
    assert np.any(yaw > 140)
    assert len({a["pose"] for a in people}) >= 6
    flags = np.concatenate([flags_of(a) for a in people])
    seen, hidden, outside = (np.mean(flags == flag) for flag in (2, 1, 0))
    assert 0.6 < seen < 0.92
    assert 0.06 < hidden < 0.35
    assert 0.002 < outside < 0.12
    heights = np.array([a["bbox"][3] for a in people])
    assert np.mean((heights >= 90) & (heights <= 225)) > 0.8


def test_images_are_neither_flat_nor_burnt(scenes: list[Scene]) -> None:
    means = np.array([scene.image.mean() for scene in scenes])
    spreads = np.array([scene.image.std() for scene in scenes])
    clipped = np.array([np.mean((scene.image == 0) | (scene.image == 255)) for scene in scenes])
    assert 80 < means.mean() < 170
    assert means.std() > 10
    assert spreads.min() > 10
    assert np.median(clipped) < 0.05


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1, "index": 0}, "seed, index: expected whole numbers of 0 or more, got seed=-1, index=0"),
        ({"seed": (3, -1), "index": 0}, r"got seed=\(3, -1\)"),
        ({"seed": 0, "index": -2}, "index=-2"),
        (
            {"seed": 0, "index": 0, "size": (320, 63)},
            "size: expected .* at least 64 pixels, got 320 x 63",
        ),
        ({"seed": 0, "index": 0, "people": (2, 1)}, r"people: .*got \(2, 1\)"),
        ({"seed": 0, "index": 0, "people": (0, 5)}, r"<= most <= 4, got \(0, 5\)"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        generate_scene(**arguments)
