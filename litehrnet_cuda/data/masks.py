"""Images with a mask each: where they lie, what the numbers in the masks mean, and reading them."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from litehrnet_cuda.classes import IGNORE_INDEX, ClassSet
from litehrnet_cuda.data.images import read_image
from litehrnet_cuda.data.index_masks import read_index_mask
from litehrnet_cuda.data.json_fields import DataError
from litehrnet_cuda.errors import InputError

Array = np.ndarray[Any, Any]

_UNKNOWN = -1  # a number that no mask should hold


@dataclass(frozen=True)
class MaskedImage:
    """An image and the mask of its pixels' classes.

    Args:
        name: tells it from the others of its part, such as the file's name without its ending.
        image: file.
        mask: file.
    """

    name: str
    image: Path
    mask: Path


class MaskAnnotations:
    """The images of one part of a data set, with a mask each.

    Args:
        place: where they are from, for messages.
        images: in any order.
        class_set: the classes.
        numbers: the index of the class for each number in a mask, or ``IGNORE_INDEX``; numbers that are not in it are
            mistakes. By default indices stand for themselves, and ``IGNORE_INDEX`` too.

    Attributes:
        place, class_set: as above.
        images: sorted by name.

    Raises:
        InputError: if there is no image.
    """

    def __init__(
        self,
        place: str | Path,
        images: Iterable[MaskedImage],
        class_set: ClassSet,
        numbers: Mapping[int, int] | None = None,
    ) -> None:
        self.place = Path(place)
        self.images = sorted(images, key=lambda image: image.name)
        self.class_set = class_set
        if not self.images:
            raise InputError(f"{place}: expected at least one image with a mask, got none")
        if numbers is None:
            numbers = {index: index for index in (*range(len(class_set)), IGNORE_INDEX)}
        self._numbers = dict(numbers)
        self._table = np.full(256, _UNKNOWN, np.int16)
        self._table[list(numbers)] = list(numbers.values())

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.place}: {len(self)} images, {len(self.class_set)} classes)"

    @property
    def digest(self) -> str:
        """What tells whether images and masks are the same ones, in words: how many there are, and a hash over their
        names, the sizes of the masks' files and the classes. Pixels are not looked at, nor where the folder lies."""
        hashed = hashlib.sha256(repr((self.class_set, sorted(self._numbers.items()))).encode())
        for image in self.images:
            size = image.mask.stat().st_size if image.mask.is_file() else None
            hashed.update(repr((image.name, size)).encode())
        return f"{len(self)} images with {len(self.class_set)} classes, {hashed.hexdigest()[:16]}"

    def decoded_bytes(self) -> int:
        """Memory of all images and masks, as if all were as large as the first that can be read."""
        for index in range(len(self)):
            try:
                return self.read_image(index).size // 3 * 4 * len(self)
            except InputError:
                continue
        return 0

    def require_files(self, indices: Iterable[int] | None = None) -> None:
        """Raise :class:`InputError` if a file, or one of some images, is absent: better now than after an hour."""
        for image in self.images if indices is None else [self.images[index] for index in indices]:
            if not image.image.is_file():
                raise DataError(
                    f"{image.image}: image {image.name} of {self.place} is missing; check the folder",
                    "the image is missing",
                )
            if not image.mask.is_file():
                raise DataError(
                    f"{image.mask}: the mask of image {image.name} is missing; check the folder", "the mask is missing"
                )

    def without(self, indices: Collection[int]) -> MaskAnnotations:
        """The same annotations without some of the images."""
        if not indices:
            return self
        rest = copy.copy(self)
        rest.images = [image for index, image in enumerate(self.images) if index not in indices]
        return rest

    def read(self, index: int) -> tuple[Array, Array]:
        """An image and the classes of its pixels.

        Returns:
            ``[H, W, 3]`` uint8 BGR, and ``[H, W]`` uint8: indices of classes, or ``IGNORE_INDEX``

        Raises:
            InputError: if a file is absent or cannot be decoded, their sizes differ, or the mask holds a number that
                stands for nothing.
        """
        image, labels = self.read_image(index), self.read_labels(index)
        if image.shape[:2] != labels.shape:
            raise DataError(
                f"{self.images[index].mask}: expected a mask of {image.shape[1]}x{image.shape[0]} pixels as "
                f"{self.images[index].image.name} has, got {labels.shape[1]}x{labels.shape[0]}",
                "the mask has another size than its image",
            )
        return image, labels

    def read_image(self, index: int) -> Array:
        """The image alone, see :meth:`read`."""
        try:
            return read_image(self.images[index].image, upright=False)
        except InputError as error:
            missing = not self.images[index].image.is_file()
            raise DataError(str(error), "the image is missing" if missing else "the image cannot be decoded") from None

    def read_labels(self, index: int) -> Array:
        """The classes alone, see :meth:`read`."""
        path = self.images[index].mask
        try:
            mask = read_index_mask(path)
        except InputError as error:
            raise DataError(
                str(error), "the mask cannot be decoded" if path.is_file() else "the mask is missing"
            ) from None
        labels = self._table[mask]
        if (labels == _UNKNOWN).any():
            wrong = np.unique(mask[labels == _UNKNOWN]).tolist()
            listed = ", ".join(map(str, wrong[:5])) + (", ..." if len(wrong) > 5 else "")
            raise DataError(
                f"{path}: expected the numbers {_ranges(self._numbers)}, got {listed} too",
                "the mask holds a number that is no class",
            )
        return labels.astype(np.uint8)


def _ranges(numbers: Collection[int]) -> str:
    """``0 to 18, 255``"""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and parts[-1][-1] == number - 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{part[0]} to {part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)


def count_pixels(labels: Sequence[Array], classes: int) -> Array:
    """How many pixels there are of each class, ``[classes]`` int64; ignored ones are left out."""
    counts = np.zeros(256, np.int64)
    for one in labels:
        counts += np.bincount(one.reshape(-1), minlength=256)
    return np.asarray(counts[:classes])
