"""What all readers of annotations have in common; test_coco.py and test_mpii.py read files."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from litehrnet_cuda.data.annotations import ImageEntry, Person, PoseAnnotations, Problem, in_order_of_images
from litehrnet_cuda.data.coco import CocoKeypoints
from litehrnet_cuda.data.json_fields import DataError
from litehrnet_cuda.keypoints import KeypointSet

TWO = KeypointSet(name="two", names=("left", "right"), flip_pairs=((0, 1),), sigmas=(0.05, 0.05))


def person(image_id: int, annotation_id: int) -> Person:
    return Person(image_id, np.zeros(4), 1.0, annotation_id, np.zeros((2, 2)), np.ones(2))


def test_people_of_an_image_come_in_sequence() -> None:
    people = [person(2, 10), person(1, 11), person(2, 12)]
    assert [found.annotation_id for found in in_order_of_images(people, [1, 2, 3])] == [11, 10, 12]


@pytest.fixture
def annotations(tmp_path: Path) -> PoseAnnotations:
    """One image of 40 x 30 pixels whose size the annotations know, and one of which they don't."""
    result = PoseAnnotations(tmp_path / "people.json", tmp_path, TWO)
    result.images = {1: ImageEntry(1, tmp_path / "a.jpg", 40, 30), 2: ImageEntry(2, tmp_path / "b.jpg", 0, 0)}
    result.people = []
    for name in ("a.jpg", "b.jpg"):
        noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
        cv2.imwrite(str(tmp_path / name), noise)
    return result


def test_memory_of_decoded_images(annotations: PoseAnnotations) -> None:
    assert annotations.decoded_bytes == 4 * (40 * 30 + 1920 * 1080)


def test_an_unknown_size_fits_every_image(annotations: PoseAnnotations) -> None:
    assert annotations.read_image(2).shape == (30, 40, 3)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("the image is missing", r"a\.jpg: image 1 of people\.json is missing; check the image folder"),
        ("the image cannot be decoded", r"a\.jpg: expected a whole image, got a JPEG file that ends early"),
        ("the image has another size than annotated", r"a\.jpg: expected 40 x 30 pixels as people\.json says"),
    ],
)
def test_each_bad_image_has_its_kind(annotations: PoseAnnotations, kind: str, message: str) -> None:
    file = annotations.images[1].path
    if "missing" in kind:
        file.unlink()
    elif "decoded" in kind:
        file.write_bytes(file.read_bytes()[:-100])
    else:
        cv2.imwrite(str(file), np.zeros((31, 40, 3), np.uint8))
    with pytest.raises(DataError, match=message) as caught:
        annotations.read_image(1)
    assert caught.value.kind == kind


@pytest.fixture
def pairs(tmp_path: Path) -> CocoKeypoints:
    return read_all(tmp_path, content(entry(id=1), entry(id=2)))[0]


def test_annotations_without_some_images_are_a_copy(pairs: CocoKeypoints) -> None:
    pairs.images[4] = ImageEntry(4, pairs.image_dir / "b.png", 40, 30)
    pairs.people.append(replace(pairs.people[0], image_id=4, annotation_id=9))
    rest = pairs.without_images({3})
    assert isinstance(rest, CocoKeypoints)
    assert list(rest.images) == [4]
    assert [found.annotation_id for found in rest.people] == [9]
    assert (len(pairs.images), len(pairs.people)) == (2, 3)
    assert pairs.without_images(()) is pairs


def test_a_digest_tells_annotations_apart_wherever_they_lie(pairs: CocoKeypoints, tmp_path: Path) -> None:
    (tmp_path / "moved").mkdir()
    assert read_all(tmp_path / "moved", content(entry(id=1), entry(id=2)))[0].digest == pairs.digest
    assert re.fullmatch(r"2 people with 2 joints in 1 images, [0-9a-f]{16}", pairs.digest)
    first = pairs.people[0]
    digests = {pairs.digest}
    for other in (
        replace(first, box=first.box + 1),
        replace(first, keypoints=first.keypoints[::-1]),
        replace(first, visible=first.visible * 0),
        replace(first, head_size=3.0),
        replace(first, annotation_id=7),
    ):
        digests.add(changed(pairs, people=[other, *pairs.people[1:]]).digest)
    digests.add(changed(pairs, people=pairs.people[:1]).digest)
    digests.add(changed(pairs, images={3: replace(pairs.images[3], path=pairs.image_dir / "c.png")}).digest)
    digests.add(changed(pairs, keypoint_set=replace(TWO, flip_pairs=())).digest)
    assert len(digests) == 9


