"""Where people come from: folders of COCO's layouts, and drawings."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from litehrnet_cuda.data.coco import CocoKeypoints
from litehrnet_cuda.data.datasets import find_coco_splits, generate_splits
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


def test_progress_is_shown_and_ends_full_even_when_nothing_is_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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
