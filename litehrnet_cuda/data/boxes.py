"""Boxes of people for a set of images or videos, from a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

from litehrnet_cuda.data.json_fields import is_number, read_json
from litehrnet_cuda.errors import InputError

FORMATS = (
    'an object {"street.jpg": [[left, top, right, bottom], ...], ...} (of a video {"street.mp4": {"0": [[left, top, '
    'right, bottom], ...], ...}} by frame), a list of detections {"file_name", "bbox": [left, top, width, height], '
    '"score"} (of a video with "frame"), or a COCO annotation file'
)


@dataclass(frozen=True)
class ImageBoxes:
    """The boxes of one image, ``[P][4]`` (left, top, right, bottom), and their scores ``[P]``.

    For a video, ``frames`` has those of frames by number, from 0; where it is empty, the boxes are those of all frames.
    """

    boxes: list[list[float]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    frames: dict[int, ImageBoxes] = field(default_factory=dict)

    def of_frame(self, index: int) -> ImageBoxes | None:
        """The boxes of a frame, or None if only other frames are named."""
        return self.frames.get(index) if self.frames else self


@dataclass(frozen=True)
class BoxTable:
    """The boxes of many images, by the names that their file gives the images.

    Args:
        images: by name.
        of_annotations: whether they are annotated boxes, which are of images that nobody has turned.
    """

    images: dict[str, ImageBoxes]
    of_annotations: bool = False

    def of(self, image: Path) -> ImageBoxes | None:
        """The boxes of an image or video file, or None if no entry has its name.

        Of several entries with the file's name, the one counts that shares most folders with its path, so that
        ``left/1.jpg`` and ``right/1.jpg`` are told apart; the folders of an entry that stands alone may differ.

        Raises:
            InputError: if several entries fit equally well.
        """
        names = self._by_file_name.get(image.name, [])
        if not names:
            return None
        parts = image.absolute().parts
        fits = [_shared(parts, PurePath(name).parts) for name in names]
        best = [name for name, fit in zip(names, fits, strict=True) if fit == max(fits)]
        if len(best) > 1:
            raise InputError(f"{image}: expected boxes for it under one name, got them under {' and '.join(best)}")
        return self.images[best[0]]

    @cached_property
    def _by_file_name(self) -> dict[str, list[str]]:
        names: dict[str, list[str]] = {}
        for name in self.images:
            names.setdefault(PurePath(name).name, []).append(name)
        return names


def read_boxes(path: str | Path) -> BoxTable:
    """Boxes by image or video.

    Three forms are understood: an object from name to a list of (left, top, right, bottom), for a video also to an
    object from the frame's number to such a list; a list of detections ``{"file_name", "bbox": [left, top, width,
    height], "score"}``, for a video with ``"frame"``; and COCO's annotation file, whose people count with score 1,
    crowds and empty boxes left out.

    Raises:
        InputError: if the file is absent, not JSON, of none of these forms, or has a box that is not finite or is
            empty, naming the entry.
    """
    path = Path(path)
    content = read_json(path)
    found: dict[str, ImageBoxes] = {}
    of_annotations = isinstance(content, dict) and {"images", "annotations"} <= content.keys()
    if of_annotations:
        _read_annotations(content, path, found)
    elif isinstance(content, dict):
        for name, boxes in content.items():
            entry = found.setdefault(name, ImageBoxes())
            if isinstance(boxes, dict) and all(key.isdecimal() and len(key) < 10 for key in boxes):
                for frame, of_frame in boxes.items():
                    where = f"{path}: {name}: frame {frame}"
                    _read_list(of_frame, where, entry.frames.setdefault(int(frame), ImageBoxes()))
            else:
                _read_list(boxes, f"{path}: {name}", entry)
    elif isinstance(content, list):
        for index, detection in enumerate(_objects(content, str(path))):
            where = f"{path}: detection {index}"
            name, score, frame = detection.get("file_name"), detection.get("score", 1.0), detection.get("frame")
            if not isinstance(name, str) or not name:
                raise InputError(f"{where}: file_name: expected the name of an image, got {name!r:.80}")
            if not is_number(score):
                raise InputError(f"{where}: score: expected a finite number, got {score!r:.80}")
            entry = found.setdefault(name, ImageBoxes())
            if frame is not None:
                if not isinstance(frame, int) or isinstance(frame, bool) or frame < 0:
                    raise InputError(f"{where}: frame: expected the number of a frame, from 0, got {frame!r:.80}")
                entry = entry.frames.setdefault(frame, ImageBoxes())
            _add(entry, _to_corners(_four_numbers(detection.get("bbox"), where)), float(score), where)
        for name, entry in found.items():
            if entry.frames and entry.boxes:
                raise InputError(f"{path}: {name}: expected a frame in each of its detections, or in none")
    else:
        raise InputError(f"{path}: expected {FORMATS}; got {content!r:.40}")
    return BoxTable(found, of_annotations)


def _shared(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """How many of the last parts of two paths are equal."""
    count = 0
    for a, b in zip(reversed(one), reversed(other), strict=False):
        if a != b:
            break
        count += 1
    return count


def _read_annotations(content: dict[str, Any], path: Path, found: dict[str, ImageBoxes]) -> None:
    names: dict[int, str] = {}
    for index, image in enumerate(_objects(content["images"], f"{path}: images")):
        number, name = image.get("id"), image.get("file_name")
        if not isinstance(number, int) or not isinstance(name, str) or not name:
            raise InputError(f"{path}: images[{index}]: expected an id and a file_name, got {image!r:.80}")
        names[number] = name
        found.setdefault(name, ImageBoxes())
    categories = _objects(content.get("categories", []), f"{path}: categories")
    people = [entry.get("id") for entry in categories if "keypoints" in entry or entry.get("name") == "person"]
    for index, annotation in enumerate(_objects(content["annotations"], f"{path}: annotations")):
        where = f"{path}: annotation {annotation.get('id', index)}"
        number = annotation.get("image_id")
        if not isinstance(number, int) or number not in names:
            raise InputError(f"{where}: image_id: expected that of one of the images, got {number!r:.80}")
        box = _to_corners(_four_numbers(annotation.get("bbox"), where))
        of_person = not people or annotation.get("category_id") in people
        if of_person and not annotation.get("iscrowd") and box[0] < box[2] and box[1] < box[3]:
            _add(found[names[number]], box, 1.0, where)


def _read_list(boxes: Any, where: str, entry: ImageBoxes) -> None:
    if not isinstance(boxes, list):
        raise InputError(f"{where}: expected a list of boxes, got {boxes!r:.80}")
    for index, box in enumerate(boxes):
        _add(entry, _four_numbers(box, f"{where}: box {index}"), 1.0, f"{where}: box {index}")


def _add(entry: ImageBoxes, box: list[float], score: float, where: str) -> None:
    left, top, right, bottom = box
    if not (left < right and top < bottom):
        raise InputError(f"{where}: expected a box with left < right and top < bottom, got {box}")
    entry.boxes.append(box)
    entry.scores.append(score)


def _four_numbers(box: Any, where: str) -> list[float]:
    if not (isinstance(box, list) and len(box) == 4 and all(map(is_number, box))):
        raise InputError(f"{where}: expected a box of four finite numbers, got {box!r:.80}")
    return [float(value) for value in box]


def _objects(values: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise InputError(f"{where}: expected a list of objects")
    return values


def _to_corners(box: list[float]) -> list[float]:
    """(left, top, width, height) to (left, top, right, bottom)."""
    return [box[0], box[1], box[0] + box[2], box[1] + box[3]]
