"""The skeleton: joint angles lead to the points that they describe."""

from __future__ import annotations

import numpy as np
import pytest

from litehrnet_cuda.data.generated.people import (
    POSES,
    Limb,
    Pose,
    pose_skeleton,
    rotation,
    sample_body,
    sample_pose,
    sample_yaw,
)

REST = Limb(0, 0, 0, 0)


def pose(**changes: object) -> Pose:
    angles: dict[str, object] = {
        "name": "standing", "lean": 0, "side_lean": 0, "twist": 0, "head_yaw": 0, "head_pitch": 0, "head_roll": 0,
        "arms": (REST, REST), "legs": (REST, REST),
    }  # fmt: skip
    return Pose(**(angles | changes))  # type: ignore[arg-type]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_a_person_at_rest_is_symmetric_and_one_unit_high(rng: np.random.Generator) -> None:
    for _ in range(20):
        body = sample_body(rng)
        points = pose_skeleton(body, pose()).points
        for name, point in points.items():
            if name.startswith("left_"):
                assert point[0] > 0
                assert points[f"right_{name[5:]}"] == pytest.approx(point * (-1, 1, 1))
        height = points["head"][1] + body.head - points["left_toes"][1]
        assert 0.85 < height < 1.15
        assert points["left_toes"][2] > points["left_heel"][2]


def test_bones_keep_their_lengths(rng: np.random.Generator) -> None:
    for _ in range(50):
        body, drawn = sample_body(rng), sample_pose(rng)
        points = pose_skeleton(body, drawn).points
        for side in ("left", "right"):
            for a, b, length in (
                ("shoulder", "elbow", body.upper_arm),
                ("elbow", "wrist", body.forearm),
                ("hip", "knee", body.thigh),
                ("knee", "ankle", body.shin),
            ):
                # Rounding of a few float64 rotations.
                assert np.linalg.norm(points[f"{side}_{a}"] - points[f"{side}_{b}"]) == pytest.approx(length, abs=1e-12)


def test_angles_mean_what_they_say(rng: np.random.Generator) -> None:
    body = sample_body(rng)
    forward = pose_skeleton(body, pose(arms=(Limb(90, 0, 0, 0), REST))).points
    assert forward["left_wrist"][2] > forward["left_shoulder"][2] + 0.2
    outward = pose_skeleton(body, pose(arms=(Limb(0, 90, 0, 0), Limb(0, 90, 0, 0)))).points
    assert outward["left_wrist"][0] > outward["left_shoulder"][0] + 0.2
    assert outward["right_wrist"][0] < outward["right_shoulder"][0] - 0.2
    bent = pose_skeleton(body, pose(arms=(Limb(0, 0, 0, 90), REST), legs=(Limb(0, 0, 0, 90), REST))).points
    assert bent["left_wrist"][2] > bent["left_elbow"][2] + 0.1, "elbows bend forward"
    assert bent["left_ankle"][2] < bent["left_knee"][2] - 0.1, "knees bend backward"
    inward = pose_skeleton(body, pose(arms=(Limb(0, 0, 90, 90), Limb(0, 0, 90, 90)))).points
    assert inward["left_wrist"][0] < inward["left_elbow"][0] - 0.1
    assert inward["right_wrist"][0] > inward["right_elbow"][0] + 0.1
    leaning = pose_skeleton(body, pose(lean=40)).points
    assert leaning["head"][2] > 0.1


def test_rotations_are_right_handed() -> None:
    assert rotation(2, 90) @ [1, 0, 0] == pytest.approx([0, 1, 0])
    assert rotation(0, 90) @ [0, 1, 0] == pytest.approx([0, 0, 1])
    assert rotation(1, 90) @ [0, 0, 1] == pytest.approx([1, 0, 0])


def test_every_pose_is_drawn_and_most_people_face_the_camera(rng: np.random.Generator) -> None:
    assert {sample_pose(rng).name for _ in range(600)} == set(POSES)
    yaw = np.abs([sample_yaw(rng) for _ in range(2000)])
    assert yaw.max() <= 180
    # 85 % by design; four standard errors of 2000 draws are 3.2 %.
    assert np.mean(yaw < 58) == pytest.approx(0.85, abs=0.032)
