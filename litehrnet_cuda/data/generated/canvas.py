"""The sheet that the generator draws on: colours, and for every pixel what is drawn there.

Shapes are painted from far to near. Each is a union of polygons with antialiased edges, shaded per pixel by a
function, so that a limb looks round and a shirt carries its pattern. Beside the colours the canvas keeps two maps:
``labels`` says which part of which person owns a pixel (from which the visibility of a joint follows) and
``categories`` holds the class index for semantic segmentation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

Array = np.ndarray[Any, Any]
#: From columns x ``[1, w]`` and rows y ``[h, 1]`` to colours ``[h, w, 3]`` and categories (one, or ``[h, w]``).
Shader = Callable[[Array, Array], "tuple[Array, int | Array]"]

_SUBPIXEL_BITS = 4
_ARC = np.linspace(-np.pi / 2, np.pi / 2, 9)
CIRCLE = np.stack([np.cos(np.arange(24) * np.pi / 12), np.sin(np.arange(24) * np.pi / 12)], axis=1)


@dataclass
class Part:
    """Something to paint: the union of ``polygons``. Nearer parts (greater depth) are painted later."""

    depth: float
    name: str | None
    polygons: list[Array]
    shade: Shader


class Canvas:
    """An image in progress.

    Args:
        background: ``[H, W, 3]`` float32 BGR, 0 to 255.
    """

    def __init__(self, background: Array) -> None:
        self.image: Array = np.array(background, np.float32)
        self.labels: Array = np.zeros(self.image.shape[:2], np.uint16)
        self.categories: Array = np.zeros(self.image.shape[:2], np.uint8)

    def paint(
        self, polygons: Sequence[Array], shade: Shader, label: int, opacity: float = 1.0
    ) -> tuple[int, ...] | None:
        """Paints the union of polygons (each ``[n, 2]`` in pixels, whole numbers at pixel centres).

        Returns:
            ``(x1, y1, x2, y2)``: the smallest box of the pixels that now carry the label, or None when all lie outside.
        """
        points = np.concatenate(list(polygons))
        height, width = self.labels.shape
        x1, y1 = (max(0, int(v)) for v in np.floor(points.min(axis=0)) - 1)
        x2, y2 = (min(limit, int(v)) for limit, v in zip((width, height), np.ceil(points.max(axis=0)) + 2, strict=True))
        if x1 >= x2 or y1 >= y2:
            return None
        coverage = np.zeros((y2 - y1, x2 - x1), np.uint8)
        for polygon in polygons:
            fixed = np.rint((polygon - (x1, y1)) * (1 << _SUBPIXEL_BITS)).astype(np.int32)
            cv2.fillPoly(coverage, [fixed], 255, cv2.LINE_AA, _SUBPIXEL_BITS)
        color, category = shade(
            np.arange(x1, x2, dtype=np.float32)[None, :], np.arange(y1, y2, dtype=np.float32)[:, None]
        )
        region = self.image[y1:y2, x1:x2]
        if opacity == 1 and x2 - x1 == width and coverage.min() == 255:
            region[...] = color  # a large area without an edge, such as a sky
        else:
            difference = color - region
            difference *= (coverage * np.float32(opacity / 255))[..., None]
            region += difference
        if opacity < 1:
            return None
        solid = coverage > 127
        np.copyto(self.labels[y1:y2, x1:x2], label, where=solid, casting="unsafe")
        np.copyto(self.categories[y1:y2, x1:x2], np.asarray(category, np.uint8), where=solid)
        left, top, box_width, box_height = cv2.boundingRect(solid.view(np.uint8))
        if box_width == 0:
            return None
        return x1 + left, y1 + top, x1 + left + box_width, y1 + top + box_height


def capsule(start: Array, end: Array, start_radius: float, end_radius: float) -> Array:
    """Outline ``[n, 2]`` of a limb: two half circles joined by straight sides."""
    angle = np.arctan2(end[1] - start[1], end[0] - start[0])
    near, far = angle + np.pi + _ARC, angle + _ARC
    return np.concatenate(
        [
            start + start_radius * np.stack([np.cos(near), np.sin(near)], axis=1),
            end + end_radius * np.stack([np.cos(far), np.sin(far)], axis=1),
        ]
    )


def ellipse(center: Array, x_radius: float, y_radius: float) -> Array:
    """Outline ``[24, 2]`` of an upright ellipse."""
    return np.asarray(center + CIRCLE * (x_radius, y_radius))


def hull(points: Array) -> Array:
    """Convex outline ``[n, 2]`` of points ``[m, 2]``."""
    return cv2.convexHull(points.astype(np.float32))[:, 0]


def flat(color: Array, category: int = 0) -> Shader:
    """One colour everywhere."""
    return lambda x, y: (color, category)


def gradient(top_color: Array, bottom_color: Array, top: float, bottom: float) -> Shader:
    """A colour that runs from ``top_color`` at row ``top`` to ``bottom_color`` at row ``bottom``."""

    def shade(x: Array, y: Array) -> tuple[Array, int]:
        t = np.clip((y - top) / max(bottom - top, 1e-3), 0, 1)[..., None]
        return np.asarray(top_color + t * (bottom_color - top_color)), 0

    return shade
