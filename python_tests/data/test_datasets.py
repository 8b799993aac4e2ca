"""Where people come from: folders of COCO's layouts, and drawings."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from litehrnet_cuda.data.coco import CocoKeypoints
from litehrnet_cuda.data.datasets import (
    find_coco_splits,
    find_splits,
    generate_splits,
    image_folder,
    is_mpii_file,
    locate_splits,
)
from litehrnet_cuda.data.mpii import MpiiKeypoints
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import COCO, MPII


@pytest.fixture
def folder(coco_folder: Path, tmp_path: Path) -> Path:
    """A COCO folder whose splits ``train`` and ``val`` hold the same four images."""
    root = tmp_path / "data"
    shutil.copytree(coco_folder / "val", root / "val")
    shutil.copytree(coco_folder / "val", root / "train")
    (root / "annotations").mkdir()
    for split in ("train", "val"):
        source = coco_folder / "annotations" / "person_keypoints_val.json"
        shutil.copy(source, root / "annotations" / f"person_keypoints_{split}.json")
    return root


def rename(root: Path, split: str, name: str) -> None:
    (root / split).rename(root / name)
    annotations = root / "annotations"
    (annotations / f"person_keypoints_{split}.json").rename(annotations / f"person_keypoints_{name}.json")


def test_short_names(folder: Path) -> None:
    train, val = find_coco_splits(str(folder))
    assert (train.image_dir, val.image_dir) == (folder / "train", folder / "val")
    assert train.annotation_file == folder / "annotations" / "person_keypoints_train.json"
    assert train.keypoint_set is COCO
    assert len(train.people) == len(val.people) > 0
    assert train.read_image(1).shape == (120, 160, 3)


def test_names_of_coco_itself_even_beside_short_ones(folder: Path) -> None:
    rename(folder, "train", "train2017")
    rename(folder, "val", "val2017")
    train, val = find_coco_splits(folder)
    assert (train.image_dir, val.image_dir) == (folder / "train2017", folder / "val2017")
    assert val.annotation_file.name == "person_keypoints_val2017.json"
    shutil.copy(val.annotation_file, folder / "annotations" / "person_keypoints_val.json")
    assert find_coco_splits(folder)[1].annotation_file.name == "person_keypoints_val2017.json"


def test_names_may_differ_between_the_splits(folder: Path) -> None:
    rename(folder, "train", "train2017")
    train, val = find_coco_splits(folder)
    assert (train.image_dir.name, val.image_dir.name) == ("train2017", "val")


@pytest.mark.parametrize("name", ["val", "val2017"])
def test_images_in_a_folder_of_their_own(folder: Path, name: str) -> None:
    if name != "val":
        rename(folder, "val", name)
    (folder / "images").mkdir()
    (folder / name).rename(folder / "images" / name)
    _, val = find_coco_splits(folder)
    assert val.image_dir == folder / "images" / name
    assert val.read_image(val.people[0].image_id).shape == (120, 160, 3)


@pytest.mark.parametrize("split", ["train", "val"])
def test_missing_annotations_are_named_with_both_choices(folder: Path, split: str) -> None:
    (folder / "annotations" / f"person_keypoints_{split}.json").unlink()
    choices = [rf"\S*person_keypoints_{name}\.json" for name in (f"{split}2017", split)]
    message = rf"^{folder}: expected {' or '.join(choices)}, found neither$"
    with pytest.raises(InputError, match=message):
        find_coco_splits(folder)


def test_missing_images_are_named(folder: Path) -> None:
    shutil.rmtree(folder / "train")
    with pytest.raises(InputError, match=rf"{folder / 'images' / 'train'}: expected the folder of the images"):
        find_coco_splits(folder)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent: expected .* found neither"):
        find_coco_splits(tmp_path / "absent")


def test_other_joints(folder: Path) -> None:
    with pytest.raises(InputError, match="keypoints"):
        find_coco_splits(folder, MPII)  # the annotations have 17 joints, MPII has 16


# ---------------------------------------------------------------------------------------------------- any layout

MPII_PERSON = {"image": "a.jpg", "center": [50, 60], "scale": 0.5, "joints": [[1, 2]] * 16, "joints_vis": [1] * 16}


@pytest.fixture
def mpii_folder(tmp_path: Path) -> Path:
    for name in ("annotations", "images"):
        (tmp_path / name).mkdir()
    for split, count in (("train", 3), ("val", 2)):
        (tmp_path / "annotations" / f"mpii_{split}.json").write_text(json.dumps([MPII_PERSON] * count))
    return tmp_path


def test_coco_s_layout_is_found(folder: Path) -> None:
    train, val = find_splits(str(folder))
    assert isinstance(train, CocoKeypoints)
    assert (train.annotation_file, val.image_dir) == (
        folder / "annotations" / "person_keypoints_train.json",
        folder / "val",
    )


def test_mpii_s_layout_is_found(mpii_folder: Path) -> None:
    train, val = find_splits(mpii_folder)
    assert isinstance(train, MpiiKeypoints)
    assert (len(train.people), len(val.people)) == (3, 2)
    assert train.keypoint_set is MPII
    assert val.image_dir == mpii_folder / "images"
    (mpii_folder / "annotations" / "mpii_val.json").unlink()
    with pytest.raises(InputError, match=r"expected \S*mpii_val\.json, found none"):
        find_splits(mpii_folder)
    assert list(locate_splits(mpii_folder)) == ["train"]


def test_a_description_is_followed(folder: Path, mpii_folder: Path) -> None:
    file = folder / "mine.toml"
    lines = ['name = "mine"', f"joints = {list(COCO.names)}"]
    for split in ("train", "val"):
        lines += [f"[{split}]", f'annotations = "annotations/person_keypoints_{split}.json"', f'images = "{split}"']
    file.write_text("\n".join(lines))
    train, val = find_splits(file)
    assert isinstance(train, CocoKeypoints)
    assert train.keypoint_set.name == val.keypoint_set.name == "mine"
    assert len(train.people) == len(find_splits(folder)[0].people)

    file = mpii_folder / "mine.toml"  # MPII's form in folders of one's own
    file.write_text('name = "mpii"\n[train]\nannotations = "annotations/mpii_train.json"\nimages = "images"\n')
    assert isinstance(locate_splits(file)["train"].read(), MpiiKeypoints)
    with pytest.raises(
        InputError, match=r"mine\.toml: expected a table \[val\] with annotations and images, found none"
    ):
        find_splits(file)


def test_boxes_are_clipped_as_asked_for(folder: Path) -> None:
    plain, official = (find_splits(folder, **options)[0] for options in ({}, {"box_convention": "official"}))
    assert isinstance(official, CocoKeypoints)
    assert official.box_convention == "official"
    # One pixel of width and height less, but at the image's edges.
    for one, other in zip(plain.people, official.people, strict=True):
        assert ((one.box - other.box)[2:] >= 0).all()
    assert any((one.box != other.box).any() for one, other in zip(plain.people, official.people, strict=True))


def test_what_is_no_data_set_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent: expected a folder of data or a TOML file .*, found neither"):
        find_splits(tmp_path / "absent")
    with pytest.raises(InputError, match=r"expected COCO's layout .*, MPII's .*, or the TOML file .*; found none"):
        find_splits(tmp_path)


def test_images_of_a_file_are_where_coco_and_mpii_keep_them(folder: Path, tmp_path: Path) -> None:
    file = folder / "annotations" / "person_keypoints_val.json"
    assert image_folder(file) == folder / "val"
    (folder / "images").mkdir()
    (folder / "val").rename(folder / "images" / "val")
    assert image_folder(file) == folder / "images" / "val"
    assert image_folder(folder / "annotations" / "mpii_train2.json") == folder / "images"
    assert image_folder(tmp_path / "people.json") == tmp_path


def test_the_forms_are_told_apart(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    for content, is_mpii in (("\n [{", True), (' {"images"', False), ("", False)):
        file.write_text(content)
        assert is_mpii_file(file) is is_mpii
    assert not is_mpii_file(tmp_path / "absent.json")


# ---------------------------------------------------------------------------------------------------- drawn people


def image_bytes(people: CocoKeypoints) -> list[bytes]:
    return [entry.path.read_bytes() for entry in people.images.values()]


def test_drawn_splits_differ_and_are_drawn_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, val = generate_splits(tmp_path, train_images=3, val_images=2, progress=False)
    assert (len(train.images), len(val.images)) == (3, 2)
    assert train.annotation_file == tmp_path / "annotations" / "person_keypoints_train.json"
    assert train.people
    assert val.people
    assert not set(image_bytes(train)) & set(image_bytes(val))
    assert capsys.readouterr() == ("", "")

    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    again = generate_splits(tmp_path, train_images=3, val_images=2, progress=False)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")} == times
    assert [people.annotation_file for people in again] == [train.annotation_file, val.annotation_file]


def test_drawings_follow_the_seed_not_the_folder_or_the_workers(tmp_path: Path) -> None:
    def draw(name: str, **options: int) -> list[bytes]:
        train, val = generate_splits(tmp_path / name, train_images=2, val_images=1, progress=False, **options)
        return image_bytes(train) + image_bytes(val)

    first = draw("a", seed=5)
    assert draw("b", seed=5, workers=2) == first
    assert not set(draw("c", seed=6)) & set(first)


def test_a_set_of_another_size_replaces_the_first(tmp_path: Path) -> None:
    generate_splits(tmp_path, train_images=3, val_images=1, progress=False)
    train, _ = generate_splits(tmp_path, train_images=2, val_images=1, progress=False)
    assert len(train.images) == 2
    assert len(list((tmp_path / "train").iterdir())) == 2


def test_progress_is_shown_on_terminals_and_ends_full_even_when_nothing_is_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    generate_splits(tmp_path, train_images=2, val_images=1)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    for _ in range(2):
        generate_splits(tmp_path, train_images=2, val_images=1)
        shown = capsys.readouterr().err
        assert "draw train: 100%" in shown
        assert "2/2" in shown
        assert "draw val: 100%" in shown


def test_the_pictures_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "mine.jpg").write_bytes(b"precious")
    with pytest.raises(InputError, match="choose another directory"):
        generate_splits(tmp_path, train_images=1, val_images=1, progress=False)
    assert (tmp_path / "train" / "mine.jpg").read_bytes() == b"precious"
