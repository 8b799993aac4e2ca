"""What the predictors return."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from litehrnet_cuda.classes import IGNORE_INDEX, ClassSet
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.files import written_whole
from litehrnet_cuda.keypoints import COCO, KEYPOINT_SETS, KeypointSet

Array = np.ndarray[Any, Any]

_MIN_JOINT_SCORE = 0.2


@dataclass(frozen=True, eq=False)
class KeyPoints:
    """The joints of P people in one image.

    The arrays are copied, converted to float32, checked and made read-only. Every number must be finite: a joint that
    was not found has score 0 and any finite position.

    Args:
        keypoints: ``[P, K, 2]`` positions (x, y) in pixels of the image.
        scores: ``[P, K]`` confidence of each joint.
        boxes: ``[P, 4]`` x1, y1, x2, y2 in pixels of the image, with x1 < x2 and y1 < y2.
        box_scores: ``[P]`` confidence of each box; 1 for boxes given by a person.
        keypoint_set: what the K joints are.

    Raises:
        InputError: for a wrong shape, a number that is not finite, or a box without area.
    """

    keypoints: Array
    scores: Array
    boxes: Array
    box_scores: Array
    keypoint_set: KeypointSet = COCO

    def __post_init__(self) -> None:
        joints = len(self.keypoint_set)
        people = len(self.keypoints) if np.ndim(self.keypoints) else 0
        shapes = {
            "keypoints": (people, joints, 2),
            "scores": (people, joints),
            "boxes": (people, 4),
            "box_scores": (people,),
        }
        for name, shape in shapes.items():
            object.__setattr__(self, name, _checked(name, getattr(self, name), shape, self.keypoint_set.name))
        bad = np.flatnonzero((self.boxes[:, 0] >= self.boxes[:, 2]) | (self.boxes[:, 1] >= self.boxes[:, 3]))
        if len(bad):
            row = int(bad[0])
            raise InputError(
                f"boxes: expected x1, y1, x2, y2 with x1 < x2 and y1 < y2, got {self.boxes[row].tolist()} in row {row}"
            )

    @classmethod
    def empty(cls, keypoint_set: KeypointSet = COCO) -> KeyPoints:
        """The result for an image without people."""
        joints = len(keypoint_set)
        return cls(np.zeros((0, joints, 2)), np.zeros((0, joints)), np.zeros((0, 4)), np.zeros(0), keypoint_set)

    def __len__(self) -> int:
        return len(self.keypoints)

    def __getitem__(self, index: int | slice | Array | list[int]) -> KeyPoints:
        """One person, or those that a slice, a list of indices or a boolean mask selects; always a KeyPoints."""
        rows = np.atleast_1d(np.arange(len(self))[index])
        return KeyPoints(
            self.keypoints[rows], self.scores[rows], self.boxes[rows], self.box_scores[rows], self.keypoint_set
        )

    @property
    def person_scores(self) -> Array:
        """``[P]`` float32: box score times the mean of the joint scores above 0.2 (0 when there is none).

        This is how the official evaluation rescores people before it computes average precision.
        """
        counted = self.scores > _MIN_JOINT_SCORE
        total = np.where(counted, self.scores, 0).sum(axis=1)
        return np.asarray(self.box_scores * total / np.maximum(counted.sum(axis=1), 1), np.float32)

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """One entry per person in COCO's result format: x, y, score of every joint, and the person's score."""
        triples = np.concatenate([self.keypoints, self.scores[..., None]], axis=2)
        return [
            {"image_id": int(image_id), "category_id": 1, "keypoints": row.ravel().tolist(), "score": float(score)}
            for row, score in zip(triples, self.person_scores, strict=True)
        ]

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """The result as JSON text, also written to ``path`` if one is given. ``from_json`` restores it to the bit."""
        people = [
            {
                "score": _shortest(self.person_scores[i]),
                "box": [_shortest(v) for v in self.boxes[i]],
                "box_score": _shortest(self.box_scores[i]),
                "keypoints": {
                    name: [_shortest(v) for v in (*self.keypoints[i, k], self.scores[i, k])]
                    for k, name in enumerate(self.keypoint_set.names)
                },
            }
            for i in range(len(self))
        ]
        text = json.dumps({"keypoint_set": self.keypoint_set.name, "people": people}, indent=1)
        if path is not None:
            with written_whole(Path(path)) as draft:
                draft.write_text(text + "\n", encoding="utf-8")
        return text

    @classmethod
    def from_json(cls, source: str | os.PathLike[str], keypoint_set: KeypointSet | None = None) -> KeyPoints:
        """Reads what ``to_json`` wrote.

        Args:
            source: the JSON text, or the path of a file as a ``pathlib.Path``.
            keypoint_set: needed only for joints that are not in ``KEYPOINT_SETS``.

        Raises:
            InputError: when the text is not such a result.
        """
        try:
            text = source if isinstance(source, str) else Path(source).read_text(encoding="utf-8")
        except OSError as error:
            raise InputError(f"{source}: cannot be read: {error.strerror}") from None
        try:
            document = json.loads(text)
            joints = keypoint_set or KEYPOINT_SETS[document["keypoint_set"]]
            people = document["people"]
            if not people:
                return cls.empty(joints)
            triples = np.array([[person["keypoints"][name] for name in joints.names] for person in people], np.float32)
            boxes = np.array([person["box"] for person in people], np.float32)
            box_scores = np.array([person["box_score"] for person in people], np.float32)
            return cls(triples[..., :2], triples[..., 2], boxes, box_scores, joints)
        except InputError:
            raise
        except (ValueError, KeyError, TypeError, IndexError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise InputError(
                f"source: expected JSON as KeyPoints.to_json writes it, got text that does not fit ({reason}); "
                "pass a pathlib.Path to read a file"
            ) from error

    def draw(self, image: Array, min_score: float = 0.2, boxes: bool = False) -> Array:
        """A copy of ``image`` (``[H, W, 3]`` uint8 BGR) with the people drawn on it; see ``visualize.draw_poses``."""
        from litehrnet_cuda.visualize import draw_poses

        return draw_poses(image, self, min_score=min_score, boxes=boxes)


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The class of every pixel of an image.

    The array is copied, converted to uint8, checked and made read-only.

    Args:
        labels: ``[H, W]`` class indices, and 255 where nothing is said.
        class_set: what the classes are.

    Raises:
        InputError: for another shape, for fractions, or an index that is no class.
    """

    labels: Array
    class_set: ClassSet

    def __post_init__(self) -> None:
        labels = np.asarray(self.labels)
        if labels.ndim != 2 or not labels.size or not np.issubdtype(labels.dtype, np.integer):
            raise InputError(
                f"labels: expected whole numbers of shape [H, W], at least one, got {labels.dtype} of shape "
                f"{list(labels.shape)}"
            )
        wrong = labels[((labels < 0) | (labels >= len(self.class_set))) & (labels != IGNORE_INDEX)]
        if wrong.size:
            raise InputError(
                f"labels: expected 0 to {len(self.class_set) - 1}, the classes of {self.class_set.name!r}, or "
                f"{IGNORE_INDEX}, got {wrong.flat[0]}"
            )
        labels = labels.astype(np.uint8)  # a copy
        labels.setflags(write=False)
        object.__setattr__(self, "labels", labels)

    def coverage(self) -> dict[str, float]:
        """The share of the image that each class takes, by name, 0 to 1; the rest to one has no class."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.class_set))
        return {name: int(count) / self.labels.size for name, count in zip(self.class_set.names, counts, strict=False)}

    def draw(self, image: Array, opacity: float = 0.55, legend: bool = False) -> Array:
        """A copy of ``image`` (``[H, W, 3]`` uint8 BGR) tinted by class, as the class set's palette says.

        Args:
            image: of the labels' size.
            opacity: of the tint, 0 to 1. The class set's background stays as it is.
            legend: whether to name the classes that there are in a strip below the image.

        Raises:
            InputError: for an image of another size or type.
        """
        from litehrnet_cuda.visualize import add_legend, draw_masks

        classes = self.class_set
        drawn = draw_masks(image, self.labels, opacity, classes.background, classes.colors)
        if not legend:
            return drawn
        shown = [index for index in np.unique(self.labels) if index < len(classes) and index != classes.background]
        return add_legend(drawn, [classes.names[index] for index in shown], classes.colors[shown])

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the labels as a grey PNG of 8 bits whose values are the indices, whole or not at all.

        Raises:
            InputError: the name does not end in ``.png``, or the place cannot be written to.
        """
        import cv2

        path = Path(path)
        if path.suffix.lower() != ".png":  # others change values, or do not hold a single channel
            raise InputError(f"path: expected a name that ends in .png, got {path.name}")
        _, content = cv2.imencode(".png", self.labels)
        with written_whole(path) as draft:
            draft.write_bytes(content.tobytes())
        return path


def _checked(name: str, value: Any, shape: tuple[int, ...], set_name: str) -> Array:
    try:
        array = np.array(value, np.float32)
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{name}: expected numbers of shape {list(shape)}, got {type(value).__name__} ({error})"
        ) from None
    if array.shape != shape:
        if array.size == 0 and 0 in shape:  # an empty list stands for nobody
            array = array.reshape(shape)
        else:
            axes = {"keypoints": "[P, K, 2]", "scores": "[P, K]", "boxes": "[P, 4]", "box_scores": "[P]"}[name]
            raise InputError(
                f"{name}: expected shape {axes} = {list(shape)} for {shape[0]} people with the joints of {set_name!r}, "
                f"got {list(array.shape)}"
            )
    if not np.isfinite(array).all():
        raise InputError(f"{name}: expected finite numbers, got NaN or infinity; give a missing joint the score 0")
    array.setflags(write=False)
    return array


def _shortest(value: np.float32) -> float:
    """The shortest decimal number that reads back as the same float32."""
    return float(str(value))
