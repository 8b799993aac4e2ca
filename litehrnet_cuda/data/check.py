"""Everything that can be said about a data set before anybody trains on it.

What a reader would refuse is found by the reader itself, which reports instead of raising. Here the images are looked
at, and what only all people together tell: duplicates, one picture in both parts, and flip pairs that look swapped.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from litehrnet_cuda.data.annotations import ImageEntry, PoseAnnotations, Problem
from litehrnet_cuda.data.datasets import Split
from litehrnet_cuda.data.json_fields import DataError
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import KeypointSet

Array = np.ndarray[Any, Any]

_LEAST_PEOPLE = 20  # fewer say nothing about left and right


@dataclass
class SplitReport:
    """What was found in one part of a data set; ``annotations`` is None if the file cannot be read at all."""

    annotations: PoseAnnotations | None = None
    problems: list[Problem] = field(default_factory=list)
    digests: dict[str, int] = field(default_factory=dict)  # of the readable images' files -> image id

    @property
    def errors(self) -> int:
        """How many problems have to be mended."""
        return sum(problem.is_error for problem in self.problems)


def check_splits(
    splits: Mapping[str, Split], *, decode: bool = True, threads: int = 1, progress: Callable[[str, int], None]
) -> dict[str, SplitReport]:
    """Reads the parts of a data set and collects all problems.

    Args:
        splits: the parts by name.
        decode: read every image; otherwise only look whether its file is there.
        threads: that decode images.
        progress: called with the name of the part and the number of its images as each part's images begin, and then
            with 0 after every image.
    """
    reports = {name: check_split(name, split, decode, threads, progress) for name, split in splits.items()}
    seen: dict[str, tuple[str, int]] = {}
    for name, report in reports.items():
        for digest, image_id in report.digests.items():
            if digest in seen and report.annotations is not None:
                other, other_id = seen[digest]
                file = report.annotations.annotation_file
                message = f"{file}: image {image_id}: the same picture is image {other_id} of {other}"
                report.problems.append(Problem("a picture is in two parts of the data", message, is_error=False))
            seen.setdefault(digest, (name, image_id))
    return reports


def check_split(
    name: str, split: Split, decode: bool, threads: int, progress: Callable[[str, int], None]
) -> SplitReport:
    """Reads one part of a data set and collects its problems; see :func:`check_splits`."""
    report = SplitReport()
    try:
        annotations = split.read(on_problem=report.problems.append)
    except InputError as error:  # the file as a whole
        kind = error.kind if isinstance(error, DataError) else "the file cannot be read"
        report.problems.append(Problem(kind, str(error)))
        return report
    report.annotations = annotations
    progress(name, len(annotations.images))
    if annotations.image_dir.is_dir():  # else that was said, and each image need not be
        _check_images(annotations, report, decode, threads, lambda: progress(name, 0))
    report.problems += _duplicates(annotations)
    report.problems += check_flip_pairs(annotations)
    if not annotations.people:
        message = f"{annotations.annotation_file}: expected at least one person with annotated joints, got none"
        report.problems.append(Problem("there is nobody", message))
    return report


def _check_images(
    annotations: PoseAnnotations, report: SplitReport, decode: bool, threads: int, done: Callable[[], None]
) -> None:
    file = annotations.annotation_file

    def look(image_id: int) -> tuple[int, str | None, InputError | None]:
        image = annotations.images[image_id]
        try:
            if not decode:
                annotations.require_images([image_id])
                return image_id, None, None
            height, width = annotations.read_image(image_id).shape[:2]
            sizes[image_id] = replace(image, width=width, height=height)
            return image_id, hashlib.blake2b(image.path.read_bytes(), digest_size=16).hexdigest(), None
        except InputError as error:
            return image_id, None, error

    sizes: dict[int, ImageEntry] = {}
    pool = ThreadPoolExecutor(threads)  # OpenCV decodes without Python's lock
    try:
        for image_id, digest, error in pool.map(look, annotations.images):
            done()
            if isinstance(error, DataError):
                report.problems.append(Problem(error.kind, str(error)))
            elif digest in report.digests:
                message = f"{file}: image {image_id}: the same picture is image {report.digests[digest]}"
                report.problems.append(Problem("a picture appears twice", message, is_error=False))
            elif digest is not None:
                report.digests[digest] = image_id
    finally:
        pool.shutdown(cancel_futures=True)  # whoever interrupts need not wait for the images that are left
    for person in annotations.people:
        if not annotations.images[person.image_id].width and person.image_id in sizes:  # else the reader has told
            where = f"{file}: person {person.annotation_id}"
            annotations.remark_joints_outside(person.keypoints, person.visible, sizes[person.image_id], where)


def _duplicates(annotations: PoseAnnotations) -> Iterator[Problem]:
    file = annotations.annotation_file
    names = Counter(image.path for image in annotations.images.values())
    for image in annotations.images.values():
        if names[image.path] > 1:
            message = f"{file}: image {image.id}: {image.path.name} is the file of {names[image.path]} images"
            yield Problem("images share a file", message, is_error=False)
    first: dict[tuple[int, bytes], int | None] = {}
    for person in annotations.people:
        key = (person.image_id, (person.keypoints * person.visible[:, None]).tobytes() + person.visible.tobytes())
        if key in first:
            message = f"{file}: annotation {person.annotation_id}: its joints are those of annotation {first[key]}"
            yield Problem("a person appears twice", message, is_error=False)
        first.setdefault(key, person.annotation_id)


def check_flip_pairs(annotations: PoseAnnotations) -> Iterator[Problem]:
    """Warnings about joints whose names say left and right but which are no pair, and about pairs whose left joint lies
    where the other pairs have their right one: then the two are swapped in the annotations, or in the joints' order."""
    joints = annotations.keypoint_set
    for a, b in _pairs_by_name(joints):
        if joints.flip_indices[a] != b:
            message = f"{annotations.annotation_file}: expected the flip pair {joints.names[a]}, {joints.names[b]}"
            yield Problem("left and right are no flip pair", message, is_error=False)
    if len(joints.flip_pairs) < 2 or not annotations.people:
        return
    pairs = np.array(joints.flip_pairs)
    points = np.stack([person.keypoints[:, 0] for person in annotations.people])
    visible = np.stack([person.visible for person in annotations.people]) > 0
    # Which way each pair points, [people, pairs]: 1, -1, or 0 where a joint is missing.
    way = np.sign(points[:, pairs[:, 0]] - points[:, pairs[:, 1]]) * visible[:, pairs].all(axis=-1)
    others = np.sign(way.sum(axis=1, keepdims=True) - way)
    for index, (a, b) in enumerate(pairs):
        known = (way[:, index] != 0) & (others[:, index] != 0)
        count = int(known.sum())
        if count < _LEAST_PEOPLE:
            continue
        agreement = float((way[known, index] == others[known, index]).mean())
        # Less than half even with three standard deviations of tossing a coin: not by chance.
        if agreement + 3 * 0.5 / np.sqrt(count) < 0.5:
            yield Problem(
                "a flip pair looks swapped",
                f"{annotations.annotation_file}: {joints.names[a]}, {joints.names[b]}: lie the other way round than the"
                f" other pairs in {1 - agreement:.0%} of {count} people",
                is_error=False,
            )


