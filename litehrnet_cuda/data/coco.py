"""Reader of key-point annotations and person detections in COCO's JSON format, for any set of key points.

The file is checked once, when it is read: what cannot be used is reported as one sentence that names the file, the
annotation and the field, rather than as an exception in the middle of an epoch.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from litehrnet_cuda.data.annotations import (
    ImageEntry,
    Person,
    PersonBox,
    PoseAnnotations,
    Problem,
    in_order_of_images,
)
from litehrnet_cuda.data.json_fields import (
    DataError,
    as_object,
    integer_field,
    kind_of,
    list_field,
    number_field,
    numbers_field,
    read_json,
    text_field,
)
from litehrnet_cuda.data.transforms import BoxConvention, clip_annotated_boxes, xywh_to_xyxy
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import COCO, KeypointSet

__all__ = ["CocoKeypoints", "ImageEntry", "Person", "PersonBox"]

Array = np.ndarray[Any, Any]


class CocoKeypoints(PoseAnnotations):
    """The images and people of one annotation file.

    People without an annotated joint, crowds and empty boxes are left out, as the official code does. Annotations of
    categories other than the one with the key points are ignored.

    Args:
        annotation_file: COCO key-point annotations, JSON.
        image_dir: folder that the ``file_name`` of the images is relative to.
        keypoint_set: what the K joints are.
        box_convention: how boxes are clipped, see :func:`litehrnet_cuda.data.transforms.clip_annotated_boxes`.
        on_problem: see :class:`~litehrnet_cuda.data.annotations.PoseAnnotations`.

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
        on_problem: Callable[[Problem], None] | None = None,
    ) -> None:
        super().__init__(annotation_file, image_dir, keypoint_set, on_problem)
        self.box_convention: BoxConvention = box_convention
        content = read_json(self.annotation_file)
        self._noted(self._require_image_dir)
        if not isinstance(content, dict):
            raise DataError(
                f"{self.annotation_file}: expected an object with images and annotations, got {kind_of(content)}",
                "the file cannot be read",
            )
        self._categories: set[int] = set()  # all of the file's, also those of other joints
        self.category_ids = self._find_categories(content)
        self.images = self._read_images(content)
        self.people = self._read_people(content)

    def detections(
        self,
        results_file: str | Path,
        *,
        score_threshold: float = 0.0,
        on_problem: Callable[[Problem], None] | None = None,
    ) -> list[PersonBox]:
        """Boxes of a person detector in COCO's results format: ``[{image_id, category_id, bbox, score}, ...]``.

        They are used as they are, not clipped to the image. Categories without key points and boxes with a lower score
        than the threshold are left out, and so are boxes in other images than those of the annotation file, which may
        be a part of what the detector saw.

        Args:
            results_file: JSON.
            score_threshold: the least score.
            on_problem: is told how many boxes are in other images; by default a warning says it.

        Raises:
            InputError: if the file has a mistake, or all of its boxes are in other images.
        """
        path = Path(results_file)
        content = read_json(path)
        if not isinstance(content, list):
            raise InputError(f"{path}: expected a list of detections, got {kind_of(content)}")
        boxes: list[PersonBox] = []
        elsewhere: list[int] = []  # the images of boxes that have no annotations
        fitting = 0
        for index, item in enumerate(content):
            where = f"{path}: detection {index}"
            entry = as_object(item, where)
            if integer_field(entry, "category_id", where, default=self.category_ids[0]) not in self.category_ids:
                continue
            score = number_field(entry, "score", where)
            image_id = integer_field(entry, "image_id", where)
            box = xywh_to_xyxy(_box(entry, where))
            if image_id not in self.images:
                elsewhere.append(image_id)
                continue
            fitting += 1
            if score >= score_threshold and (box[2:] > box[:2]).all():
                boxes.append(PersonBox(image_id, box.astype(np.float32), score, None))
        if elsewhere:
            self._tell_of_boxes_elsewhere(path, elsewhere, fitting, on_problem)
        return boxes

    def _tell_of_boxes_elsewhere(
        self, path: Path, image_ids: list[int], fitting: int, on_problem: Callable[[Problem], None] | None
    ) -> None:
        file = self.annotation_file.name
        if not fitting:
            raise InputError(
                f"{path}: expected boxes in the images of {file}, got {len(image_ids)}, all in others, such as image "
                f"{image_ids[0]}; name the detections that belong to these annotations"
            )
        message = (
            f"{path}: {len(image_ids)} of {fitting + len(image_ids)} boxes are left out, which are in "
            f"{len(set(image_ids))} images that {file} does not have"
        )
        if on_problem is None:
            warnings.warn(message, stacklevel=3)
        else:
            on_problem(Problem("the box is in another image", message, is_error=False))

    def _find_categories(self, content: dict[str, Any]) -> list[int]:
        where = f"{self.annotation_file}: categories"
        named = {}
        for item in list_field(content, "categories", str(self.annotation_file)):
            category = as_object(item, where)
            names = category.get("keypoints")
            named[integer_field(category, "id", where)] = names if isinstance(names, list) else None
        self._categories.update(named)
        if not any(named.values()):  # many tools leave the joint names out; then every category counts
            fitting = list(named)
        else:
            fitting = [key for key, names in named.items() if names and len(names) == len(self.keypoint_set)]
        if not fitting:
            counts = ", ".join(map(str, sorted({len(names) for names in named.values() if names})))
            raise DataError(
                f"{where}: expected one with the {len(self.keypoint_set)} keypoints of {self.keypoint_set.name!r}, got"
                f" {f'categories with {counts} keypoints' if counts else 'none'}; choose the matching key-point set, "
                "or describe the data set, with its joints, in a TOML file (docs/own_data.md)",
                "no category has these joints",
            )
        for key in fitting:
            names = named[key] or self.keypoint_set.names
            for index, (found, expected) in enumerate(zip(names, self.keypoint_set.names, strict=True)):
                if str(found).lower() != expected.lower():
                    self._remark(
                        "joints have other names than expected",
                        f"{where}: category {key}: expected {expected!r} as joint {index}, got {found!r}",
                    )
        return fitting

    def _read_images(self, content: dict[str, Any]) -> dict[int, ImageEntry]:
        images: dict[int, ImageEntry] = {}
        for index, item in enumerate(list_field(content, "images", str(self.annotation_file))):
            image = self._noted(self._read_entry, item, index, images)
            if image is not None:
                images[image.id] = image
        return images

    def _read_entry(self, item: Any, index: int, images: dict[int, ImageEntry]) -> ImageEntry:
        entry = as_object(item, f"{self.annotation_file}: images[{index}]")
        image_id = integer_field(entry, "id", f"{self.annotation_file}: images[{index}]")
        where = f"{self.annotation_file}: image {image_id}"
        name = text_field(entry, "file_name", where, "the name of a file")
        width, height = integer_field(entry, "width", where), integer_field(entry, "height", where)
        if min(width, height) < 1:
            raise DataError(
                f"{where}: expected a width and height of at least 1, got {width} x {height}", "the image is empty"
            )
        if image_id in images:
            raise DataError(f"{where}: the id appears twice", "an id appears twice")
        return ImageEntry(image_id, self.image_dir / name, width, height)

    def _read_people(self, content: dict[str, Any]) -> list[Person]:
        seen: set[int] = set()
        people = [
            self._noted(self._read_person, item, index, seen)
            for index, item in enumerate(list_field(content, "annotations", str(self.annotation_file)))
        ]
        return in_order_of_images((person for person in people if person is not None), self.images)

    def _read_person(self, item: Any, index: int, seen: set[int]) -> Person | None:
        entry = as_object(item, f"{self.annotation_file}: annotations[{index}]")
        annotation_id = integer_field(entry, "id", f"{self.annotation_file}: annotations[{index}]")
        where = f"{self.annotation_file}: annotation {annotation_id}"
        if annotation_id in seen:
            raise DataError(f"{where}: the id appears twice", "an id appears twice")
        seen.add(annotation_id)
        category = integer_field(entry, "category_id", where, default=self.category_ids[0])
        if category not in self.category_ids:
            if category not in self._categories:
                raise DataError(
                    f"{where}: category_id {category} is not among the categories", "category_id is of no category"
                )
            return None
        # One by one, so that whoever collects mistakes gets all of an annotation.
        image = self._noted(self._image_of, entry, where)
        keypoints = self._noted(self._keypoints, entry, where)
        corner_and_size = self._noted(_box, entry, where)
        area = self._noted(number_field, entry, "area", where, 1.0)
        crowd = self._noted(integer_field, entry, "iscrowd", where, 0)
        if image is None or keypoints is None or corner_and_size is None or area is None or crowd is None or crowd:
            return None
        points, visible = keypoints
        box = clip_annotated_boxes(corner_and_size, (image.width, image.height), convention=self.box_convention)
        if self._on_problem is not None:
            self._remark_odd(entry, where, image, corner_and_size, box)
            self.remark_joints_outside(points, visible, image, where)
        if not (visible.any() and (box[2:] > box[:2]).all() and area > 0):
            return None
        return Person(image.id, box.astype(np.float32), 1.0, annotation_id, points, visible)

    def _image_of(self, entry: dict[str, Any], where: str) -> ImageEntry:
        image_id = integer_field(entry, "image_id", where)
        if image_id not in self.images:
            raise DataError(f"{where}: image_id {image_id} is not among the images", "image_id is of no image")
        return self.images[image_id]

    def _keypoints(self, entry: dict[str, Any], where: str) -> tuple[Array, Array]:
        count = len(self.keypoint_set)
        values = numbers_field(
            entry, "keypoints", where, 3 * count, f"{3 * count} numbers (x, y, visibility of {count} joints)"
        )
        triples = np.array(values, dtype=np.float32).reshape(count, 3)
        return triples[:, :2], np.minimum(triples[:, 2], 1)

    def _remark_odd(
        self, entry: dict[str, Any], where: str, image: ImageEntry, corner_and_size: Array, clipped: Array
    ) -> None:
        """What reading passes over in silence: people who are left out, boxes and marks that look like mistakes."""
        box = xywh_to_xyxy(corner_and_size)
        shown = ", ".join(f"{value:g}" for value in corner_and_size)
        size = f"{image.width} x {image.height} pixels"
        if not corner_and_size[2:].all():
            self._remark("the box is empty", f"{where}: bbox: expected a box with an area, got {shown}", is_error=True)
        elif not (clipped[2:] > clipped[:2]).all():
            self._remark(
                "the box lies outside of its image",
                f"{where}: bbox: expected a box in the image of {size}, got {shown}",
                is_error=True,
            )
        elif (box[:2] < -1).any() or (box[2:] > (image.width + 1, image.height + 1)).any():
            self._remark(
                "the box reaches beyond its image",
                f"{where}: bbox: expected left, top, width, height within {size}, got {shown}",
            )
        if "area" not in entry:
            self._remark("area is missing", f"{where}: area: the field is missing; average precision takes the box's")
        elif entry["area"] <= 0 and corner_and_size[2:].all():
            self._remark(
                "area is not positive",
                f"{where}: area: expected a positive number, got {entry['area']}",
                is_error=True,
            )
        marks = entry["keypoints"][2::3]
        if any(mark not in (0, 1, 2) for mark in marks):
            self._remark(
                "visibility is not 0, 1 or 2",
                f"{where}: keypoints: expected a visibility of 0 (not annotated), 1 (hidden) or 2, got {marks}",
                is_error=True,
            )
        elif not any(marks):
            self._remark("no joint is annotated", f"{where}: keypoints: no joint has a visibility above 0")


def _box(entry: dict[str, Any], where: str) -> Array:
    """``[4]`` float64 (left, top, width, height)."""
    box = numbers_field(entry, "bbox", where, 4, "4 finite numbers (left, top, width, height)")
    if box[2] < 0 or box[3] < 0:
        raise DataError(
            f"{where}: bbox: expected a width and height of at least 0, got {box[2]} x {box[3]}",
            "the box has a negative size",
        )
    return np.array(box, dtype=np.float64)
