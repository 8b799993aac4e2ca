"""Reader of key-point annotations and person detections in COCO's JSON format, for any set of key points.

The file is checked once, when it is read: what cannot be used is reported as one sentence that names the file, the
annotation and the field, rather than as an exception in the middle of an epoch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from litehrnet_cuda.data.transforms import BoxConvention, clip_annotated_boxes, xywh_to_xyxy
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import COCO, KeypointSet

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class ImageEntry:
    """One image of the annotation file; ``path`` is where it should lie."""

    id: int
    path: Path
    width: int
    height: int


@dataclass(frozen=True)
class PersonBox:
    """A box to look for key points in: from an annotation, or from a detector (then ``annotation_id`` is None)."""

    image_id: int
    box: Array  # [4] float32 (left, top, right, bottom), image pixels
    score: float
    annotation_id: int | None


@dataclass(frozen=True)
class Person(PersonBox):
    """An annotated person; joints with ``visible`` 0 are not annotated."""

    keypoints: Array  # [K, 2] float32, image pixels
    visible: Array  # [K] float32, 0 or 1


class CocoKeypoints:
    """The images and people of one annotation file.

    People without an annotated joint, crowds and empty boxes are left out, as the official code does. Annotations of
    categories other than the one with the key points are ignored.

    Args:
        annotation_file: COCO key-point annotations, JSON.
        image_dir: folder that the ``file_name`` of the images is relative to.
        keypoint_set: what the K joints are.
        box_convention: how boxes are clipped, see :func:`litehrnet_cuda.data.transforms.clip_annotated_boxes`.

    Attributes:
        images: image id -> :class:`ImageEntry`, in the order of the file.
        people: all usable :class:`Person` of the file, those of one image in sequence.

    Raises:
        InputError: if the file or the folder is absent, or the file has a mistake.
    """

    def __init__(
        self,
        annotation_file: str | Path,
        image_dir: str | Path,
        keypoint_set: KeypointSet = COCO,
        *,
        box_convention: BoxConvention = "mmpose1",
    ) -> None:
        self.annotation_file = Path(annotation_file)
        self.image_dir = Path(image_dir)
        self.keypoint_set = keypoint_set
        self.box_convention: BoxConvention = box_convention
        content = read_json(self.annotation_file)
        if not self.image_dir.is_dir():
            raise InputError(f"{self.image_dir}: expected the folder of the images, but there is no such folder")
        if not isinstance(content, dict):
            raise InputError(
                f"{self.annotation_file}: expected an object with images and annotations, got {_kind(content)}"
            )
        self.category_ids = self._find_categories(content)
        self.images = self._read_images(content)
        self.people = self._read_people(content)

    def __repr__(self) -> str:
        return (
            f"CocoKeypoints({self.annotation_file.name}: {len(self.images)} images, {len(self.people)} people,"
            f" {len(self.keypoint_set)} joints of {self.keypoint_set.name!r})"
        )

    def require_images(self, image_ids: Iterable[int]) -> None:
        """Raise :class:`InputError` if the file of one of these images is absent: better now than after an hour."""
        for image_id in dict.fromkeys(image_ids):
            path = self.images[image_id].path
            if not path.is_file():
                raise InputError(
                    f"{path}: image {image_id} of {self.annotation_file.name} is missing; check the image folder"
                )

    def read_image(self, image_id: int) -> Array:
        """The pixels of an image, ``[H, W, 3]`` uint8 BGR.

        Raises:
            InputError: if the file is absent, cannot be decoded, or has another size than the annotation file says.
        """
        entry = self.images[image_id]
        self.require_images([image_id])
        image = cv2.imread(str(entry.path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if image is None:
            raise InputError(
                f"{entry.path}: expected an image that OpenCV can decode; the file is damaged or has another format"
            )
        if image.shape[:2] != (entry.height, entry.width):
            raise InputError(
                f"{entry.path}: expected {entry.width} x {entry.height} pixels as {self.annotation_file.name} says for"
                f" image {image_id}, got {image.shape[1]} x {image.shape[0]}"
            )
        return np.asarray(image)

    def detections(self, results_file: str | Path, *, score_threshold: float = 0.0) -> list[PersonBox]:
        """Boxes of a person detector in COCO's results format: ``[{image_id, category_id, bbox, score}, ...]``.

        They are used as they are, not clipped to the image. Categories without key points and boxes with a lower score
        than the threshold are left out.
        """
        path = Path(results_file)
        content = read_json(path)
        if not isinstance(content, list):
            raise InputError(f"{path}: expected a list of detections, got {_kind(content)}")
        boxes = []
        for index, item in enumerate(content):
            where = f"{path}: detection {index}"
            entry = _object(item, where)
            if _integer(entry, "category_id", where, default=self.category_ids[0]) not in self.category_ids:
                continue
            score = _number(entry, "score", where)
            image_id = _integer(entry, "image_id", where)
            if image_id not in self.images:
                raise InputError(f"{where}: image_id {image_id} is not among the images of {self.annotation_file.name}")
            box = xywh_to_xyxy(_box(entry, where))
            if score >= score_threshold and (box[2:] > box[:2]).all():
                boxes.append(PersonBox(image_id, box.astype(np.float32), score, None))
        return boxes

    def _find_categories(self, content: dict[str, Any]) -> list[int]:
        where = f"{self.annotation_file}: categories"
        named = {}
        for item in _list(content, "categories", str(self.annotation_file)):
            category = _object(item, where)
            names = category.get("keypoints")
            named[_integer(category, "id", where)] = names if isinstance(names, list) else None
        if not any(named.values()):  # many tools leave the joint names out; then every category counts
            fitting = list(named)
        else:
            fitting = [key for key, names in named.items() if names and len(names) == len(self.keypoint_set)]
        if not fitting:
            counts = sorted({len(names) for names in named.values() if names})
            raise InputError(
                f"{where}: expected one with the {len(self.keypoint_set)} keypoints of {self.keypoint_set.name!r}, got"
                f" {f'categories with {counts} keypoints' if counts else 'none'}; choose the matching key-point set"
            )
        return fitting

    def _read_images(self, content: dict[str, Any]) -> dict[int, ImageEntry]:
        images: dict[int, ImageEntry] = {}
        for index, item in enumerate(_list(content, "images", str(self.annotation_file))):
            entry = _object(item, f"{self.annotation_file}: images[{index}]")
            image_id = _integer(entry, "id", f"{self.annotation_file}: images[{index}]")
            where = f"{self.annotation_file}: image {image_id}"
            name = entry.get("file_name")
            if not isinstance(name, str) or not name:
                raise InputError(f"{where}: file_name: expected the name of a file, got {name!r}")
            width, height = _integer(entry, "width", where), _integer(entry, "height", where)
            if min(width, height) < 1:
                raise InputError(f"{where}: expected a width and height of at least 1, got {width} x {height}")
            if image_id in images:
                raise InputError(f"{where}: the id appears twice")
            images[image_id] = ImageEntry(image_id, self.image_dir / name, width, height)
        return images

    def _read_people(self, content: dict[str, Any]) -> list[Person]:
        people: dict[int, list[Person]] = {image_id: [] for image_id in self.images}
        seen: set[int] = set()
        for index, item in enumerate(_list(content, "annotations", str(self.annotation_file))):
            entry = _object(item, f"{self.annotation_file}: annotations[{index}]")
            annotation_id = _integer(entry, "id", f"{self.annotation_file}: annotations[{index}]")
            where = f"{self.annotation_file}: annotation {annotation_id}"
            if annotation_id in seen:
                raise InputError(f"{where}: the id appears twice")
            seen.add(annotation_id)
            if _integer(entry, "category_id", where, default=self.category_ids[0]) not in self.category_ids:
                continue
            image_id = _integer(entry, "image_id", where)
            if image_id not in self.images:
                raise InputError(f"{where}: image_id {image_id} is not among the images")
            keypoints, visible = self._keypoints(entry, where)
            box = _box(entry, where)
            image = self.images[image_id]
            box = clip_annotated_boxes(box, (image.width, image.height), convention=self.box_convention)
            usable = visible.any() and (box[2:] > box[:2]).all() and _number(entry, "area", where, default=1.0) > 0
            if usable and not _integer(entry, "iscrowd", where, default=0):
                person = Person(image_id, box.astype(np.float32), 1.0, annotation_id, keypoints, visible)
                people[image_id].append(person)
        return [person for of_image in people.values() for person in of_image]

    def _keypoints(self, entry: dict[str, Any], where: str) -> tuple[Array, Array]:
        count = len(self.keypoint_set)
        values = _numbers(
            entry, "keypoints", where, 3 * count, f"{3 * count} numbers (x, y, visibility of {count} joints)"
        )
        triples = np.array(values, dtype=np.float32).reshape(count, 3)
        return triples[:, :2], np.minimum(triples[:, 2], 1)


def read_json(path: Path) -> Any:
    """The content of a JSON file; :class:`InputError` if it is absent or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"{path}: expected an annotation file, but there is no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: expected JSON, got a file that is not text") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not valid JSON: {error.msg} in line {error.lineno}, column {error.colno}") from None
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, endless nesting
        raise InputError(f"{path}: not JSON that can be read: {error}") from None


