"""Bodies and poses: sampled proportions and joint angles, and the 3-D skeleton that follows from them.

Body coordinates have the pelvis as origin, x to the person's left, y up and z forward, in body heights. A person at
yaw 0 faces the camera, so that the person's left lies on the right of the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

POSES = ("standing", "walking", "running", "sitting", "arms raised", "bending", "squatting", "jumping")
_POSE_WEIGHTS = (0.47, 0.20, 0.07, 0.07, 0.12, 0.03, 0.02, 0.02)


@dataclass(frozen=True)
class Body:
    """Lengths in body heights; ``build`` scales all widths."""

    build: float
    shoulder: float
    hip: float
    torso: float
    upper_arm: float
    forearm: float
    thigh: float
    shin: float
    head: float
    waist: float


@dataclass(frozen=True)
class Limb:
    """Angles of an arm or a leg, in degrees: forward, outward, about its own axis (inward), and of elbow or knee."""

    forward: float
    outward: float
    inward_turn: float
    bend: float


@dataclass(frozen=True)
class Pose:
    """Angles in degrees; the pairs are (left, right)."""

    name: str
    lean: float
    side_lean: float
    twist: float
    head_yaw: float
    head_pitch: float
    head_roll: float
    arms: tuple[Limb, Limb]
    legs: tuple[Limb, Limb]


@dataclass(frozen=True)
class Skeleton:
    """Points (``[3]``, body coordinates) by name, ring centres of the torso, and the frames of torso rings and head."""

    points: dict[str, Array]
    ring_centers: Array
    ring_frames: Array
    head_frame: Array


def sample_body(rng: np.random.Generator) -> Body:
    """Draws proportions as in cartoons, stockier than life and with a larger head, so that small faces are legible."""
    return Body(
        build=rng.uniform(1.25, 1.6),
        shoulder=rng.uniform(0.108, 0.126),
        hip=rng.uniform(0.060, 0.072),
        torso=rng.uniform(0.275, 0.305),
        upper_arm=rng.uniform(0.150, 0.172),
        forearm=rng.uniform(0.130, 0.150),
        thigh=rng.uniform(0.215, 0.245),
        shin=rng.uniform(0.210, 0.240),
        head=rng.uniform(0.122, 0.138),
        waist=rng.uniform(0.72, 0.95),
    )


def sample_yaw(rng: np.random.Generator) -> float:
    """Draws where a person faces, in degrees: 0 the camera, 90 the right of the image, 180 away.

    Three in five face the camera, a quarter stand in three-quarter view, and the rest sideways or away.
    """
    kind = rng.random()
    sign = 1.0 if rng.random() < 0.5 else -1.0
    if kind < 0.6:
        return float(np.clip(rng.normal(0, 13), -30, 30))
    if kind < 0.85:
        return sign * rng.uniform(22, 58)
    if kind < 0.92:
        return sign * rng.uniform(58, 112)
    return sign * rng.uniform(140, 180)


def sample_pose(rng: np.random.Generator) -> Pose:
    """Draws a kind of pose and its joint angles."""
    name = POSES[int(rng.choice(len(POSES), p=_POSE_WEIGHTS))]
    arms = (_arm(rng), _arm(rng))
    legs = (_standing_leg(rng), _standing_leg(rng))
    lean = rng.normal(2, 3)
    stride = rng.uniform(0.35, 1.0) * (1 if rng.random() < 0.5 else -1)
    if name == "walking":
        arms = (_swing(rng, -22 * stride, 22), _swing(rng, 22 * stride, 22))
        legs = (_stride_leg(rng, 27 * stride, 8, 30), _stride_leg(rng, -27 * stride, 8, 30))
        lean = rng.normal(4, 3)
    elif name == "running":
        arms = (_swing(rng, -42 * stride, 88), _swing(rng, 42 * stride, 88))
        legs = (_stride_leg(rng, 52 * stride + 8, 30, 70), _stride_leg(rng, -52 * stride + 8, 30, 70))
        lean = rng.normal(12, 4)
    elif name == "sitting":
        legs = (_sitting_leg(rng), _sitting_leg(rng))
        if rng.random() < 0.6:
            arms = (_lap_arm(rng), _lap_arm(rng))
        lean = rng.normal(4, 6)
    elif name == "arms raised":
        raised = (_raised_arm(rng), _raised_arm(rng))
        which = rng.random()
        arms = (raised[0] if which < 0.7 else arms[0], raised[1] if which > 0.3 else arms[1])
    elif name == "bending":
        lean = rng.uniform(30, 62)
        hang = lean + rng.normal(0, 15)
        arms = (
            Limb(hang, abs(rng.normal(8, 6)), rng.uniform(0, 40), abs(rng.normal(15, 12))),
            Limb(hang + rng.normal(0, 12), abs(rng.normal(8, 6)), rng.uniform(0, 40), abs(rng.normal(15, 12))),
        )
        flex = abs(rng.normal(12, 10))
        legs = (Limb(flex, 6, 0, flex * 1.6), Limb(flex, 6, 0, flex * 1.6))
    elif name == "squatting":
        flex = rng.uniform(55, 85)
        spread = rng.uniform(10, 28)
        legs = (Limb(flex, spread, 0, flex * 1.45), Limb(flex + rng.normal(0, 5), spread, 0, flex * 1.45))
        lean = rng.uniform(8, 24)
    elif name == "jumping":
        legs = (_jumping_leg(rng), _jumping_leg(rng))
        arms = (_raised_arm(rng), _raised_arm(rng))
    return Pose(
        name=name,
        lean=lean,
        side_lean=rng.normal(0, 3.5),
        twist=rng.normal(0, 6),
        head_yaw=float(np.clip(rng.normal(0, 14), -40, 40)),
        head_pitch=rng.normal(3, 6) - 0.5 * max(lean - 20, 0) * rng.random(),
        head_roll=rng.normal(0, 5),
        arms=arms,
        legs=legs,
    )


def _arm(rng: np.random.Generator) -> Limb:
    """An arm of a person at rest: mostly hanging, sometimes on the hip, before the body, waving or stretched out."""
    kind = rng.random()
    if kind < 0.56:
        return Limb(rng.normal(4, 10), abs(rng.normal(9, 7)) + 3, rng.uniform(0, 45), abs(rng.normal(16, 14)))
    if kind < 0.70:
        return Limb(rng.normal(-8, 6), rng.uniform(34, 54), rng.uniform(70, 92), rng.uniform(80, 105))
    if kind < 0.82:
        return Limb(rng.uniform(8, 34), rng.uniform(3, 14), rng.uniform(25, 70), rng.uniform(65, 112))
    if kind < 0.91:
        return Limb(rng.normal(5, 8), rng.uniform(60, 112), -rng.uniform(70, 100), rng.uniform(40, 105))
    return Limb(rng.uniform(0, 70), rng.uniform(40, 95), rng.uniform(-30, 30), abs(rng.normal(12, 12)))


def _swing(rng: np.random.Generator, forward: float, bend: float) -> Limb:
    return Limb(forward + rng.normal(0, 5), abs(rng.normal(7, 4)) + 2, rng.uniform(5, 30), bend * rng.uniform(0.7, 1.3))


def _raised_arm(rng: np.random.Generator) -> Limb:
    return Limb(rng.normal(8, 10), rng.uniform(108, 172), -rng.uniform(20, 100), abs(rng.normal(18, 22)))


def _lap_arm(rng: np.random.Generator) -> Limb:
    return Limb(rng.uniform(14, 34), rng.uniform(4, 14), rng.uniform(5, 40), rng.uniform(30, 62))


def _standing_leg(rng: np.random.Generator) -> Limb:
    bend = abs(rng.normal(0, 5))
    return Limb(rng.normal(0, 4) + 0.5 * bend, rng.normal(6, 4), 0, bend)


def _stride_leg(rng: np.random.Generator, forward: float, front_bend: float, back_bend: float) -> Limb:
    bend = (front_bend if forward > 0 else back_bend) * rng.uniform(0.3, 1.3)
    return Limb(forward + rng.normal(0, 3), rng.normal(3, 2), 0, bend)


def _jumping_leg(rng: np.random.Generator) -> Limb:
    return Limb(rng.uniform(-15, 40), rng.uniform(4, 28), 0, rng.uniform(10, 75))


def _sitting_leg(rng: np.random.Generator) -> Limb:
    return Limb(rng.uniform(70, 90), abs(rng.normal(8, 6)) + 2, 0, rng.uniform(64, 100))


def rotation(axis: int, degrees: float) -> Array:
    """``[3, 3]`` right-handed rotation about axis 0, 1 or 2."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    matrix = np.eye(3)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix[i, i] = matrix[j, j] = c
    matrix[i, j], matrix[j, i] = -s, s
    return matrix


