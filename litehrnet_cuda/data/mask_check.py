"""Everything that can be said about images and masks before anybody trains on them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from litehrnet_cuda.classes import ClassSet
from litehrnet_cuda.data.annotations import Problem
from litehrnet_cuda.data.json_fields import DataError
from litehrnet_cuda.data.mask_datasets import MaskSplit
from litehrnet_cuda.data.masks import MaskAnnotations, count_pixels
from litehrnet_cuda.errors import InputError

Array = np.ndarray[Any, Any]


@dataclass
class MaskReport:
    """What was found in one part of a data set; ``annotations`` is None if it cannot be read at all.

    Args:
        annotations: the part.
        problems: what is wrong or odd.
        pixels: how many are of each class; 0 for all where masks were not read.
        images: how many images have each class.
        digests: of the files of images -> number of the image.
    """

    annotations: MaskAnnotations | None = None
    problems: list[Problem] = field(default_factory=list)
    pixels: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    images: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    digests: dict[str, int] = field(default_factory=dict)

    @property
    def errors(self) -> int:
        """How many problems have to be mended."""
        return sum(problem.is_error for problem in self.problems)


def check_mask_splits(
    splits: Mapping[str, MaskSplit], *, decode: bool = True, threads: int = 1, progress: Callable[[str, int], None]
) -> dict[str, MaskReport]:
    """Reads the parts of a data set and collects all problems.

    Args:
        splits: the parts by name.
        decode: read every image and mask; otherwise only look whether the files are there.
        threads: that decode images.
        progress: called with the name of the part and the number of its images as each part's images begin, and then
            with 0 after every image.
    """
    reports: dict[str, MaskReport] = {}
    seen: dict[str, tuple[str, str]] = {}
    classes = _classes(splits)
    for name, split in splits.items():
        report = reports[name] = _check(name, split, classes, decode, threads, progress)
        for digest, index in report.digests.items():
            assert report.annotations is not None
            image = report.annotations.images[index]
            if digest in seen:
                other, other_name = seen[digest]
                message = f"{image.image}: the same picture is image {other_name} of {other}"
                report.problems.append(Problem("a picture is in two parts of the data", message, is_error=False))
            seen.setdefault(digest, (name, image.name))
    return reports


def _classes(splits: Mapping[str, MaskSplit]) -> ClassSet | None:
    """The classes of data that do not name them: as many as there are in the masks that can be read."""
    if any(split.class_set is not None for split in splits.values()):
        return None
    return ClassSet.numbered(max(split.most_classes() for split in splits.values()))


def _check(
    name: str,
    split: MaskSplit,
    classes: ClassSet | None,
    decode: bool,
    threads: int,
    progress: Callable[[str, int], None],
) -> MaskReport:
    report = MaskReport()
    try:
        annotations = report.annotations = split.read(classes)
    except InputError as refusal:  # the part as a whole
        report.problems.append(Problem("the data cannot be read", str(refusal)))
        return report
    count = len(annotations.class_set)
    report.pixels, report.images = np.zeros(count, np.int64), np.zeros(count, np.int64)
    progress(name, len(annotations))

    def look(index: int) -> tuple[int, Array | None, str | None, InputError | None]:
        try:
            if not decode:
                annotations.require_files([index])
                return index, None, None, None
            _, labels = annotations.read(index)
            content = annotations.images[index].image.read_bytes()
            return index, count_pixels([labels], count), hashlib.blake2b(content, digest_size=16).hexdigest(), None
        except InputError as mistake:
            return index, None, None, mistake

    pool = ThreadPoolExecutor(threads)  # OpenCV decodes without Python's lock
    try:
        for index, pixels, digest, error in pool.map(look, range(len(annotations))):
            progress(name, 0)
            _note(report, annotations, index, pixels, digest, error)
    finally:
        pool.shutdown(cancel_futures=True)  # whoever interrupts need not wait for the images that are left
    if decode and not report.errors:
        for class_name, pixels_of_class in zip(annotations.class_set.names, report.pixels, strict=True):
            if not pixels_of_class:
                message = f"{annotations.place}: {name}: no pixel is of the class {class_name}"
                report.problems.append(Problem("a class is nowhere", message, is_error=False))
    return report


def _note(
    report: MaskReport,
    annotations: MaskAnnotations,
    index: int,
    pixels: Array | None,
    digest: str | None,
    error: InputError | None,
) -> None:
    """Adds what was found in one image to a report."""
    image = annotations.images[index]
    if error is not None:
        kind = error.kind if isinstance(error, DataError) else "other mistakes"
        report.problems.append(Problem(kind, str(error)))
    if pixels is not None:
        report.pixels += pixels
        report.images += pixels > 0
        if not pixels.any():
            message = f"{image.mask}: expected the class of at least one pixel, got none"
            report.problems.append(Problem("nothing is labelled", message, is_error=False))
    if digest in report.digests:
        other = annotations.images[report.digests[digest]].name
        message = f"{image.image}: the same picture is image {other}"
        report.problems.append(Problem("a picture appears twice", message, is_error=False))
    elif digest is not None:
        report.digests[digest] = index
