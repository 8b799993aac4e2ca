"""A data set of images and masks of one's own, described by a small TOML file: its classes, and where the files lie.

    name = "orchard"
    classes = ["ground", "tree", "fruit"]
    background = "ground"
    palette = [[0, 0, 0], [0, 160, 60], [230, 60, 40]]

    [train]
    images = "images/train"
    masks = "masks/train"

    [val]
    images = "images/val"
    masks = "masks/val"

A mask is a PNG file with the name of its image, whose pixels hold 0 for the first class, 1 for the second, and 255
where nothing is to be learnt. Paths are relative to the file; ``background`` (a class that drawings leave as it is) and
``palette`` (red, green, blue) are optional.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from litehrnet_cuda.classes import CLASS_SETS, ClassSet
from litehrnet_cuda.data.description import SPLITS, read_parts, read_toml, require_known
from litehrnet_cuda.errors import InputError

_CLASS_KEYS = ("classes", "background", "palette")
_SPLIT_KEYS = ("images", "masks")


@dataclass(frozen=True)
class MaskPlaces:
    """Where the images and the masks of one part of a data set lie."""

    images: Path
    masks: Path


@dataclass(frozen=True)
class MaskDescription:
    """What a description says: the classes, and the parts by name (``"train"``, ``"val"``)."""

    file: Path
    class_set: ClassSet
    splits: Mapping[str, MaskPlaces]


def is_mask_description(path: str | Path) -> bool:
    """Whether a TOML file describes masks rather than people; False for one that cannot be read, too."""
    try:
        content = read_toml(Path(path))
    except InputError:
        return False
    parts = [content[split] for split in SPLITS if isinstance(content.get(split), dict)]
    return "classes" in content or any("masks" in part for part in parts)


def read_mask_description(path: str | Path) -> MaskDescription:
    """Reads a description.

    Raises:
        InputError: naming the file and the key, if it is absent, not TOML, or says something that cannot be.
    """
    path = Path(path)
    content = read_toml(path)
    if "joints" in content:
        raise InputError(
            f"{path}: expected classes of masks, got the joints of people; train such data by a recipe for poses, as "
            "coco_256x192 is"
        )
    require_known(content, ("name", *_CLASS_KEYS, *SPLITS), str(path))
    splits = read_parts(content, path, _places)
    return MaskDescription(path, _class_set(content, path), splits)


def _class_set(content: dict[str, Any], path: Path) -> ClassSet:
    name = content.get("name")
    if not isinstance(name, str) or not name:
        raise InputError(f'{path}: name: expected a name such as "orchard", got {name!r}')
    if "classes" not in content:
        if name in CLASS_SETS:
            return CLASS_SETS[name]
        known = " or ".join(repr(known) for known in CLASS_SETS)
        raise InputError(f"{path}: classes: expected their names; only with the name {known} they are known")
    names = content["classes"]
    if not isinstance(names, list) or not names or not all(isinstance(one, str) and one for one in names):
        raise InputError(f"{path}: classes: expected a list of names, got {names!r:.80}")
    palette = content.get("palette")
    if palette is None:
        colors = ClassSet.numbered(len(names)).palette
    elif isinstance(palette, list) and all(isinstance(color, list) for color in palette):
        colors = tuple(map(tuple, palette))
    else:
        raise InputError(f"{path}: palette: expected a list of colours such as [230, 60, 40], got {palette!r:.80}")
    background = content.get("background")
    if background is not None and background not in names:
        raise InputError(f"{path}: background: expected one of the classes, got {background!r:.80}")
    try:
        return ClassSet(name, tuple(names), colors, None if background is None else names.index(background))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _places(value: Any, path: Path, split: str) -> MaskPlaces:
    if not isinstance(value, dict):
        raise InputError(f"{path}: {split}: expected a table [{split}] with images and masks, got {value!r:.80}")
    require_known(value, _SPLIT_KEYS, f"{path}: {split}")
    places = {}
    for key in _SPLIT_KEYS:
        place = value.get(key)
        if not isinstance(place, str) or not place:
            raise InputError(f"{path}: {split}: {key}: expected a path relative to this file, got {place!r}")
        places[key] = path.parent / place
    return MaskPlaces(**places)
