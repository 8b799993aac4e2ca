"""Boxes of people for a set of images, from a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from litehrnet_cuda.data.coco import read_json
from litehrnet_cuda.errors import InputError

FORMATS = """\
{"street.jpg": [[left, top, right, bottom], ...], ...}     or a COCO annotation file, or COCO detections with
[{"file_name": "street.jpg", "bbox": [left, top, width, height], "score": 0.9}, ...]"""


@dataclass(frozen=True)
class ImageBoxes:
    """The boxes of one image, ``[P][4]`` (left, top, right, bottom), and their scores ``[P]``."""

    boxes: list[list[float]]
    scores: list[float]


def read_boxes(path: str | Path) -> dict[str, ImageBoxes]:
    """Boxes by name of image.

    Three forms are understood: an object from name to a list of (left, top, right, bottom); a list of
    detections ``{"file_name", "bbox": [left, top, width, height], "score"}``; and COCO's annotation file, whose boxes
    count with score 1, crowds left out. Only the last part of a name counts, so folders may differ.

    Raises:
        InputError: if the file is absent, not JSON, or of none of these forms, naming the entry.
    """
    path = Path(path)
    content = read_json(path)
    found: dict[str, ImageBoxes] = {}

    def add(name: Any, box: Any, score: Any, where: str) -> None:
        if not isinstance(name, str) or not name:
            raise InputError(f"{where}: expected the name of an image, got {name!r}")
        if not (isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))):
            raise InputError(f"{where}: expected a box of four numbers, got {box!r}")
        if not _is_number(score):
            raise InputError(f"{where}: score: expected a number, got {score!r}")
        entry = found.setdefault(Path(name).name, ImageBoxes([], []))
        entry.boxes.append([float(value) for value in box])
        entry.scores.append(float(score))

    if isinstance(content, dict) and {"images", "annotations"} <= content.keys():
        names = {}
        for index, image in enumerate(_objects(content["images"], f"{path}: images")):
            names[image.get("id")] = image.get("file_name")
            found.setdefault(Path(str(image.get("file_name", index))).name, ImageBoxes([], []))
        for index, annotation in enumerate(_objects(content["annotations"], f"{path}: annotations")):
            where = f"{path}: annotation {annotation.get('id', index)}"
            if not annotation.get("iscrowd"):
                add(names.get(annotation.get("image_id")), _to_corners(annotation.get("bbox")), 1.0, where)
    elif isinstance(content, dict):
        for name, boxes in content.items():
            if not isinstance(boxes, list):
                raise InputError(f"{path}: {name}: expected a list of boxes, got {boxes!r:.80}")
            found.setdefault(Path(name).name, ImageBoxes([], []))
            for index, box in enumerate(boxes):
                add(name, box, 1.0, f"{path}: {name}: box {index}")
    elif isinstance(content, list):
        for index, detection in enumerate(_objects(content, str(path))):
            where = f"{path}: detection {index}"
            add(detection.get("file_name"), _to_corners(detection.get("bbox")), detection.get("score", 1.0), where)
    else:
        raise InputError(f"{path}: expected boxes in one of these forms:\n{FORMATS}")
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _objects(values: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise InputError(f"{where}: expected a list of objects")
    return values


def _to_corners(box: Any) -> Any:
    """(left, top, width, height) to (left, top, right, bottom); anything else stays, to be reported."""
    if isinstance(box, list) and len(box) == 4 and all(map(_is_number, box)):
        return [box[0], box[1], box[0] + box[2], box[1] + box[3]]
    return box
