"""The head: an ellipsoid whose face and hair are painted per pixel, in the head's own coordinates.

Every pixel inside the outline is traced back to a point of the unit sphere (x to the person's left, y up, z
forward). Eyes, mouth and hairline are regions of that sphere, so they are right for every direction of view.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from litehrnet_cuda.data.generated.canvas import CIRCLE, Part, capsule, ellipse, flat, hull
from litehrnet_cuda.data.generated.clothes import HAIR, SKIN, Outfit

Array = np.ndarray[Any, Any]

_EYE = (0.40, 0.10)
_LIP = np.array((96, 92, 176), np.float32)
_WHITE = np.array((244, 246, 248), np.float32)
_IRIS = np.array((40, 34, 30), np.float32)


@dataclass(frozen=True)
class Head:
    """What is needed to draw a head.

    Args:
        center: ``[2]`` pixel; ``depth``: its nearness to the camera in body heights.
        frame: ``[3, 3]`` from head coordinates to x right, y up, z towards the camera.
        radii: ``[3]`` half width, height and depth in body heights; ``scale``: pixels per body height.
        ears: pixels of the left and the right ear.
        hair_ends: ``[2, 2]`` pixels on the back to which long hair falls.
        back_nearness: 1 when the back faces the camera, -1 when the chest does.
        neck_depth: nearness of the neck.
        light: ``[3]`` unit vector to the light.
    """

    center: Array
    depth: float
    frame: Array
    radii: Array
    scale: float
    ears: tuple[Array, Array]
    hair_ends: Array
    back_nearness: float
    neck_depth: float
    outfit: Outfit
    light: Array

    def parts(self) -> list[Part]:
        """The head, and what belongs to it: nose, ears, hair beyond the skull, the peak of a cap."""
        parts = [Part(self.depth, "head", [self._outline()], self._shade), self._nose(), *self._ears(), *self._hair()]
        if self.outfit.hair_style == "cap":
            angles = np.linspace(-1.1, 1.1, 9)
            rim = np.stack([np.sin(angles), np.full(9, 0.36), np.cos(angles)], axis=1) * (0.93, 1, 0.93)
            peak = np.stack([np.sin(angles) * 0.85, np.full(9, 0.30), 0.55 + np.cos(angles)], axis=1)
            outline = hull(self._place(np.concatenate([rim, peak])))
            nearer = 0.004 if self.frame[2, 2] > -0.2 else -0.004
            parts.append(Part(self.depth + nearer, "hair", [outline], flat(self.outfit.hat * np.float32(0.8), HAIR)))
        return parts

    def _place(self, points: Array) -> Array:
        """Head coordinates (1 = on the ellipsoid) ``[n, 3]`` to pixels ``[n, 2]``."""
        seen = (points * self.radii) @ self.frame.T * self.scale
        return np.asarray(self.center + seen[:, :2] * (1, -1))

    def _outline(self) -> Array:
        shape = self.frame[:2] * self.radii * self.scale
        root = np.linalg.cholesky(shape @ shape.T)
        return np.asarray(self.center + (CIRCLE @ root.T) * (1, -1))

    def _shade(self, x: Array, y: Array) -> tuple[Array, Array]:
        outfit = self.outfit
        inverse = (self.frame.T / (self.radii[:, None] * self.scale)).astype(np.float32)
        dx, dy = x - np.float32(self.center[0]), np.float32(self.center[1]) - y
        flat_point = inverse[:, 0, None, None] * dx + inverse[:, 1, None, None] * dy
        ray = inverse[:, 2]
        a, b = float(ray @ ray), np.einsum("ihw,i->hw", flat_point, ray)
        c = np.einsum("ihw,ihw->hw", flat_point, flat_point) - 1
        z = (-b + np.sqrt(np.maximum(b * b - a * c, 0))) / a
        px, py, pz = flat_point + ray[:, None, None] * z
        normal = np.stack([px, py, pz]) / self.radii.astype(np.float32)[:, None, None]
        normal /= np.maximum(np.sqrt(np.einsum("ihw,ihw->hw", normal, normal)), 1e-6)
        lit = np.maximum(np.einsum("ihw,i->hw", normal, (self.frame.T @ self.light).astype(np.float32)), 0)
        edge = float(self.radii[1] * self.scale)  # pixels per unit: width of the soft border of a feature

        def cover(inside: Array) -> Array:
            return np.asarray(np.clip(inside * edge + 0.5, 0, 1)[..., None])

        color = np.broadcast_to(outfit.skin, (*lit.shape, 3)).copy()
        front = pz > 0
        ax = np.abs(px)
        if outfit.beard:
            beard = np.minimum(-0.30 - 0.5 * np.maximum(0.35 - ax, 0) - py, pz - 0.1)
            color += cover(beard) * (outfit.hair - color)
        mouth = np.minimum(0.27 - ax, 0.075 - np.abs(py + 0.50 - 0.5 * px * px))
        color += cover(np.where(front, mouth, -1)) * (_LIP * (outfit.skin / 255 * 0.5 + 0.5) - color)
        eye_x, eye_y = ax - _EYE[0], py - _EYE[1]
        eye = 0.19 - np.sqrt(eye_x * eye_x + (eye_y * 1.5) ** 2)
        color += cover(np.where(front, eye, -1)) * (_WHITE - color)
        iris = 0.115 - np.sqrt(eye_x * eye_x + eye_y * eye_y)
        color += cover(np.where(front, iris, -1)) * (_IRIS - color)
        brow = np.minimum(0.21 - np.abs(eye_x), 0.05 - np.abs(eye_y - 0.235 + 0.6 * eye_x * eye_x))
        color += cover(np.where(front, brow, -1)) * (outfit.hair * 0.8 - color)
        if outfit.glasses:
            ring = 0.025 - np.abs(0.27 - np.sqrt(eye_x * eye_x + eye_y * eye_y))
            color += cover(np.where(front, ring, -1)) * (40 - color)
        hair = self._hair_region(px, py, pz)
        color += cover(hair) * ((outfit.hat if outfit.hair_style == "cap" else outfit.hair) - color)
        color *= (0.62 + 0.46 * lit)[..., None]
        return color, np.where(hair > 0, HAIR, SKIN)

    def _hair_region(self, x: Array, y: Array, z: Array) -> Array:
        """Positive where the sphere carries hair or a cap."""
        style = self.outfit.hair_style
        if style == "bald":
            return np.minimum(np.minimum(0.25 - y, y + 0.4), -0.15 - z)
        line = y - np.where(z > 0, 0.62, 0.85) * z - 0.02 + self.outfit.hairline
        if style == "cap":
            below = np.minimum(line, -0.1 - z)  # hair at the back, under the rim
            return np.asarray(np.maximum(y - 0.34, below))
        if style == "long":
            return np.asarray(np.maximum(line, np.minimum(np.abs(x) - 0.80 + 0.15 * y, 0.75 - z)))
        return np.asarray(line)

    def _nose(self) -> Part:
        tip, bridge = self._place(np.array([(0.0, -0.13, 1.08), (0.0, 0.10, 0.96)]))
        unit = self.radii[1] * self.scale
        outline = capsule(bridge, tip, 0.05 * unit, 0.115 * unit)
        facing = self.frame[2, 2] > -0.1
        shade = flat(self.outfit.skin * np.float32(0.84), SKIN)
        return Part(self.depth + (0.002 if facing else -0.002), "head", [outline], shade)

    def _ears(self) -> list[Part]:
        parts = []
        for sign, side, center in ((1, "left", self.ears[0]), (-1, "right", self.ears[1])):
            if self.outfit.hair_style == "long":
                continue
            nearness = sign * self.frame[2, 0]  # of the ear's side of the head
            unit = self.radii[1] * self.scale
            outline = ellipse(center, (0.14 + 0.07 * abs(nearness)) * unit, 0.22 * unit)
            shade = flat(self.outfit.skin * np.float32(0.9), SKIN)
            parts.append(Part(self.depth + (0.003 if nearness > -0.4 else -0.003), f"{side}_ear", [outline], shade))
        return parts

    def _hair(self) -> list[Part]:
        style, outfit = self.outfit.hair_style, self.outfit
        if style == "long":
            sides = self._place(np.array([(-0.98, 0.1, -0.25), (0.98, 0.1, -0.25), (0.0, 0.2, -1.0), (0, -0.3, -1.0)]))
            unit = 0.02 * self.scale
            ends = (self.hair_ends[:, None] + CIRCLE * unit).reshape(-1, 2)
            depth = self.neck_depth + 0.09 * self.back_nearness
            shade = flat(outfit.hair * np.float32(0.82), HAIR)
            return [Part(depth, "hair", [hull(np.concatenate([sides, ends]))], shade)]
        if style in ("bun", "tail"):
            unit = self.radii[1] * self.scale
            root, end = self._place(
                np.array([(0.0, 0.55, -0.95), (0.0, 0.55, -1.0) if style == "bun" else (0, -0.8, -1.35)])
            )
            outline = capsule(root, end, 0.36 * unit, (0.36 if style == "bun" else 0.16) * unit)
            nearer = -0.006 if self.frame[2, 2] > 0 else 0.006
            return [Part(self.depth + nearer, "hair", [outline], flat(outfit.hair * np.float32(0.85), HAIR))]
        return []
