"""What all readers of annotated people have in common: images, people, and mistakes that are raised or collected."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from litehrnet_cuda.data.images import read_image
from litehrnet_cuda.data.json_fields import DataError
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import KeypointSet

Array = np.ndarray[Any, Any]
T = TypeVar("T")
Annotations = TypeVar("Annotations", bound="PoseAnnotations")

_UNKNOWN_SIZE = (1920, 1080)  # of an image whose annotations don't tell; that of most of MPII's, or more


@dataclass(frozen=True)
class ImageEntry:
    """One image of the annotation file; ``path`` is where it should lie. Width and height are 0 if unknown."""

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
    head_size: float | None = None  # in pixels, where the annotations tell: PCKh is measured in it


@dataclass(frozen=True)
class Problem:
    """Something about a data set that its owner wants to know.

    Args:
        kind: what problems of this kind have in common.
        message: names the file, the place in it, what was expected and what came.
        is_error: whether it has to be mended; what is not an error may be meant.
    """

    kind: str
    message: str
    is_error: bool = True


class PoseAnnotations:
    """The images and people of one annotation file; :class:`~litehrnet_cuda.data.coco.CocoKeypoints` and
    :class:`~litehrnet_cuda.data.mpii.MpiiKeypoints` read them.

    Args:
        annotation_file: the file.
        image_dir: folder that the names of the images are relative to.
        keypoint_set: what the K joints are.
        on_problem: called with every problem: what it concerns is left out, and the rest is read. Without it the first
            mistake is raised, and what is only odd is not looked for.

    Attributes:
        annotation_file, image_dir, keypoint_set: as above.
        images: image id -> :class:`ImageEntry`, in the order of the file.
        people: all usable :class:`Person` of the file, those of one image in sequence.

    Raises:
        InputError: if the file or the folder is absent, or the file has a mistake.
    """

    images: dict[int, ImageEntry]
    people: list[Person]

    def __init__(
        self,
        annotation_file: str | Path,
        image_dir: str | Path,
        keypoint_set: KeypointSet,
        on_problem: Callable[[Problem], None] | None = None,
    ) -> None:
        self.annotation_file = Path(annotation_file)
        self.image_dir = Path(image_dir)
        self.keypoint_set = keypoint_set
        self._on_problem = on_problem

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.annotation_file.name}: {len(self.images)} images, {len(self.people)} people,"
            f" {len(self.keypoint_set)} joints of {self.keypoint_set.name!r})"
        )

    @property
    def decoded_bytes(self) -> int:
        """Memory of all images as :class:`PoseDataset` caches them, four bytes a pixel; those of unknown size count as
        full HD."""
        sizes = ((image.width, image.height) if image.width else _UNKNOWN_SIZE for image in self.images.values())
        return sum(4 * width * height for width, height in sizes)

    @property
    def digest(self) -> str:
        """What tells whether annotations are the same ones, in words: how many there are, and a hash over all that is
        read of them. Pixels are not looked at, nor where the folder lies."""
        hashed = hashlib.sha256(repr((type(self).__name__, self.keypoint_set)).encode())
        folder = f"{self.image_dir.as_posix()}/"
        for entry in self.images.values():
            name = entry.path.as_posix().removeprefix(folder)
            hashed.update(repr((entry.id, name, entry.width, entry.height)).encode())
        for person in self.people:
            hashed.update(repr((person.image_id, person.annotation_id, person.head_size)).encode())
            for values in (person.box, person.keypoints, person.visible):
                hashed.update(np.ascontiguousarray(values).tobytes())
        return (
            f"{len(self.people)} people with {len(self.keypoint_set)} joints in {len(self.images)} images, "
            f"{hashed.hexdigest()[:16]}"
        )

    def without_images(self: Annotations, image_ids: Collection[int]) -> Annotations:
        """The same annotations without some of the images and the people in them."""
        if not image_ids:
            return self
        rest = copy.copy(self)
        rest.images = {number: entry for number, entry in self.images.items() if number not in image_ids}
        rest.people = [person for person in self.people if person.image_id not in image_ids]
        return rest

    def require_images(self, image_ids: Iterable[int]) -> None:
        """Raise :class:`InputError` if the file of one of these images is absent: better now than after an hour."""
        for image_id in dict.fromkeys(image_ids):
            if not self.images[image_id].path.is_file():
                raise self._missing(image_id)

    def read_image(self, image_id: int) -> Array:
        """The pixels of an image, ``[H, W, 3]`` uint8 BGR.

        Raises:
            InputError: if the file is absent, ends too early, cannot be decoded, or has another size than the
                annotation file says.
        """
        entry = self.images[image_id]
        try:
            image = read_image(entry.path, upright=False)
        except InputError as error:
            if not entry.path.is_file():
                raise self._missing(image_id) from None
            raise DataError(str(error), "the image cannot be decoded") from None
        if entry.width and image.shape[:2] != (entry.height, entry.width):
            raise DataError(
                f"{entry.path}: expected {entry.width} x {entry.height} pixels as {self.annotation_file.name} says for"
                f" image {image_id}, got {image.shape[1]} x {image.shape[0]}",
                "the image has another size than annotated",
            )
        return image

    def _missing(self, image_id: int) -> DataError:
        path = self.images[image_id].path
        return DataError(
            f"{path}: image {image_id} of {self.annotation_file.name} is missing; check the image folder",
            "the image is missing",
        )

    def _require_image_dir(self) -> None:
        if not self.image_dir.is_dir():
            raise DataError(
                f"{self.image_dir}: expected the folder of the images, but there is no such folder",
                "the folder of the images is missing",
            )

    def _noted(self, read: Callable[..., T], *arguments: Any) -> T | None:
        """What ``read`` returns; None where it finds a mistake that was reported instead of raised."""
        try:
            return read(*arguments)
        except DataError as error:
            if self._on_problem is None:
                raise
            self._on_problem(Problem(error.kind, str(error)))
            return None

    def _remark(self, kind: str, message: str, *, is_error: bool = False) -> None:
        """Tells whoever wants to know everything about something that stops no reading."""
        if self._on_problem is not None:
            self._on_problem(Problem(kind, message, is_error))

    def remark_joints_outside(self, points: Array, visible: Array, image: ImageEntry, where: str) -> None:
        """Tells ``on_problem`` about annotated joints outside of their image.

        They may lie on its edge, which some tools count as width and others as width - 1.
        """
        outside = (visible > 0) & ((points < -1) | (points > (image.width + 1, image.height + 1))).any(axis=1)
        for joint in np.flatnonzero(outside):
            x, y = points[joint]
            self._remark(
                "a joint lies outside of its image",
                f"{where}: {self.keypoint_set.names[joint]}: expected a place in the image of {image.width} x"
                f" {image.height} pixels, got {x:g}, {y:g}",
            )


def in_order_of_images(people: Iterable[Person], images: Iterable[int]) -> list[Person]:
    """The people, those of one image in sequence."""
    by_image: dict[int, list[Person]] = {image_id: [] for image_id in images}
    for person in people:
        by_image[person.image_id].append(person)
    return [person for of_image in by_image.values() for person in of_image]
