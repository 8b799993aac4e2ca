"""A data set of one's own, described by a small TOML file: its joints, and where images and annotations lie.

    name = "table"
    joints = ["left_front", "right_front", "left_back", "right_back"]
    flip_pairs = [["left_front", "right_front"], ["left_back", "right_back"]]
    skeleton = [["left_front", "right_front"], ["left_back", "right_back"]]

    [train]
    annotations = "train.json"
    images = "images/train"

    [val]
    annotations = "val.json"
    images = "images/val"

Paths are relative to the file. docs/own_data.md explains every key.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import KEYPOINT_SETS, KeypointSet

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SPLITS = ("train", "val")
DEFAULT_SIGMA = 0.067  # the mean of COCO's
_JOINT_KEYS = ("joints", "flip_pairs", "sigmas", "skeleton", "upper_body")
_SPLIT_KEYS = ("annotations", "images")
Part = TypeVar("Part")


@dataclass(frozen=True)
class SplitPaths:
    """Where the annotations and the images of one part of a data set lie."""

    annotations: Path
    images: Path


@dataclass(frozen=True)
class DataDescription:
    """What a description says: the joints, and the parts by name (``"train"``, ``"val"``)."""

    file: Path
    keypoint_set: KeypointSet
    splits: Mapping[str, SplitPaths]


def read_description(path: str | Path) -> DataDescription:
    """Reads a description.

    Raises:
        InputError: naming the file and the key, if it is absent, not TOML, or says something that cannot be.
    """
    path = Path(path)
    content = read_toml(path)
    if "classes" in content:
        raise InputError(
            f"{path}: expected the joints of people, got classes of masks; train such data by a recipe for "
            "segmentation, as generated_segmentation is"
        )
    require_known(content, ("name", *_JOINT_KEYS, *SPLITS), str(path))
    splits = read_parts(content, path, _split)
    return DataDescription(path, _keypoint_set(content, path), splits)


def read_parts(content: Mapping[str, Any], path: Path, read: Callable[[Any, Path, str], Part]) -> dict[str, Part]:
    """The tables ``[train]`` and ``[val]`` of a description, of which one may be missing.

    Args:
        content: of the file.
        path: the file.
        read: makes a part of a table, the file and the part's name.

    Raises:
        InputError: if there is neither.
    """
    parts = {split: read(content[split], path, split) for split in SPLITS if split in content}
    if not parts:
        raise InputError(f"{path}: expected a table [train] or [val] that says where the data lie, got neither")
    return parts


def _keypoint_set(content: dict[str, Any], path: Path) -> KeypointSet:
    name = content.get("name")
    if not isinstance(name, str) or not name:
        raise InputError(f'{path}: name: expected a name such as "table", got {name!r}')
    if "joints" not in content:
        extra = [key for key in _JOINT_KEYS if key in content]
        if name in KEYPOINT_SETS and not extra:
            return KEYPOINT_SETS[name]
        known = " or ".join(repr(known) for known in KEYPOINT_SETS)
        raise InputError(f"{path}: joints: expected the names of the joints; only with the name {known} they are known")
    joints = _names(content["joints"], f"{path}: joints")
    if len(joints) == 0:
        raise InputError(f"{path}: joints: expected the name of at least one joint, got none")
    repeated = next((joint for joint in joints if joints.count(joint) > 1), None)
    if repeated is not None:
        raise InputError(f"{path}: joints: expected different names, got {repeated!r} twice")
    flip_pairs = _pairs(content.get("flip_pairs", []), joints, f"{path}: flip_pairs")
    swapped = [index for pair in flip_pairs for index in pair]
    twice = next((index for index in swapped if swapped.count(index) > 1), None)
    if twice is not None:
        raise InputError(f"{path}: flip_pairs: expected every joint in one pair at most, got {joints[twice]!r} in two")
    upper = _names(content.get("upper_body", []), f"{path}: upper_body")
    return KeypointSet(
        name=name,
        names=tuple(joints),
        flip_pairs=flip_pairs,
        sigmas=_sigmas(content.get("sigmas", DEFAULT_SIGMA), joints, f"{path}: sigmas"),
        links=_pairs(content.get("skeleton", []), joints, f"{path}: skeleton"),
        upper_body=tuple(_index(joint, joints, f"{path}: upper_body") for joint in upper),
    )


def _sigmas(value: Any, joints: list[str], where: str) -> tuple[float, ...]:
    """One for all joints, or a table of them by name, where the others have the default."""
    by_name = value if isinstance(value, dict) else dict.fromkeys(joints, value)
    for joint, sigma in by_name.items():
        _index(joint, joints, where)
        if isinstance(sigma, bool) or not isinstance(sigma, int | float) or not 0 < sigma < float("inf"):
            raise InputError(
                f"{where}: expected a positive number for all joints, or a table of them by name, got {sigma!r}"
            )
    return tuple(float(by_name.get(joint, DEFAULT_SIGMA)) for joint in joints)


def _pairs(value: Any, joints: list[str], where: str) -> tuple[tuple[int, int], ...]:
    if not isinstance(value, list):
        raise InputError(f"{where}: expected a list of pairs of joints, got {value!r:.80}")
    pairs = []
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2 or pair[0] == pair[1]:
            raise InputError(f"{where}: expected pairs of different joints, got {pair!r:.80}")
        pairs.append((_index(pair[0], joints, where), _index(pair[1], joints, where)))
    return tuple(pairs)


def _index(joint: Any, joints: list[str], where: str) -> int:
    if joint not in joints:
        raise InputError(f"{where}: {joint!r} is not among the joints{_did_you_mean(joint, joints)}")
    return joints.index(joint)


def _names(value: Any, where: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
        raise InputError(f"{where}: expected a list of names of joints, got {value!r:.80}")
    return value


def _split(value: Any, path: Path, split: str) -> SplitPaths:
    if not isinstance(value, dict):
        raise InputError(f"{path}: {split}: expected a table [{split}] with annotations and images, got {value!r:.80}")
    require_known(value, _SPLIT_KEYS, f"{path}: {split}")
    places = {}
    for key in _SPLIT_KEYS:
        place = value.get(key)
        if not isinstance(place, str) or not place:
            raise InputError(f"{path}: {split}: {key}: expected a path relative to this file, got {place!r}")
        places[key] = path.parent / place
    return SplitPaths(**places)


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a description.

    Raises:
        InputError: if it is absent or not TOML.
    """
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"{path}: expected the description of a data set, but there is no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: expected TOML, got a file that is not text") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not valid TOML: {error}") from None
    return content


def require_known(table: dict[str, Any], known: Iterable[str], where: str) -> None:
    """Raises :class:`InputError` at a key that is not among the known ones, with the nearest of them."""
    known = list(known)
    for key in table:
        if key not in known:
            raise InputError(f"{where}: {key}: unknown key{_did_you_mean(key, known) or f'; known are {known}'}")


def _did_you_mean(name: Any, known: list[str]) -> str:
    near = difflib.get_close_matches(str(name), known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