def _kind(value: Any) -> str:
    kinds = {
        dict: "an object",
        list: "a list",
        str: "a string",
        bool: "a truth value",
        int: "a number",
        float: "a number",
    }
    return kinds.get(type(value), "nothing (null)")


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected an object, got {_kind(value)}")
    return value


def _list(content: dict[str, Any], field: str, where: str) -> list[Any]:
    if field not in content:
        raise InputError(f"{where}: {field}: the list is missing")
    value = content[field]
    if not isinstance(value, list):
        raise InputError(f"{where}: {field}: expected a list, got {_kind(value)}")
    return value


def _number(entry: dict[str, Any], field: str, where: str, default: float | None = None) -> float:
    if field not in entry:
        if default is None:
            raise InputError(f"{where}: {field}: the field is missing")
        return default
    value = entry[field]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{where}: {field}: expected a finite number, got {value!r}")
    return float(value)


def _integer(entry: dict[str, Any], field: str, where: str, default: int | None = None) -> int:
    value = entry.get(field, default)
    if field == "iscrowd" and isinstance(value, bool):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        if field not in entry:
            raise InputError(f"{where}: {field}: the field is missing")
        raise InputError(f"{where}: {field}: expected a whole number, got {value!r}")
    return value


def _numbers(entry: dict[str, Any], field: str, where: str, count: int, meaning: str) -> list[float]:
    if field not in entry:
        raise InputError(f"{where}: {field}: the field is missing")
    values = entry[field]
    if not isinstance(values, list):
        raise InputError(f"{where}: {field}: expected {meaning}, got {_kind(values)}")
    if len(values) != count:
        raise InputError(f"{where}: {field}: expected {meaning}, got {len(values)} values")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise InputError(f"{where}: {field}: expected {meaning}, got {value!r} among them")
    return values


def _box(entry: dict[str, Any], where: str) -> Array:
    """``[4]`` float64 (left, top, width, height)."""
    box = _numbers(entry, "bbox", where, 4, "4 finite numbers (left, top, width, height)")
    if box[2] < 0 or box[3] < 0:
        raise InputError(f"{where}: bbox: expected a width and height of at least 0, got {box[2]} x {box[3]}")
    return np.array(box, dtype=np.float64)
