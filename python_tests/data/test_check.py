"""Checking a data set: every mistake that is planted is found, and nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from litehrnet_cuda.data.annotations import Person, PoseAnnotations, Problem
from litehrnet_cuda.data.check import SplitReport, by_kind, check_flip_pairs, check_splits, summarize
from litehrnet_cuda.data.coco import CocoKeypoints
from litehrnet_cuda.data.datasets import Split
from litehrnet_cuda.keypoints import COCO, KeypointSet

Check = Callable[..., dict[str, SplitReport]]


def silent(name: str, count: int) -> None:
    pass


@pytest.fixture
def check(coco_folder: Path, tmp_path: Path) -> Check:
    """Changes a copy of the drawn people and checks it; ``change`` gets the content of the file and the images."""

    def run(change: Callable[[dict[str, Any], Path], None], **options: Any) -> dict[str, SplitReport]:
        images = tmp_path / "val"
        shutil.copytree(coco_folder / "val", images)
        content = json.loads((coco_folder / "annotations" / "person_keypoints_val.json").read_text())
        change(content, images)
        file = tmp_path / "people.json"
        file.write_text(json.dumps(content))
        return check_splits({"val": Split(file, images)}, progress=options.pop("progress", silent), **options)

    return run


def found(reports: dict[str, SplitReport]) -> list[tuple[str, bool]]:
    return [(problem.kind, problem.is_error) for problem in reports["val"].problems]


def image_file(content: dict[str, Any], images: Path) -> Path:
    return images / content["images"][0]["file_name"]


def test_good_data_have_no_problems(check: Check) -> None:
    seen = []
    reports = check(lambda content, images: None, progress=lambda name, count: seen.append((name, count)))
    assert found(reports) == []
    assert reports["val"].errors == 0
    assert seen == [("val", 4), *[("val", 0)] * 4]


def remove(content: dict[str, Any], images: Path) -> None:
    image_file(content, images).unlink()


def cut(content: dict[str, Any], images: Path) -> None:
    file = image_file(content, images)
    file.write_bytes(file.read_bytes()[:-500])


def resize(content: dict[str, Any], images: Path) -> None:
    cv2.imwrite(str(image_file(content, images)), np.zeros((50, 60, 3), np.uint8))


def copy_picture(content: dict[str, Any], images: Path) -> None:
    shutil.copy(images / content["images"][1]["file_name"], image_file(content, images))


def share_file(content: dict[str, Any], images: Path) -> None:
    content["images"].append(content["images"][0] | {"id": 99})


def copy_person(content: dict[str, Any], images: Path) -> None:
    content["annotations"].append(content["annotations"][0] | {"id": 999})


def remove_people(content: dict[str, Any], images: Path) -> None:
    content["annotations"].clear()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (remove, [("the image is missing", True)]),
        (cut, [("the image cannot be decoded", True)]),
        (resize, [("the image has another size than annotated", True)]),
        (copy_picture, [("a picture appears twice", False)]),
        (share_file, [("a picture appears twice", False), *[("images share a file", False)] * 2]),
        (copy_person, [("a person appears twice", False)]),
        (remove_people, [("there is nobody", True)]),
    ],
)
@pytest.mark.parametrize("threads", [1, 3])
def test_each_problem_is_found(
    check: Check, change: Callable[[dict[str, Any], Path], None], expected: list[tuple[str, bool]], threads: int
) -> None:
    assert found(check(change, threads=threads)) == expected


def test_without_decoding_only_missing_images_are_found(check: Check) -> None:
    def harm(content: dict[str, Any], images: Path) -> None:
        remove(content, images)
        (images / content["images"][1]["file_name"]).write_bytes(b"")

    assert found(check(harm, decode=False)) == [("the image is missing", True)]


def test_many_mistakes_are_found_together(check: Check) -> None:
    def harm(content: dict[str, Any], images: Path) -> None:
        remove(content, images)
        content["annotations"][0]["bbox"] = [0, 0, -1, 2]
        content["annotations"][1]["image_id"] = 77

    reports = check(harm)
    assert {kind for kind, _ in found(reports)} == {
        "the box has a negative size",
        "image_id is of no image",
        "the image is missing",
    }
    groups = by_kind(
        [*reports["val"].problems, Problem("odd", "a", is_error=False), Problem("the image is missing", "b")]
    )
    assert [(kind, is_error, len(group)) for (kind, is_error), group in groups.items()] == [
        ("the box has a negative size", True, 1),
        ("image_id is of no image", True, 1),
        ("the image is missing", True, 2),
        ("odd", False, 1),
    ]


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"images": [\n}')
    splits = {"train": Split(tmp_path / "a.json", tmp_path), "val": Split(tmp_path / "absent.json", tmp_path)}
    reports = check_splits(splits, progress=silent)
    assert reports["train"].annotations is None
    assert "not valid JSON: Expecting value in line 2, column 1" in reports["train"].problems[0].message
    assert "absent.json: expected an annotation file" in reports["val"].problems[0].message
    assert reports["train"].errors == reports["val"].errors == 1


def test_pictures_in_both_parts_are_found(coco_folder: Path) -> None:
    split = Split(coco_folder / "annotations" / "person_keypoints_val.json", coco_folder / "val")
    reports = check_splits({"train": split, "val": split}, progress=silent)
    assert reports["train"].problems == []
    assert found(reports) == [("a picture is in two parts of the data", False)] * 4
    assert "image 1: the same picture is image 1 of train" in reports["val"].problems[0].message


def test_joints_outside_are_found_where_only_the_image_tells_its_size(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((80, 100, 3), np.uint8))
    joints = [[20, 30]] * 15
    person = {"image": "a.png", "center": [50, 40], "scale": 0.3, "joints_vis": [1] * 16}
    people = [person | {"joints": [[x, 30], *joints]} for x in (100, 120)]
    people.append(people[1] | {"joints_vis": [0, *[1] * 15]})
    (tmp_path / "mpii_train.json").write_text(json.dumps(people))
    reports = check_splits({"val": Split(tmp_path / "mpii_train.json", tmp_path)}, progress=silent)
    (problem,) = reports["val"].problems
    assert problem.kind == "a joint lies outside of its image"
    assert "person 1: right_ankle: expected a place in the image of 100 x 80 pixels, got 119, 29" in problem.message


def test_a_missing_folder_is_said_once(coco_folder: Path, tmp_path: Path) -> None:
    file = coco_folder / "annotations" / "person_keypoints_val.json"
    assert found(check_splits({"val": Split(file, tmp_path / "absent")}, progress=silent)) == [
        ("the folder of the images is missing", True)
    ]


# ---------------------------------------------------------------------------------------------------- left and right


def crowd(annotations: CocoKeypoints, swap: tuple[int, int] | None = None, share: float = 1.0) -> PoseAnnotations:
    """200 people with noise; of a share of them two joints are exchanged."""
    rng = np.random.default_rng(0)
    people: list[Person] = []
    for index in range(200):
        person = annotations.people[index % len(annotations.people)]
        points = person.keypoints + rng.normal(0, 1, (17, 2)).astype(np.float32)
        if swap and index < 200 * share:
            points[list(swap)] = points[list(swap)[::-1]]
        people.append(replace(person, keypoints=points, visible=np.ones(17, np.float32)))
    result = PoseAnnotations(annotations.annotation_file, annotations.image_dir, annotations.keypoint_set)
    result.images, result.people = annotations.images, people
    return result


@pytest.mark.parametrize("pair", COCO.flip_pairs)
def test_a_swapped_pair_is_found(people: CocoKeypoints, pair: tuple[int, int]) -> None:
    assert list(check_flip_pairs(crowd(people))) == []
    (problem,) = check_flip_pairs(crowd(people, pair))
    assert not problem.is_error
    assert problem.kind == "a flip pair looks swapped"
    assert f"{COCO.names[pair[0]]}, {COCO.names[pair[1]]}: lie the other way round" in problem.message


@pytest.mark.parametrize("share", [0.25, 0.55])
def test_what_may_be_chance_is_no_swap(people: CocoKeypoints, share: float) -> None:
    assert list(check_flip_pairs(crowd(people, (9, 10), share=share))) == []


def test_names_that_say_left_and_right_are_compared_with_the_pairs(people: CocoKeypoints) -> None:
    annotations = crowd(people)
    annotations.keypoint_set = replace(COCO, flip_pairs=((1, 2), (3, 4)))
    (first, *others) = check_flip_pairs(annotations)
    assert first.kind == "left and right are no flip pair"
    assert "expected the flip pair left_shoulder, right_shoulder" in first.message
    assert len(others) == 5


def test_joints_without_sides_have_nothing_to_say(people: CocoKeypoints) -> None:
    annotations = crowd(people)
    annotations.keypoint_set = KeypointSet("plain", tuple(f"point {k}" for k in range(17)), (), (0.1,) * 17)
    assert list(check_flip_pairs(annotations)) == []


# ---------------------------------------------------------------------------------------------------- figures


def test_summary(people: CocoKeypoints) -> None:
    summary = summarize(people)
    assert (summary.images, summary.people) == (4, len(people.people))
    assert summary.without_people == 4 - len({person.image_id for person in people.people})
    assert summary.joints["nose"] == sum(person.visible[0] > 0 for person in people.people)
    assert list(summary.joints) == list(COCO.names)
    heights = [person.box[3] - person.box[1] for person in people.people]
    assert summary.box_sizes[1][1] == pytest.approx(np.median(heights))


def test_summary_of_nobody(people: CocoKeypoints) -> None:
    nobody = crowd(people)
    nobody.people = []
    summary = summarize(nobody)
    assert (summary.people, summary.without_people) == (0, 4)
    assert set(summary.joints.values()) == {0}
