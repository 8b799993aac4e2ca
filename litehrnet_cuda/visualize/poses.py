"""Poses on images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.visualize.canvas import INK, Array, Color, copy_image

if TYPE_CHECKING:
    from litehrnet_cuda.keypoints import KeypointSet
    from litehrnet_cuda.results import KeyPoints

# Blue, orange and green that people with any colour vision tell apart (Okabe and Ito), somewhat brighter. BGR.
LEFT: Color = (255, 160, 40)
RIGHT: Color = (30, 120, 255)
CENTER: Color = (150, 220, 60)
_DARK: Color = (30, 24, 20)
_SUBPIXEL_BITS = 4


def draw_poses(
    image: Array,
    result: KeyPoints,
    min_score: float = 0.2,
    boxes: bool = False,
    labels: Sequence[str] | None = None,
) -> Array:
    """Draws bones and joints of every person: the person's left blue, right orange, the middle green.

    Lines grow with the person. Joints with a score below ``min_score`` and their bones are left out.

    Args:
        image: ``[H, W, 3]`` uint8 BGR, or ``[H, W]`` grey.
        result: positions in pixels of the image.
        min_score: least score of a joint to be drawn.
        boxes: whether to draw the boxes with the person scores.
        labels: a short text for each person, above the joints; with ``boxes`` in place of the scores.

    Raises:
        InputError: when ``image`` is not a uint8 image, or there are not as many labels as people.
    """
    canvas = copy_image(image)
    if labels is not None and len(labels) != len(result):
        raise InputError(f"labels: expected {len(result)}, one for each person, got {len(labels)}")
    joint_set = result.keypoint_set
    # Smaller people, who are usually farther away, first.
    extents = np.sqrt(np.prod(result.boxes[:, 2:] - result.boxes[:, :2], axis=1))
    for i in np.argsort(extents, kind="stable"):
        width = float(np.clip(extents[i] / 45, 1, 14))
        if boxes:
            _box(canvas, result.boxes[i], labels[i] if labels else f"{result.person_scores[i]:.2f}", width)
        shown = result.scores[i] >= min_score
        bones = [(a, b) for a, b in joint_set.links if shown[a] and shown[b]]
        points = [_fixed(point) for point in result.keypoints[i]]
        for thickness, outline in ((width + 2, True), (width, False)):
            for a, b in bones:
                color = _DARK if outline else _bone_color(joint_set, a, b)
                _line(canvas, points[a], points[b], color, thickness)
        for k in np.flatnonzero(shown):
            for radius, color in ((0.95 * width + 1.2, _DARK), (0.95 * width + 0.3, (255, 255, 255))):
                _dot(canvas, points[k], color, radius)
            _dot(canvas, points[k], _joint_color(joint_set, int(k)), max(0.95 * width - 0.6, 0.6))
        if labels and not boxes and shown.any():
            joints = result.keypoints[i][shown]
            _tag(canvas, labels[i], (float(joints[:, 0].mean()), float(joints[:, 1].min()) - 2 * width), width)
    return canvas


def _side(name: str) -> str:
    return name.split("_", 1)[0]


def _joint_color(joints: KeypointSet, k: int) -> Color:
    return {"left": LEFT, "right": RIGHT}.get(_side(joints.names[k]), CENTER)


def _bone_color(joints: KeypointSet, a: int, b: int) -> Color:
    """A bone between the sides is central; one from the middle to a side belongs to the side."""
    sides = {_side(joints.names[k]) for k in (a, b)} & {"left", "right"}
    if len(sides) != 1:
        return CENTER
    return LEFT if "left" in sides else RIGHT


def _fixed(point: Array) -> tuple[int, int]:
    # Far outside of any image OpenCV's fixed-point numbers would overflow.
    x, y = np.rint(np.clip(point, -30000, 30000) * (1 << _SUBPIXEL_BITS)).astype(int)
    return int(x), int(y)


def _line(canvas: Array, a: tuple[int, int], b: tuple[int, int], color: Color, thickness: float) -> None:
    cv2.line(canvas, a, b, color, max(1, round(thickness)), cv2.LINE_AA, _SUBPIXEL_BITS)


def _dot(canvas: Array, center: tuple[int, int], color: Color, radius: float) -> None:
    cv2.circle(canvas, center, round(radius * (1 << _SUBPIXEL_BITS)), color, -1, cv2.LINE_AA, _SUBPIXEL_BITS)


def _box(canvas: Array, box: Array, text: str, width: float) -> None:
    first, second = _fixed(box[:2]), _fixed(box[2:])
    cv2.rectangle(canvas, first, second, (235, 235, 235), max(1, round(width / 2)), cv2.LINE_AA, _SUBPIXEL_BITS)
    x, y = (int(v) for v in np.clip(np.rint(box[:2]), 0, 30000))
    _plate(canvas, text, (x, y), width)


def _tag(canvas: Array, text: str, middle: tuple[float, float], width: float) -> None:
    """A text whose lower edge is centred on a place, moved into the image where it would leave it."""
    w, h = _plate_size(text, width)
    x, y = middle[0] - w / 2, middle[1] - h
    _plate(
        canvas, text, (round(min(max(x, 0), canvas.shape[1] - w)), round(min(max(y, 0), canvas.shape[0] - h))), width
    )


def _plate_size(text: str, width: float) -> tuple[int, int]:
    (w, h), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, float(np.clip(width / 8, 0.35, 1)), 1)
    return w + 4, h + 6


def _plate(canvas: Array, text: str, corner: tuple[int, int], width: float) -> None:
    """A text on a light plate, whose size follows the person's."""
    (x, y), (w, h) = corner, _plate_size(text, width)
    size = float(np.clip(width / 8, 0.35, 1))
    cv2.rectangle(canvas, (x, y), (x + w, y + h), (235, 235, 235), -1)
    cv2.putText(canvas, text, (x + 2, y + h - 4), cv2.FONT_HERSHEY_SIMPLEX, size, INK, 1, cv2.LINE_AA)
