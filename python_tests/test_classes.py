"""The sets of classes: as published, consistent, and checked when somebody makes one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from litehrnet_cuda.classes import CITYSCAPES, CLASS_SETS, PERSON, ClassSet
from litehrnet_cuda.errors import InputError


@pytest.mark.parametrize("classes", CLASS_SETS.values(), ids=CLASS_SETS)
def test_names_and_colours_differ(classes: ClassSet) -> None:
    assert CLASS_SETS[classes.name] is classes
    assert len(set(classes.names)) == len(set(classes.palette)) == len(classes)


def test_cityscapes_is_as_published() -> None:
    assert len(CITYSCAPES) == 19
    # The ends and the middle of cityscapesScripts' table, in red, green, blue.
    assert dict(zip(CITYSCAPES.names, CITYSCAPES.palette, strict=True)) | {
        "road": (128, 64, 128),
        "sky": (70, 130, 180),
        "bicycle": (119, 11, 32),
    } == dict(zip(CITYSCAPES.names, CITYSCAPES.palette, strict=True))
    assert CITYSCAPES.background is None


def test_a_person_stands_out_of_the_background() -> None:
    assert PERSON.names == ("background", "person")
    assert PERSON.background == 0


def test_colours_are_in_the_order_of_images() -> None:
    assert CITYSCAPES.colors.dtype == np.uint8
    assert CITYSCAPES.colors[0].tolist() == [128, 64, 128]
    assert CITYSCAPES.colors[-1].tolist() == [32, 11, 119]


@pytest.mark.parametrize("count", [1, 19, 150, 255])
def test_numbered_classes_have_colours_that_differ(count: int) -> None:
    classes = ClassSet.numbered(count)
    assert len(classes) == len(set(classes.palette)) == count
    assert classes.names[-1] == f"class {count - 1}"


RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.mark.parametrize(
    ("names", "palette", "background", "message"),
    [
        ((), (), None, "expected 1 to 255 names, got 0"),
        (tuple(map(str, range(256))), (RED,) * 256, None, "expected 1 to 255 names, got 256"),
        (("a", "a"), (RED, BLUE), None, "expected names that differ, got 'a' twice"),
        (("a", "b"), (RED,), None, "expected 2 colours, one per name, got 1"),
        (("a",), ((0, 0, 256),), None, r"expected colours of three numbers 0 to 255, got \(0, 0, 256\)"),
        (("a",), ((0, 0),), None, r"expected colours of three numbers 0 to 255, got \(0, 0\)"),
        (("a",), ((0, 0, 0.5),), None, r"expected colours of three numbers 0 to 255, got \(0, 0, 0.5\)"),
        (("a", "b"), (RED, BLUE), 2, "expected a background from 0 to 1, got 2"),
    ],
)
def test_what_does_not_go_together(names: Any, palette: Any, background: int | None, message: str) -> None:
    with pytest.raises(InputError, match=f"^ClassSet 'mine': {message}"):
        ClassSet("mine", names, palette, background)