#: Height of each ring along the torso (0 pelvis, 1 base of the neck), its half width and half depth in body heights.
TORSO_RINGS = np.array(
    [
        (-0.13, 0.084, 0.052),
        (0.00, 0.094, 0.060),
        (0.38, 0.082, 0.052),
        (0.78, 0.100, 0.064),
        (0.93, 0.100, 0.050),
        (1.02, 0.050, 0.034),
    ]
)


def pose_skeleton(body: Body, pose: Pose) -> Skeleton:
    """Forward kinematics: joint angles to points in body coordinates."""
    down, ahead = np.array([0.0, -1.0, 0.0]), np.array([0.0, 0.0, 1.0])
    heights = TORSO_RINGS[:, 0]
    frames = np.stack(
        [
            rotation(0, pose.lean * v) @ rotation(2, -pose.side_lean * v) @ rotation(1, pose.twist * v)
            for v in np.clip(heights, 0, 1) ** 0.6
        ]
    )
    centers = np.zeros((len(heights), 3))
    centers[0] = frames[0][:, 1] * heights[0] * body.torso
    for i in range(2, len(heights)):
        centers[i] = centers[i - 1] + frames[i][:, 1] * (heights[i] - heights[i - 1]) * body.torso
    chest = frames[-2]
    neck = centers[-1]
    head_frame = chest @ rotation(1, pose.head_yaw) @ rotation(2, pose.head_roll) @ rotation(0, pose.head_pitch)
    points = {"neck": neck, "chest": centers[3], "pelvis": np.zeros(3)}
    points["head"] = neck + chest[:, 1] * 0.036 + head_frame @ np.array([0.0, 0.86, 0.12]) * body.head
    for i, side in enumerate(("left", "right")):
        sign = 1 - 2 * i
        arm, leg = pose.arms[i], pose.legs[i]
        shoulder = centers[-2] + chest @ np.array([sign * body.shoulder, 0.0, 0.0])
        # Lifting the arm above the horizontal lifts and narrows the shoulder.
        lift = max(0.0, arm.outward - 60) / 110
        shoulder = shoulder + chest @ np.array([-sign * 0.016, 0.026, 0.0]) * lift
        upper = (
            chest @ rotation(2, sign * arm.outward) @ rotation(0, -arm.forward) @ rotation(1, -sign * arm.inward_turn)
        )
        elbow = shoulder + upper @ down * body.upper_arm
        lower = upper @ rotation(0, -arm.bend)
        wrist = elbow + lower @ down * body.forearm
        hip = np.array([sign * body.hip, 0.0, 0.0])
        thigh = rotation(2, sign * leg.outward) @ rotation(0, -leg.forward)
        knee = hip + thigh @ down * body.thigh
        shin = rotation(2, sign * leg.outward * 0.3) @ rotation(0, leg.bend - leg.forward)
        ankle = knee + shin @ down * body.shin
        foot = shin @ rotation(1, sign * 14) @ (ahead + 0.22 * down)
        points |= {
            f"{side}_shoulder": shoulder,
            f"{side}_elbow": elbow,
            f"{side}_wrist": wrist,
            f"{side}_fingers": wrist + lower @ down * 0.052,
            f"{side}_hip": hip,
            f"{side}_knee": knee,
            f"{side}_ankle": ankle,
            f"{side}_heel": ankle + shin @ down * 0.026 - foot * 0.016,
            f"{side}_toes": ankle + shin @ down * 0.030 + foot * 0.088,
        }
    return Skeleton(points, centers, frames, head_frame)
