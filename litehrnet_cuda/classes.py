"""What the classes of a segmentation are called, and in which colours they are drawn.

Whatever depends on the classes (the size of the head, metrics, drawing) takes a :class:`ClassSet`, so that a data set
with other classes needs no other code.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from litehrnet_cuda.errors import InputError

IGNORE_INDEX = 255  # of pixels that are in no class; neither learnt nor counted
Color = tuple[int, int, int]

_GOLDEN = 0.618034  # steps on the circle of hues that never come close to one another


@dataclass(frozen=True)
class ClassSet:
    """The classes of one kind of annotation.

    Args:
        name: short name, such as ``"cityscapes"``.
        names: of the C classes, in the order of their indices; at most 255, because masks hold bytes and
            ``IGNORE_INDEX`` is none of them.
        palette: C colours (red, green, blue), 0 to 255.
        background: index of the class that drawings leave as it is; None to tint all.

    Raises:
        InputError: for names and colours that do not go together.
    """

    name: str
    names: tuple[str, ...]
    palette: tuple[Color, ...]
    background: int | None = None

    def __post_init__(self) -> None:
        count = len(self.names)
        if not 1 <= count <= IGNORE_INDEX:
            raise InputError(f"ClassSet {self.name!r}: expected 1 to {IGNORE_INDEX} names, got {count}")
        if len(set(self.names)) != count:
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise InputError(f"ClassSet {self.name!r}: expected names that differ, got {twice!r} twice")
        if len(self.palette) != count:
            raise InputError(f"ClassSet {self.name!r}: expected {count} colours, one per name, got {len(self.palette)}")
        for color in self.palette:
            if len(color) != 3 or not all(isinstance(value, int) and 0 <= value <= 255 for value in color):
                raise InputError(f"ClassSet {self.name!r}: expected colours of three numbers 0 to 255, got {color}")
        if self.background is not None and not 0 <= self.background < count:
            raise InputError(
                f"ClassSet {self.name!r}: expected a background from 0 to {count - 1}, got {self.background}"
            )

    def __len__(self) -> int:
        return len(self.names)

    @property
    def colors(self) -> np.ndarray:
        """``[C, 3]`` uint8: the palette as (blue, green, red), which images are in."""
        return np.array(self.palette, np.uint8)[:, ::-1]

    @classmethod
    def numbered(cls, count: int) -> ClassSet:
        """Classes of which no more is known than how many there are, in colours that differ."""
        hues = (index * _GOLDEN % 1 for index in range(count))
        colors = (colorsys.hsv_to_rgb(hue, 0.75, 0.95) for hue in hues)
        palette = tuple((round(255 * red), round(255 * green), round(255 * blue)) for red, green, blue in colors)
        return cls(f"{count} classes", tuple(f"class {index}" for index in range(count)), palette)


# Names, order and colours of the 19 classes that are evaluated: cityscapesScripts, helpers/labels.py.
CITYSCAPES = ClassSet(
    name="cityscapes",
    names=(
        *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation"),
        *("terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
    ),
    palette=(
        *((128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153)),
        *((250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60)),
        *((255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32)),
    ),
)

# What is a person and what is not: of the drawn scenes, and of any masks of people.
PERSON = ClassSet("person", ("background", "person"), ((0, 0, 0), (30, 144, 255)), background=0)

CLASS_SETS = {classes.name: classes for classes in (CITYSCAPES, PERSON)}


def known_class_set(count: int) -> ClassSet | None:
    """The first known set of so many classes, if there is one: what outputs are taken to be that nothing names."""
    return next((known for known in CLASS_SETS.values() if len(known) == count), None)