def _pairs_by_name(joints: KeypointSet) -> Iterator[tuple[int, int]]:
    places = {name.lower(): index for index, name in enumerate(joints.names)}
    for name, index in places.items():
        partner = places.get(name.replace("left", "right", 1)) if "left" in name else None
        if partner is not None:
            yield index, partner


@dataclass(frozen=True)
class SplitSummary:
    """Figures of one part of a data set.

    Args:
        images: in the file; ``without_people`` of them have nobody to learn from.
        people: that can be learnt from.
        joints: how many people have each joint, by name.
        box_sizes: (width, height) in pixels that 5, 50 and 95 percent of the boxes stay below.
    """

    images: int
    without_people: int
    people: int
    joints: dict[str, int]
    box_sizes: tuple[tuple[float, float], ...]


def summarize(annotations: PoseAnnotations) -> SplitSummary:
    """The figures of one part of a data set."""
    people, names = annotations.people, annotations.keypoint_set.names
    visible = np.stack([person.visible for person in people]) if people else np.zeros((0, len(names)))
    boxes = np.stack([person.box for person in people]) if people else np.full((1, 4), np.nan)
    sizes = np.percentile(boxes[:, 2:] - boxes[:, :2], (5, 50, 95), axis=0)
    return SplitSummary(
        images=len(annotations.images),
        without_people=len(annotations.images.keys() - {person.image_id for person in people}),
        people=len(people),
        joints=dict(zip(names, (visible > 0).sum(axis=0).tolist(), strict=True)),
        box_sizes=tuple((float(width), float(height)) for width, height in sizes),
    )


def by_kind(problems: list[Problem]) -> dict[tuple[str, bool], list[Problem]]:
    """The problems by (kind, whether it is an error): errors first, then in the order in which they were found."""
    groups: dict[tuple[str, bool], list[Problem]] = defaultdict(list)
    for problem in problems:
        groups[problem.kind, problem.is_error].append(problem)
    return dict(sorted(groups.items(), key=lambda group: not group[0][1]))