def changed(annotations: CocoKeypoints, **fields: Any) -> CocoKeypoints:
    other = copy.copy(annotations)
    other.__dict__.update(fields)
    return other


# ---------------------------------------------------------------------------------------------------- collecting


def read_all(tmp_path: Path, content: Any) -> tuple[CocoKeypoints, list[Problem]]:
    file, problems = tmp_path / "people.json", []
    file.write_text(json.dumps(content))
    return CocoKeypoints(file, tmp_path, TWO, on_problem=problems.append), problems


def entry(**fields: Any) -> dict[str, Any]:
    base = {"id": 11, "image_id": 3, "category_id": 1, "bbox": [4, 5, 20, 25], "area": 400, "iscrowd": 0}
    return base | {"keypoints": [8, 9, 2, 20, 25, 1]} | fields


def content(*people: dict[str, Any]) -> dict[str, Any]:
    return {
        "images": [{"id": 3, "file_name": "a.png", "width": 40, "height": 30}],
        "categories": [{"id": 1, "name": "pair", "keypoints": ["left", "right"]}],
        "annotations": list(people),
    }


def test_all_mistakes_are_collected_and_the_rest_is_read(tmp_path: Path) -> None:
    broken = entry(id=2, image_id=9, bbox=[1, 2, 3], keypoints="none", area=None, iscrowd="no")
    other = entry(id=4, category_id=5)
    annotations, problems = read_all(tmp_path, content(entry(id=1), broken, entry(id=1), None, entry(id=3), other))
    assert [found.annotation_id for found in annotations.people] == [1, 3]
    assert all(problem.is_error for problem in problems)
    assert [problem.kind for problem in problems] == [
        "image_id is of no image",
        "keypoints is not 6 numbers (x, y, visibility of 2 joints)",
        "bbox is not 4 finite numbers (left, top, width, height)",
        "area is not a finite number",
        "iscrowd is not a whole number",
        "an id appears twice",
        "not an object",
        "category_id is of no category",
    ]
    assert all(problem.message.startswith(str(tmp_path / "people.json")) for problem in problems)


@pytest.mark.parametrize(
    ("fields", "kind", "is_error"),
    [
        ({"bbox": [4, 5, 0, 25]}, "the box is empty", True),
        ({"bbox": [50, 5, 10, 10]}, "the box lies outside of its image", True),
        ({"bbox": [30, 5, 15, 10]}, "the box reaches beyond its image", False),
        ({"keypoints": [8, 9, 2, 60, 25, 1]}, "a joint lies outside of its image", False),
        ({"keypoints": [0, 0, 0, 0, 0, 0]}, "no joint is annotated", False),
        ({"keypoints": [8, 9, 3, 20, 25, 1]}, "visibility is not 0, 1 or 2", True),
        ({"area": 0}, "area is not positive", True),
    ],
)
def test_what_is_odd_is_told_only_to_whoever_asks(
    fields: dict[str, Any], kind: str, is_error: bool, tmp_path: Path
) -> None:
    odd = content(entry(**fields))
    _, problems = read_all(tmp_path, odd)
    assert [(problem.kind, problem.is_error) for problem in problems] == [(kind, is_error)]
    assert "annotation 11: " in problems[0].message
    CocoKeypoints(tmp_path / "people.json", tmp_path, TWO)  # reads it


def test_a_joint_outside_that_is_not_annotated_is_nothing(tmp_path: Path) -> None:
    _, problems = read_all(tmp_path, content(entry(keypoints=[8, 9, 2, -5, 99, 0]), entry(id=12, bbox=[-1, 0, 42, 30])))
    assert problems == []


def test_a_missing_area_and_other_names_are_told(tmp_path: Path) -> None:
    without = entry()
    del without["area"]
    renamed = content(without)
    renamed["categories"][0]["keypoints"] = ["right", "Right"]
    annotations, problems = read_all(tmp_path, renamed)
    assert [problem.kind for problem in problems] == ["joints have other names than expected", "area is missing"]
    assert "category 1: expected 'left' as joint 0, got 'right'" in problems[0].message
    assert len(annotations.people) == 1


def test_a_missing_folder_is_one_problem(tmp_path: Path) -> None:
    file, problems = tmp_path / "people.json", []
    file.write_text(json.dumps(content(entry())))
    annotations = CocoKeypoints(file, tmp_path / "absent", TWO, on_problem=problems.append)
    assert [problem.kind for problem in problems] == ["the folder of the images is missing"]
    assert len(annotations.people) == 1
