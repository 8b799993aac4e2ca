"""Layouts of data sets with masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mask_cases import write_cityscapes, write_part

from litehrnet_cuda.classes import CITYSCAPES, PERSON, ClassSet
from litehrnet_cuda.data.generated.coco_folder import write_coco
from litehrnet_cuda.data.index_masks import read_index_mask
from litehrnet_cuda.data.mask_datasets import CITYSCAPES_IDS, find_mask_splits, has_masks, locate_mask_splits
from litehrnet_cuda.errors import InputError

# cityscapesScripts, helpers/labels.py: the id of each class that is evaluated.
IDS_BY_NAME = {
    **{"road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17, "traffic light": 19},
    **{"traffic sign": 20, "vegetation": 21, "terrain": 22, "sky": 23, "person": 24, "rider": 25, "car": 26},
    **{"truck": 27, "bus": 28, "train": 31, "motorcycle": 32, "bicycle": 33},
}


def test_cityscapes_ids_become_indices_and_all_others_are_ignored(tmp_path: Path) -> None:
    mask = write_cityscapes(tmp_path)
    split = locate_mask_splits(tmp_path)["val"]
    assert split.kind == "cityscapes"
    found = split.read()
    assert found.class_set == CITYSCAPES
    assert [image.name for image in found.images] == ["ulm_000"]
    _, labels = found.read(0)
    assert dict(zip(CITYSCAPES.names, CITYSCAPES_IDS, strict=True)) == IDS_BY_NAME
    for index, name in enumerate(CITYSCAPES.names):
        np.testing.assert_array_equal(labels == index, mask == IDS_BY_NAME[name])
    np.testing.assert_array_equal(labels == 255, ~np.isin(mask, list(IDS_BY_NAME.values())))


def test_cityscapes_masks_of_indices_are_taken_as_they_are(tmp_path: Path) -> None:
    mask = write_cityscapes(tmp_path, ids=False)
    np.testing.assert_array_equal(locate_mask_splits(tmp_path)["val"].read().read(0)[1], mask)


def test_a_missing_mask_of_cityscapes_is_said(tmp_path: Path) -> None:
    write_cityscapes(tmp_path)
    next((tmp_path / "gtFine").rglob("*.png")).unlink()
    with pytest.raises(InputError, match="the mask of image ulm_000 is missing"):
        locate_mask_splits(tmp_path)["val"].read().require_files()


def test_drawn_people_are_one_class(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_coco(tmp_path, 2, seed=3, split=split, size=(96, 80))
    train, val = find_mask_splits(tmp_path)
    assert train.class_set == val.class_set == PERSON
    assert (len(train), len(val)) == (2, 2)
    image, labels = val.read(0)
    assert image.shape == (80, 96, 3)
    assert set(np.unique(labels)) == {0, 1}
    parts = val.images[0].mask
    assert parts == tmp_path / "masks" / "val" / "000000000001.png"
    np.testing.assert_array_equal(labels, read_index_mask(parts) > 0)
    assert not has_masks(tmp_path), "people, unless masks are asked for"


def test_a_folder_of_images_and_masks(tmp_path: Path) -> None:
    write_part(tmp_path, "train", 3, classes=2)
    write_part(tmp_path, "val", 2, classes=4)
    train, val = find_mask_splits(tmp_path)
    assert (len(train), len(val)) == (3, 2)
    assert train.class_set == val.class_set == ClassSet.numbered(4), "the most that there are in either part"
    assert locate_mask_splits(tmp_path)["train"].read(PERSON).class_set == PERSON
    assert has_masks(tmp_path)


def test_a_folder_without_parts_is_to_evaluate_with(tmp_path: Path) -> None:
    write_part(tmp_path, "", 2)
    splits = locate_mask_splits(tmp_path)
    assert list(splits) == ["val"]
    assert len(splits["val"].read()) == 2
    with pytest.raises(InputError, match="expected images and masks to train with, found none"):
        find_mask_splits(tmp_path)


def test_a_description(tmp_path: Path) -> None:
    write_part(tmp_path, "train", 2)
    write_part(tmp_path, "val", 1)
    file = tmp_path / "mine.toml"
    file.write_text(
        'name = "mine"\nclasses = ["a", "b", "c"]\n'
        '[train]\nimages = "images/train"\nmasks = "masks/train"\n[val]\nimages = "images/val"\nmasks = "masks/val"\n'
    )
    train, val = find_mask_splits(file)
    assert train.class_set.names == val.class_set.names == ("a", "b", "c")
    assert train.place == file
    assert has_masks(file)


def test_what_is_no_data_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected Cityscapes' layout"):
        locate_mask_splits(tmp_path)
    with pytest.raises(InputError, match="expected Cityscapes' layout"):
        locate_mask_splits(tmp_path / "absent")
    (tmp_path / "images" / "val").mkdir(parents=True)
    (tmp_path / "masks").mkdir()
    with pytest.raises(InputError, match="masks/val: expected a folder"):
        locate_mask_splits(tmp_path)
    (tmp_path / "masks" / "val").mkdir()
    with pytest.raises(InputError, match=r"images/val: expected images .* found none"):
        locate_mask_splits(tmp_path)
    for name in ("one.png", "one.jpg"):
        (tmp_path / "images" / "val" / name).touch()
    with pytest.raises(InputError, match=r"one\.png: expected names that differ before the ending, got one\.jpg too"):
        locate_mask_splits(tmp_path)


def test_a_folder_of_annotations_makes_nobody_drawn(tmp_path: Path) -> None:
    write_part(tmp_path, "", 2, classes=3)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "notes.json").write_text("[]")
    assert has_masks(tmp_path)
    split = locate_mask_splits(tmp_path)["val"]
    assert (split.kind, split.read().class_set.names) == ("folder", ClassSet.numbered(3).names)
    (tmp_path / "annotations" / "person_keypoints_val2017.json").write_text('{"info": {}}')
    assert not has_masks(tmp_path)
    assert locate_mask_splits(tmp_path)["val"].kind == "folder"


def test_masks_that_cannot_be_read_do_not_count_classes(tmp_path: Path) -> None:
    write_part(tmp_path, "", 3, classes=3)
    (tmp_path / "masks" / "0.png").write_bytes(b"no picture")
    annotations = locate_mask_splits(tmp_path)["val"].read()
    assert len(annotations.class_set) == 3
    with pytest.raises(InputError, match=r"0\.png: expected a mask"):
        annotations.read(0)
