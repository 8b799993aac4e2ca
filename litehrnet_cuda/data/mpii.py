"""Reader of MPII's annotations as JSON, the form that the official repository and mmpose converted them to.

A list of people, each ``{"image", "center": [x, y], "scale", "joints": [[x, y], ...], "joints_vis": [0 or 1, ...]}``.
Positions are counted from 1, as MPII does; here they become positions counted from 0. There are no boxes: a person is
a centre and a height, of which :func:`~litehrnet_cuda.data.transforms.mpii_boxes` makes a box.

The metric, PCKh, needs the sizes of heads. They come from a field ``head_size`` of each person, or from the file that
is distributed with the validation people: ``mpii_gt_val.mat`` beside ``mpii_val.json``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from litehrnet_cuda.data.annotations import ImageEntry, Person, PoseAnnotations, Problem, in_order_of_images
from litehrnet_cuda.data.json_fields import (
    DataError,
    as_object,
    is_number,
    kind_of,
    list_field,
    number_field,
    numbers_field,
    read_json,
    text_field,
)
from litehrnet_cuda.data.transforms import mpii_boxes
from litehrnet_cuda.keypoints import MPII, MPII_HEAD_BIAS, KeypointSet

Array = np.ndarray[Any, Any]


class MpiiKeypoints(PoseAnnotations):
    """The images and people of one annotation file.

    People without an annotated joint or without a centre, which MPII writes as (-1, -1), are left out. The number of a
    person is its place in the list, from 0.

    Args:
        annotation_file: such as ``annotations/mpii_train.json``.
        image_dir: folder that the ``image`` of the people is relative to.
        keypoint_set: what the joints are.
        on_problem: see :class:`~litehrnet_cuda.data.annotations.PoseAnnotations`.

    Raises:
        InputError: if the file or the folder is absent, the file has a mistake, or there is a file of head sizes that
            cannot be read.
    """

    def __init__(
        self,
        annotation_file: str | Path,
        image_dir: str | Path,
        keypoint_set: KeypointSet = MPII,
        *,
        on_problem: Callable[[Problem], None] | None = None,
    ) -> None:
        super().__init__(annotation_file, image_dir, keypoint_set, on_problem)
        content = read_json(self.annotation_file)
        self._noted(self._require_image_dir)
        if not isinstance(content, list):
            raise DataError(
                f"{self.annotation_file}: expected a list of people, got {kind_of(content)}", "the file cannot be read"
            )
        self.images = {}
        self._ids: dict[str, int] = {}
        head_sizes = self._noted(read_head_sizes, self.annotation_file, len(content))
        read = [
            self._noted(self._read_person, item, index, None if head_sizes is None else float(head_sizes[index]))
            for index, item in enumerate(content)
        ]
        self.people = in_order_of_images((person for person in read if person is not None), self.images)

    def _read_person(self, item: Any, index: int, head_size: float | None) -> Person | None:
        where = f"{self.annotation_file}: person {index}"
        entry = as_object(item, where)
        count = len(self.keypoint_set)
        # One by one, so that whoever collects mistakes gets all of a person.
        name = self._noted(text_field, entry, "image", where, "the name of a file")
        center = self._noted(numbers_field, entry, "center", where, 2, "2 finite numbers (x, y)")
        scale = self._noted(number_field, entry, "scale", where)
        points = self._noted(_points, entry, where, count)
        marks = self._noted(numbers_field, entry, "joints_vis", where, count, f"{count} numbers, 0 or 1")
        own_size = self._noted(number_field, entry, "head_size", where, head_size or 0.0)
        if name is None or center is None or scale is None or points is None or marks is None or own_size is None:
            return None
        if any(mark not in (0, 1) for mark in marks):
            raise DataError(
                f"{where}: joints_vis: expected {count} numbers, 0 or 1, got {marks}", "visibility is not 0 or 1"
            )
        if "head_size" in entry and not own_size > 0:
            raise DataError(
                f"{where}: head_size: expected a positive number, got {own_size:g}", "head_size is not positive"
            )
        image = self._image_of(name)
        if center[0] == -1:
            self._remark("there is no centre", f"{where}: center: expected the middle of a person, got -1")
            return None
        if not scale > 0:
            raise DataError(f"{where}: scale: expected a positive number, got {scale:g}", "scale is not positive")
        visible = np.array(marks, dtype=np.float32)
        if not visible.any():
            self._remark("no joint is annotated", f"{where}: joints_vis: no joint is marked with 1")
            return None
        box = mpii_boxes(np.array(center), np.array(scale)).astype(np.float32)
        return Person(image.id, box, 1.0, index, points, visible, own_size or None)

    def _image_of(self, name: str) -> ImageEntry:
        """The entry of an image, numbered in the order in which the file names them, from 1; its size is not known."""
        image_id = self._ids.setdefault(name, len(self._ids) + 1)
        return self.images.setdefault(image_id, ImageEntry(image_id, self.image_dir / name, 0, 0))


def head_size_file(annotation_file: Path) -> Path:
    """Where the head sizes of the people of ``mpii_SPLIT.json`` belong: ``mpii_gt_SPLIT.mat`` in the same folder."""
    prefix, _, split = annotation_file.stem.partition("_")
    return annotation_file.with_name(f"{prefix}_gt_{split}.mat")


def read_head_sizes(annotation_file: Path, count: int) -> Array | None:
    """The head sizes of the people of ``mpii_SPLIT.json`` in pixels, ``[count]`` float64.

    They are read from ``mpii_gt_SPLIT.mat`` in the same folder, whose ``headboxes_src`` is ``[2, 2, count]``: the first
    and the last corner of each head.

    Returns:
        None if there is no such file.

    Raises:
        InputError: if it cannot be read, or is of another number of people.
    """
    file = head_size_file(annotation_file)
    if not file.is_file():
        return None
    kind = "head sizes cannot be read"
    try:
        from scipy.io import loadmat
    except ImportError:
        raise DataError(
            f"{file}: reading MPII's head sizes needs SciPy: pip install 'litehrnet_cuda[mpii]'", kind
        ) from None
    try:
        corners = np.asarray(loadmat(file)["headboxes_src"], dtype=np.float64)
    except Exception as error:  # whatever SciPy says of a file that is none of MATLAB's
        raise DataError(f"{file}: expected a MATLAB file with headboxes_src ({error})", kind) from None
    if corners.shape != (2, 2, count):
        raise DataError(
            f"{file}: headboxes_src: expected shape {[2, 2, count]}, two corners of each of the {count} people of"
            f" {annotation_file.name}, got {list(corners.shape)}",
            kind,
        )
    return np.asarray(MPII_HEAD_BIAS * np.linalg.norm(corners[1] - corners[0], axis=0))


def _points(entry: dict[str, Any], where: str, count: int) -> Array:
    """``[K, 2]`` float32, counted from 0."""
    meaning = f"{count} pairs of finite numbers (x, y)"
    kind = f"joints is not {meaning}"
    values = list_field(entry, "joints", where)
    if len(values) != count:
        raise DataError(f"{where}: joints: expected {meaning}, got {len(values)} values", kind)
    for value in values:
        if not (isinstance(value, list) and len(value) == 2 and all(map(is_number, value))):
            raise DataError(f"{where}: joints: expected {meaning}, got {value!r} among them", kind)
    return np.array(values, dtype=np.float32) - 1
