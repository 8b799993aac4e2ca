"""Draws one posed, clothed person and reports where the joints lie and which parts of the drawing show them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from litehrnet_cuda.data.generated.canvas import CIRCLE, Canvas, Part, Shader, capsule, flat, hull
from litehrnet_cuda.data.generated.clothes import BOTTOM, SHOES, SKIN, TOP, Outfit, pattern_weight
from litehrnet_cuda.data.generated.head import Head
from litehrnet_cuda.data.generated.people import TORSO_RINGS, Body, Pose, Skeleton, pose_skeleton, rotation
from litehrnet_cuda.keypoints import COCO

Array = np.ndarray[Any, Any]

_SIDED = ("ear", "upper_arm", "forearm", "hand", "thigh", "shin", "foot")
PARTS = ("head", "hair", "neck", "torso", "skirt", *(f"{side}_{part}" for part in _SIDED for side in ("left", "right")))
PART_IDS = {name: i + 1 for i, name in enumerate(PARTS)}
#: Labels of person p (0, 1, ...) are ``(p + 1) * LABELS_PER_PERSON + part``; smaller labels are not people.
LABELS_PER_PERSON = 32

#: From cloth coordinates (across, along; in body heights) to colours and category, before shading.
Texture = Callable[[Array, Array], tuple[Array, int]]

_PERSPECTIVE_DISTANCE = 5.0  # of the camera from the person, in body heights
_SHOWN_BY = {
    "shoulder": ("upper_arm",),
    "elbow": ("upper_arm", "forearm"),
    "wrist": ("forearm", "hand"),
    "hip": ("thigh",),
    "knee": ("thigh", "shin"),
    "ankle": ("shin", "foot"),
    "ear": ("ear",),
}


@dataclass(frozen=True)
class View:
    """Where a person stands in the image.

    Args:
        rotation: ``[3, 3]`` from body coordinates to x right, y up, z towards the camera.
        scale: pixels per body height.
        origin: ``[2]`` pixel of the pelvis.
    """

    rotation: Array
    scale: float
    origin: Array

    def project(self, points: Array) -> tuple[Array, Array]:
        """Points ``[n, 3]`` to pixels ``[n, 2]`` and their nearness to the camera ``[n]``, in body heights."""
        seen = points @ self.rotation.T
        magnified = self.scale / (1 - seen[:, 2:] / _PERSPECTIVE_DISTANCE)
        return self.origin + seen[:, :2] * magnified * (1, -1), seen[:, 2]


@dataclass
class Figure:
    """A person to draw.

    Args:
        body, pose, outfit: what to draw.
        yaw: where the person faces, degrees (see ``sample_yaw``).
        tilt: camera tilt in degrees, positive looking down.
        roll: camera roll in degrees.
        height: pixels of the upright body.
        foot: ``[2]`` pixel on the ground below the pelvis (x) and of the lowest sole (y).
        light: ``[3]`` unit vector to the light: right, up, towards the camera.
    """

    body: Body
    pose: Pose
    outfit: Outfit
    yaw: float
    tilt: float
    roll: float
    height: float
    foot: Array
    light: Array
    skeleton: Skeleton = field(init=False)
    view: View = field(init=False)
    joints: Array = field(init=False)  # [17, 2] pixels
    _depths: dict[str, float] = field(init=False)
    _pixels: dict[str, Array] = field(init=False)

    def __post_init__(self) -> None:
        self.skeleton = pose_skeleton(self.body, self.pose)
        turn = rotation(2, self.roll) @ rotation(0, self.tilt) @ rotation(1, self.yaw)
        points = self.skeleton.points
        feet = np.stack([points[f"{side}_{end}"] for side in ("left", "right") for end in ("heel", "toes")])
        lowest = View(turn, self.height, np.zeros(2)).project(feet)[0][:, 1].max() + 0.02 * self.height
        self.view = View(turn, self.height, np.array([self.foot[0], self.foot[1] - lowest]))
        head = points["head"]
        radii = self.head_radii
        frame = self.skeleton.head_frame
        points = dict(points)
        points["nose"] = head + frame @ (np.array([0.0, -0.13, 1.10]) * radii)
        for sign, side in ((1, "left"), (-1, "right")):
            points[f"{side}_eye"] = head + frame @ (np.array([sign * 0.40, 0.10, 0.91]) * radii)
            points[f"{side}_ear"] = head + frame @ (np.array([sign * 1.05, -0.06, -0.08]) * radii)
        pixels, depths = self.view.project(np.stack(list(points.values())))
        self._pixels = dict(zip(points, pixels, strict=True))
        self._depths = dict(zip(points, (float(d) for d in depths), strict=True))
        self.joints = np.stack([self._pixels[name] for name in COCO.names])

    @property
    def head_radii(self) -> Array:
        """``[3]``: half width, height and depth of the head in body heights."""
        return np.array([0.80, 1.0, 0.90]) * self.body.head

    def draw(self, canvas: Canvas, index: int) -> tuple[int, ...] | None:
        """Paints the person as number ``index``.

        Returns:
            The box ``(x1, y1, x2, y2)`` of all that was painted of the person inside of the image, covered or not;
            None when nothing was.
        """
        boxes = []
        for part in sorted(self._parts(), key=lambda part: part.depth):
            label = 0 if part.name is None else (index + 1) * LABELS_PER_PERSON + PART_IDS[part.name]
            box = canvas.paint(part.polygons, part.shade, label)
            if box is not None and label:
                boxes.append(box)
        if not boxes:
            return None
        sides = np.array(boxes)
        return (*sides[:, :2].min(axis=0).tolist(), *sides[:, 2:].max(axis=0).tolist())

    def visibility(self, labels: Array, index: int) -> Array:
        """``[17]`` COCO flags from the finished label map ``[H, W]``.

        2 is seen, 1 hidden, 0 outside of the image. A nose, eye or ear on the far side of the person's own head is 0
        too: annotators leave it out.
        """
        height, width = labels.shape
        flags = np.zeros(len(COCO), np.int64)
        for k, name in enumerate(COCO.names):
            x, y = np.rint(self.joints[k]).astype(int)
            if 0 <= x < width and 0 <= y < height:
                part = int(labels[y, x]) - (index + 1) * LABELS_PER_PERSON
                if 0 < part <= len(PARTS) and self._shows(PARTS[part - 1], name):
                    flags[k] = 2
                elif not self._turned_away(name):
                    flags[k] = 1
        return flags

    def _turned_away(self, joint: str) -> bool:
        """Whether a joint of the face is on the side of the head that the camera does not see."""
        in_face = joint == "nose" or joint.endswith(("_eye", "_ear"))
        return in_face and self._depths[joint] - self._depths["head"] < -0.1 * self.body.head

    def _shows(self, part: str, joint: str) -> bool:
        """Whether a joint is seen where ``part`` is the nearest thing drawn at its pixel."""
        side, _, kind = joint.partition("_")
        if joint == "nose" or kind == "eye":
            front = self._depths[joint] - self._depths["head"]
            return part == "head" and front > 0.2 * self.body.head
        if part in (f"{side}_{shown}" for shown in _SHOWN_BY[kind]):
            return True
        if kind in ("shoulder", "hip") and part in ("torso", "skirt"):
            # Seen through the cloth, unless the trunk lies between: that is when the joint is on the far side.
            middle, half_width = ("chest", self.body.shoulder) if kind == "shoulder" else ("pelvis", self.body.hip)
            other = f"{'right' if side == 'left' else 'left'}_{kind}"
            behind = (self._depths[other] - self._depths[joint]) / 2
            return behind < 0.8 * half_width or self._depths[joint] > self._depths[middle]
        return False

    def _parts(self) -> list[Part]:
        parts = self._trunk()
        for side in ("left", "right"):
            parts += self._arm(side) + self._leg(side)
        parts += self._head().parts()
        if self.pose.name == "sitting":
            parts.append(self._seat())
        return parts

    def tube(
        self,
        name: str,
        ends: tuple[str, ...],
        radii: tuple[float, float],
        texture: Texture,
        nearer: float = 0.0,
        span: tuple[float, float] = (0.0, 1.0),
    ) -> Part:
        """A rounded limb between two named points; ``span`` cuts it, ``radii`` (body heights) are of the whole ends."""
        start, end = (self._pixels[point] for point in ends)
        depth = sum(self._depths[point] for point in ends) / 2
        size = self.view.scale * self.body.build
        r0, r1 = ((radii[0] + t * (radii[1] - radii[0])) * size for t in span)
        a, b = (start + t * (end - start) for t in span)
        shade = self._round(a, b, np.array([0.0, 1.0]), np.array([r0, r1]), texture)
        return Part(depth + nearer, name, [capsule(a, b, r0, r1)], shade)

    def _round(self, start: Array, end: Array, stations: Array, radii: Array, texture: Texture) -> Shader:
        """Shades a body of revolution about the line from ``start`` to ``end``, whose radius is given at stations."""
        axis = end - start
        length = max(float(np.hypot(*axis)), 1e-3)
        axis = axis / length
        normal = np.array([-axis[1], axis[0]])
        light_across = float(self.light[0] * normal[0] - self.light[1] * normal[1])
        light_front = float(self.light[2])
        scale = self.view.scale

        def shade(x: Array, y: Array) -> tuple[Array, int]:
            dx, dy = x - np.float32(start[0]), y - np.float32(start[1])
            along = dx * np.float32(axis[0]) + dy * np.float32(axis[1])
            across = dx * np.float32(normal[0]) + dy * np.float32(normal[1])
            radius = np.interp(along / np.float32(length), stations, np.maximum(radii, 0.5)).astype(np.float32)
            u = np.clip(across / radius, -1, 1)
            lit = np.maximum(u * np.float32(light_across) + np.sqrt(1 - u * u) * np.float32(light_front), 0)
            base, category = texture(across / np.float32(scale), along / np.float32(scale))
            return base * (0.58 + 0.54 * lit)[..., None], category

        return shade

    def _cloth(self, across: Array, along: Array) -> tuple[Array, int]:
        weight = pattern_weight(self.outfit, across, along)
        if weight is None:
            return self.outfit.top, TOP
        return self.outfit.top + weight[..., None] * (self.outfit.top_second - self.outfit.top), TOP

    def _arm(self, side: str) -> list[Part]:
        outfit, nearer = self.outfit, 0.022
        names = (f"{side}_shoulder", f"{side}_elbow", f"{side}_wrist", f"{side}_fingers")
        upper = self._dressed(f"{side}_upper_arm", names[:2], (0.034, 0.027), outfit.sleeve, self._cloth, nearer)
        lower = self._dressed(
            f"{side}_forearm", names[1:3], (0.027, 0.019), outfit.sleeve - 1, self._cloth, nearer + 0.001
        )
        hand = self.tube(f"{side}_hand", names[2:], (0.019, 0.020), self._plain(outfit.skin, SKIN), nearer + 0.002)
        return [*upper, *lower, hand]

    def _leg(self, side: str) -> list[Part]:
        outfit = self.outfit
        names = (f"{side}_hip", f"{side}_knee", f"{side}_ankle")
        cloth = self._plain(outfit.bottom, BOTTOM)
        thigh = self._dressed(f"{side}_thigh", names[:2], (0.049, 0.036), outfit.leg, cloth, -0.018)
        shin = self._dressed(f"{side}_shin", names[1:], (0.037, 0.023), outfit.leg - 1, cloth, -0.004)
        ends = (f"{side}_heel", f"{side}_toes")
        foot = self.tube(f"{side}_foot", ends, (0.025, 0.021), self._plain(outfit.shoe, SHOES), -0.002)
        return [*thigh, *shin, foot]

    def _dressed(
        self,
        name: str,
        ends: tuple[str, ...],
        radii: tuple[float, float],
        covered: float,
        cloth: Texture,
        nearer: float,
    ) -> list[Part]:
        """A limb of skin, of which the share ``covered`` from its start on is under cloth."""
        parts = []
        if covered < 1:  # skin only where it shows, or its soft edge would shine through that of the cloth
            skin = self._plain(self.outfit.skin, SKIN)
            parts.append(self.tube(name, ends, radii, skin, nearer, (max(covered - 0.1, 0.0), 1.0)))
        if covered > 0:
            loose = (radii[0] + 0.004, radii[1] + 0.005)
            parts.append(self.tube(name, ends, loose, cloth, nearer + 0.0002, (0.0, min(covered, 1.0))))
        return parts

    def _plain(self, color: Array, category: int) -> Texture:
        return lambda across, along: (color, category)

    def _trunk(self) -> list[Part]:
        outfit, body, skeleton = self.outfit, self.body, self.skeleton
        widths = TORSO_RINGS[:, 1] * body.build
        widths[2] *= body.waist
        widths[3:5] *= body.shoulder / 0.106
        widths[:2] *= body.hip / 0.056
        offsets = np.zeros((len(widths), len(CIRCLE), 3))
        offsets[..., 0] = CIRCLE[:, 0] * widths[:, None]
        offsets[..., 2] = CIRCLE[:, 1] * (TORSO_RINGS[:, 2] * body.build)[:, None]
        rings = skeleton.ring_centers[:, None] + np.einsum("rij,rnj->rni", skeleton.ring_frames, offsets)
        pixels = self.view.project(rings.reshape(-1, 3))[0].reshape(len(widths), -1, 2)
        centers, depths = self.view.project(skeleton.ring_centers)
        axis = centers[-1] - centers[0]
        length = max(float(np.hypot(*axis)), 1e-3)
        normal = np.array([-axis[1], axis[0]]) / length
        radii = np.abs((pixels - centers[:, None]) @ normal).max(axis=1)
        stations = (centers - centers[0]) @ axis / length**2
        order = np.argsort(stations)
        shells = [hull(np.concatenate([pixels[i], pixels[i + 1]])) for i in range(len(widths) - 1)]
        # From the neck to the shoulders, so that sleeves grow out of the trunk.
        knob = 0.027 * body.build * self.view.scale
        shells.append(
            hull(
                np.concatenate(
                    [pixels[-1], *(self._pixels[f"{side}_shoulder"] + CIRCLE * knob for side in ("left", "right"))]
                )
            )
        )
        depth = float(depths[1:5].mean()) + 0.035
        if outfit.skirt:  # whichever thigh is nearer, it is inside of the skirt
            thighs = [(self._depths[f"{side}_hip"] + self._depths[f"{side}_knee"]) / 2 for side in ("left", "right")]
            depth = max(depth, *thighs)
        about = (centers[0], centers[-1], stations[order], radii[order])
        parts = [
            Part(depth - 0.001, "torso", shells[:1], self._round(*about, self._plain(outfit.bottom, BOTTOM))),
            Part(depth, "torso", shells[int(outfit.tucked) :], self._round(*about, self._cloth)),
            self.tube(
                "neck", ("neck", "head"), (0.029, 0.027), self._plain(outfit.skin * np.float32(0.9), SKIN), -0.02
            ),
        ]
        if outfit.skirt:
            parts.append(self._skirt(pixels[1], depth + 0.002))
        if outfit.fastening:
            fronts = skeleton.ring_centers + skeleton.ring_frames[:, :, 2] * (TORSO_RINGS[:, 2:] * body.build)
            line, _ = self.view.project(fronts[1:5])
            if (self.view.rotation @ skeleton.ring_frames[3][:, 2])[2] > 0.2:
                radius = 0.006 * self.view.scale
                strip = [capsule(a, b, radius, radius) for a, b in pairwise(line)]
                parts.append(Part(depth + 0.0005, "torso", strip, flat(outfit.top_second * np.float32(0.8), TOP)))
        return parts

    def _skirt(self, hips: Array, depth: float) -> Part:
        size = self.view.scale * self.body.build
        hem = []
        for side in ("left", "right"):
            hip, knee = self._pixels[f"{side}_hip"], self._pixels[f"{side}_knee"]
            hem.append(hip + self.outfit.skirt * (knee - hip) + CIRCLE * (0.062 * size, 0.022 * size))
        waist = hips.mean(axis=0)
        end = np.concatenate(hem).mean(axis=0)
        radii = np.array([np.ptp(hips[:, 0]) / 2, np.ptp(np.concatenate(hem)[:, 0]) / 2])
        shade = self._round(waist, end, np.array([0.0, 1.0]), radii, self._plain(self.outfit.bottom, BOTTOM))
        return Part(depth, "skirt", [hull(np.concatenate([hips, *hem]))], shade)

    def _seat(self) -> Part:
        points = self.skeleton.points
        floor = min(points[f"{side}_{end}"][1] for side in ("left", "right") for end in ("heel", "toes")) - 0.02
        corners = np.array([(x, y, z) for x in (-0.13, 0.13) for y in (-0.06, floor) for z in (-0.12, 0.10)])
        pixels, depths = self.view.project(corners)
        outline = hull(pixels)
        color = self.outfit.hat * np.float32(0.55) + 40
        top, bottom = outline[:, 1].min(), outline[:, 1].max()

        def shade(x: Array, y: Array) -> tuple[Array, int]:
            return color * (1.1 - 0.5 * np.clip((y - top) / max(bottom - top, 1), 0, 1))[..., None], 0

        return Part(float(depths.mean()) - 0.02, None, [outline], shade)

    def _head(self) -> Head:
        skeleton = self.skeleton
        chest = skeleton.ring_frames[-2]
        back = skeleton.points["neck"] + (chest @ np.array([(-0.062, -0.09, -0.062), (0.062, -0.09, -0.062)]).T).T
        fall, _ = self.view.project(back)
        return Head(
            center=self._pixels["head"],
            depth=self._depths["head"],
            frame=self.view.rotation @ skeleton.head_frame,
            radii=self.head_radii,
            scale=self.view.scale / (1 - self._depths["head"] / _PERSPECTIVE_DISTANCE),
            ears=(self._pixels["left_ear"], self._pixels["right_ear"]),
            hair_ends=fall,
            back_nearness=float((self.view.rotation @ chest)[2, 2]) * -1.0,
            neck_depth=self._depths["neck"],
            outfit=self.outfit,
            light=self.light,
        )
