"""The TOML file of a data set of masks."""

from __future__ import annotations

from pathlib import Path

import pytest

from litehrnet_cuda.classes import CITYSCAPES, ClassSet
from litehrnet_cuda.data import mask_description
from litehrnet_cuda.data.mask_description import MaskPlaces, is_mask_description, read_mask_description
from litehrnet_cuda.errors import InputError

GOOD = """
name = "orchard"
classes = ["ground", "tree"]
[train]
images = "a"
masks = "b"
"""


def description(folder: Path, text: str) -> Path:
    file = folder / "mine.toml"
    file.write_text(text)
    return file


def test_the_example_of_the_module_is_read(tmp_path: Path) -> None:
    assert mask_description.__doc__ is not None
    lines = [line.strip() for line in mask_description.__doc__.splitlines() if line.startswith("    ")]
    found = read_mask_description(description(tmp_path, "\n".join(lines)))
    assert found.class_set == ClassSet(
        "orchard", ("ground", "tree", "fruit"), ((0, 0, 0), (0, 160, 60), (230, 60, 40)), background=0
    )
    assert found.splits["val"] == MaskPlaces(tmp_path / "images" / "val", tmp_path / "masks" / "val")
    assert set(found.splits) == {"train", "val"}


def test_colours_are_chosen_where_none_are_given(tmp_path: Path) -> None:
    found = read_mask_description(description(tmp_path, GOOD))
    assert found.class_set.palette == ClassSet.numbered(2).palette
    assert found.class_set.background is None
    assert list(found.splits) == ["train"]


def test_known_classes_need_no_names(tmp_path: Path) -> None:
    text = 'name = "cityscapes"\n[val]\nimages = "a"\nmasks = "b"\n'
    assert read_mask_description(description(tmp_path, text)).class_set == CITYSCAPES


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "orchard"', "", "name: expected a name"),
        ('classes = ["ground", "tree"]', "", "classes: expected their names; only with the name 'cityscapes' or"),
        ('classes = ["ground", "tree"]', "classes = 2", "classes: expected a list of names, got 2"),
        ('"tree"]', '"ground"]', "expected names that differ, got 'ground' twice"),
        ('"tree"]', '"tree"]\nbackground = "sky"', "background: expected one of the classes, got 'sky'"),
        ('"tree"]', '"tree"]\npalette = [[0, 0, 0]]', "expected 2 colours, one per name, got 1"),
        ('"tree"]', '"tree"]\npalette = 3', "palette: expected a list of colours such as"),
        ('"tree"]', '"tree"]\nclases = 3', "clases: unknown key; did you mean 'classes'?"),
        ('classes = ["ground", "tree"]', 'joints = ["nose"]', "expected classes of masks, got the joints of people; "),
        ('masks = "b"', "", "train: masks: expected a path relative to this file, got None"),
        ("[train]", "[test]", "test: unknown key"),
        ('[train]\nimages = "a"\nmasks = "b"', "", "expected a table"),
        ('[train]\nimages = "a"\nmasks = "b"', "train = 3", r"expected a table \[train\] with images and masks, got 3"),
        ('"a"', '"a', "not valid TOML"),
    ],
)
def test_mistakes_are_said_with_file_and_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(InputError, match=message) as refused:
        read_mask_description(description(tmp_path, GOOD.replace(old, new)))
    assert str(refused.value).startswith(str(tmp_path / "mine.toml"))


def test_descriptions_of_people_are_told_from_those_of_masks(tmp_path: Path) -> None:
    assert is_mask_description(description(tmp_path, GOOD))
    assert is_mask_description(description(tmp_path, 'name = "cityscapes"\n[val]\nimages = "a"\nmasks = "b"\n'))
    assert not is_mask_description(description(tmp_path, 'name = "coco"\n[val]\nannotations = "a"\nimages = "b"\n'))
    assert not is_mask_description(description(tmp_path, "classes ="))
    assert not is_mask_description(tmp_path / "absent.toml")
