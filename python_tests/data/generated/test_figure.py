"""One drawn person: joints where they belong, flags that tell the truth, parts in the order of their depth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from litehrnet_cuda.data.generated.canvas import Canvas, flat
from litehrnet_cuda.data.generated.clothes import BOTTOM, HAIR, SHOES, SKIN, TOP, Outfit, sample_outfit
from litehrnet_cuda.data.generated.figure import LABELS_PER_PERSON, PART_IDS, PARTS, Figure, View
from litehrnet_cuda.data.generated.people import Body, Limb, Pose, rotation
from litehrnet_cuda.keypoints import COCO

WIDTH, HEIGHT = 240, 300
BODY = Body(
    build=1.0, shoulder=0.106, hip=0.056, torso=0.29, upper_arm=0.16, forearm=0.14,
    thigh=0.23, shin=0.225, head=0.09, waist=0.85,
)  # fmt: skip
OUT = Limb(forward=0, outward=35, inward_turn=0, bend=0)
REST = Limb(forward=0, outward=0, inward_turn=0, bend=0)
APART = Limb(forward=0, outward=8, inward_turn=0, bend=0)
OUTFIT = replace(
    sample_outfit(np.random.default_rng(0)), hair_style="short", hairline=0.0, beard=False, glasses=False,
    pattern="plain", sleeve=0.55, fastening=False, tucked=False, leg=1.88, skirt=0.0,
)  # fmt: skip

# What may lie on top where a joint is seen: the limbs that meet there, or the cloth of the trunk above it.
SEEN_ON = {
    "nose": {"head"},
    "left_eye": {"head"},
    "right_eye": {"head"},
    "left_ear": {"left_ear"},
    "right_ear": {"right_ear"},
    **{f"{side}_shoulder": {"torso", f"{side}_upper_arm"} for side in ("left", "right")},
    **{f"{side}_elbow": {f"{side}_upper_arm", f"{side}_forearm"} for side in ("left", "right")},
    **{f"{side}_wrist": {f"{side}_forearm", f"{side}_hand"} for side in ("left", "right")},
    **{f"{side}_hip": {"torso", "skirt", f"{side}_thigh"} for side in ("left", "right")},
    **{f"{side}_knee": {f"{side}_thigh", f"{side}_shin"} for side in ("left", "right")},
    **{f"{side}_ankle": {f"{side}_shin", f"{side}_foot"} for side in ("left", "right")},
}


def figure(
    yaw: float = 0.0,
    *,
    arms: tuple[Limb, Limb] = (OUT, OUT),
    legs: tuple[Limb, Limb] = (APART, APART),
    pose: str = "standing",
    outfit: Outfit = OUTFIT,
    height: float = 260.0,
    foot: tuple[float, float] = (120.0, 285.0),
    **angles: float,
) -> Figure:
    """A person upright before a level camera, whose every angle is zero unless a test asks for another."""
    return Figure(
        body=BODY,
        pose=Pose(pose, 0, 0, 0, angles.get("head_yaw", 0), angles.get("head_pitch", 0), 0, arms, legs),
        outfit=outfit,
        yaw=yaw,
        tilt=angles.get("tilt", 0),
        roll=angles.get("roll", 0),
        height=height,
        foot=np.array(foot),
        light=np.array([0.0, 0.6, 0.8]),
    )


def drawn(*people: Figure) -> tuple[Canvas, list[tuple[int, ...] | None]]:
    """The canvas after all of them, the first one farthest, and their boxes."""
    canvas = Canvas(np.zeros((HEIGHT, WIDTH, 3), np.float32))
    return canvas, [person.draw(canvas, index) for index, person in enumerate(people)]


def flags_of(person: Figure) -> dict[str, int]:
    canvas, _ = drawn(person)
    return dict(zip(COCO.names, person.visibility(canvas.labels, 0).tolist(), strict=True))


def part_at(canvas: Canvas, person: Figure, joint: str, index: int = 0) -> str | None:
    """The part of the person that owns the pixel of a joint."""
    x, y = np.rint(person.joints[COCO.names.index(joint)]).astype(int)
    part = int(canvas.labels[y, x]) - (index + 1) * LABELS_PER_PERSON
    return PARTS[part - 1] if 0 < part <= len(PARTS) else None


# ---------------------------------------------------------------------------------------------------- geometry


@pytest.mark.parametrize(("yaw", "sign"), [(0, 1), (20, 1), (-20, 1), (180, -1), (160, -1)])
def test_left_is_on_the_right_of_the_image_when_facing_the_camera_and_reversed_from_behind(
    yaw: float, sign: int
) -> None:
    joints = figure(yaw).joints
    for a, b in COCO.flip_pairs:
        assert COCO.names[a].startswith("left_")
        assert sign * (joints[a, 0] - joints[b, 0]) > 1, COCO.names[a]


def test_a_frontal_person_is_symmetric_about_the_line_through_the_foot() -> None:
    person = figure(0)
    mirrored = person.joints[COCO.flip_indices] * (-1, 1) + (2 * person.foot[0], 0)
    assert person.joints == pytest.approx(mirrored, abs=1e-9)  # rounding of float64


def test_joints_stand_above_each_other_as_in_a_body() -> None:
    rows = dict(zip(COCO.names, figure(0).joints[:, 1], strict=True))
    order = ["left_eye", "nose", "left_shoulder", "left_elbow", "left_hip", "left_knee", "left_ankle"]
    assert [*sorted(order, key=rows.__getitem__)] == order


@pytest.mark.parametrize("yaw", [0, 70, 180])
@pytest.mark.parametrize("tilt", [0, 12])
def test_the_soles_stand_on_the_foot_point(yaw: float, tilt: float) -> None:
    person = figure(yaw, tilt=tilt)
    canvas, _ = drawn(person)
    lowest = np.nonzero((canvas.labels > 0).any(axis=1))[0].max()
    # A sole is drawn up to 0.025 body heights (6.5 pixels) below the point that stands on the ground.
    assert abs(lowest - person.foot[1]) < 8


def test_size_is_in_proportion_to_the_height() -> None:
    large, small = figure(height=260).joints, figure(height=130).joints
    foot = figure().foot
    assert large - foot == pytest.approx(2 * (small - foot), abs=1e-9)  # rounding of float64


def test_what_is_nearer_is_projected_larger() -> None:
    view = View(np.eye(3), 100.0, np.array([50.0, 50.0]))
    pixels, depths = view.project(np.array([(0.1, 0.2, 0.0), (0.1, 0.2, 0.5), (0.1, 0.2, -0.5)]))
    assert pixels[0] == pytest.approx([60, 30])  # y points up in the body and down in the image
    assert depths == pytest.approx([0, 0.5, -0.5])
    away = np.linalg.norm(pixels - 50, axis=1)
    assert away[1] > away[0] > away[2]


@pytest.mark.parametrize(("angle", "moved"), [("roll", "left_shoulder"), ("tilt", "nose")])
def test_the_camera_turns_about_its_own_axes(angle: str, moved: str) -> None:
    k = COCO.names.index(moved)
    turned, level = figure(**{angle: 10.0}), figure()
    hips = [COCO.names.index(name) for name in ("left_hip", "right_hip")]
    before = level.joints[k] - level.joints[hips].mean(axis=0)
    after = turned.joints[k] - turned.joints[hips].mean(axis=0)
    if angle == "roll":  # about the line of sight: the shoulder on the right of the image rises
        expected = rotation(2, -10)[:2, :2] @ before
        # Perspective magnifies by at most 1 + 0.1 / 5 (depths within 0.1 body heights of the pelvis).
        assert after == pytest.approx(expected, abs=0.02 * np.linalg.norm(before))
    else:  # the camera looks down: the head comes nearer, and the face moves down the image
        assert np.hypot(*after) < np.hypot(*before)
        heads = [person.view.project(person.skeleton.points["head"][None])[1][0] for person in (level, turned)]
        assert heads[1] > heads[0] + 0.03


# ------------------------------------------------------------------------------------------- parts and visibility


def test_everything_of_a_frontal_person_with_spread_limbs_is_seen() -> None:
    assert set(flags_of(figure(0)).values()) == {2}


@pytest.mark.parametrize("yaw", range(-180, 180, 30))
@pytest.mark.parametrize("skirt", [0.0, 0.8])
def test_what_is_seen_of_a_joint_is_its_own_part(yaw: float, skirt: float) -> None:
    person = figure(yaw, arms=(Limb(20, 10, 30, 60), OUT), outfit=replace(OUTFIT, skirt=skirt, leg=0.0))
    canvas, _ = drawn(person)
    flags = person.visibility(canvas.labels, 0)
    for name, flag in zip(COCO.names, flags, strict=True):
        if flag == 2:
            assert part_at(canvas, person, name) in SEEN_ON[name], name
    assert np.count_nonzero(flags == 2) >= 8


def test_parts_lie_on_their_own_side() -> None:
    canvas, _ = drawn(figure(0))
    for part in ("upper_arm", "forearm", "hand", "thigh", "shin", "foot", "ear"):
        columns = {
            side: np.nonzero(canvas.labels == LABELS_PER_PERSON + PART_IDS[f"{side}_{part}"])[1]
            for side in ("left", "right")
        }
        assert columns["left"].mean() > 120 > columns["right"].mean(), part
        # The same shape mirrored: pixel counts differ by the rounding of its rim only.
        assert len(columns["left"]) == pytest.approx(len(columns["right"]), rel=0.1), part


@pytest.mark.parametrize(("yaw", "far", "near"), [(90, "left", "right"), (-90, "right", "left")])
def test_in_profile_the_far_side_of_the_face_is_left_out(yaw: float, far: str, near: str) -> None:
    flags = flags_of(figure(yaw))
    assert (flags[f"{far}_eye"], flags[f"{far}_ear"]) == (0, 0)
    assert (flags[f"{near}_eye"], flags[f"{near}_ear"]) == (2, 2)
    assert flags["nose"] > 0, "in the middle, on neither side"


def test_from_behind_the_face_is_left_out_and_the_ears_are_seen() -> None:
    flags = flags_of(figure(180))
    assert [flags[name] for name in ("nose", "left_eye", "right_eye")] == [0, 0, 0]
    assert [flags[name] for name in ("left_ear", "right_ear")] == [2, 2]
    assert [flags[f"{side}_shoulder"] for side in ("left", "right")] == [2, 2]


def test_it_is_the_head_that_must_turn_not_the_body() -> None:
    turned_head = flags_of(figure(140, head_yaw=-80))  # the back to the camera, the face nearly sideways
    assert 0 < turned_head["nose"]
    turned_away = flags_of(figure(100, head_yaw=80))
    assert turned_away["nose"] == turned_away["left_eye"] == turned_away["right_eye"] == 0


def test_ears_under_hair_are_hidden_but_there() -> None:
    flags = flags_of(figure(0, outfit=replace(OUTFIT, hair_style="long")))
    assert (flags["left_ear"], flags["right_ear"]) == (1, 1)
    assert (flags["nose"], flags["left_eye"], flags["right_eye"]) == (2, 2, 2)


def test_a_far_ear_under_hair_is_left_out() -> None:
    flags = flags_of(figure(90, outfit=replace(OUTFIT, hair_style="long")))
    assert (flags["left_ear"], flags["right_ear"]) == (0, 1)


def test_hidden_joints_other_than_the_faces_are_never_left_out() -> None:
    for yaw in range(-180, 180, 20):
        flags = flags_of(figure(yaw, arms=(REST, REST), legs=(REST, REST)))
        assert all(flag > 0 for name, flag in flags.items() if not name.endswith(("nose", "eye", "ear"))), yaw


def test_joints_beyond_the_image_are_left_out() -> None:
    person = figure(0, foot=(WIDTH - 5.0, 285.0))
    flags = flags_of(person)
    for (x, _), name in zip(np.rint(person.joints), COCO.names, strict=True):
        assert (flags[name] == 0) == (x >= WIDTH), name
    assert 0 in flags.values()
    below = flags_of(figure(0, foot=(120.0, HEIGHT + 100.0)))
    assert below["left_ankle"] == below["right_ankle"] == 0
    assert below["nose"] == 2


def test_something_in_front_hides_joints() -> None:
    person = figure(0)
    canvas, _ = drawn(person)
    canvas.paint([np.array([(0.0, 200), (240, 200), (240, 300), (0, 300)])], flat(np.zeros(3, np.float32)), 0)
    flags = dict(zip(COCO.names, person.visibility(canvas.labels, 0).tolist(), strict=True))
    for (_, y), name in zip(person.joints, COCO.names, strict=True):
        assert flags[name] == (1 if y > 200 else 2), name


def test_a_person_in_front_hides_the_one_behind_and_labels_tell_them_apart() -> None:
    behind, front = figure(0), figure(0, foot=(125.0, 285.0))
    canvas, _ = drawn(behind, front)
    assert set(front.visibility(canvas.labels, 1).tolist()) == {2}
    assert np.count_nonzero(behind.visibility(canvas.labels, 0) == 1) >= 12
    assert set(np.unique(canvas.labels // LABELS_PER_PERSON)) == {0, 1, 2}
    alone, _ = drawn(front)
    second = canvas.labels // LABELS_PER_PERSON == 2
    assert np.array_equal(second, alone.labels > 0)
    assert np.array_equal(canvas.labels[second], alone.labels[second] + LABELS_PER_PERSON)


# ------------------------------------------------------------------------------------------------------ depth order


def test_an_arm_before_the_trunk_is_seen_from_the_front_and_hidden_from_behind() -> None:
    folded = Limb(forward=15, outward=5, inward_turn=60, bend=90)
    front, back = figure(0, arms=(folded, REST)), figure(180, arms=(folded, REST))
    canvas, _ = drawn(front)
    assert part_at(canvas, front, "left_wrist") in SEEN_ON["left_wrist"]
    canvas, _ = drawn(back)
    assert part_at(canvas, back, "left_wrist") == "torso"
    assert flags_of(back)["left_wrist"] == 1


@pytest.mark.parametrize(("yaw", "far", "near"), [(90, "left", "right"), (-90, "right", "left")])
def test_in_profile_the_near_limbs_hide_the_far_ones(yaw: float, far: str, near: str) -> None:
    person = figure(yaw, arms=(REST, REST), legs=(REST, REST))
    canvas, _ = drawn(person)
    flags = flags_of(person)
    for joint in ("elbow", "wrist", "knee"):
        assert flags[f"{near}_{joint}"] == 2, joint
        assert flags[f"{far}_{joint}"] == 1, joint
        assert str(part_at(canvas, person, f"{far}_{joint}")).startswith(near), joint
    assert (flags[f"{near}_shoulder"], flags[f"{far}_shoulder"]) == (2, 1)
    assert flags[f"{near}_hip"] == 1, "under the hanging arm"
    reaching = flags_of(figure(yaw, arms=(Limb(70, 0, 0, 0),) * 2))
    assert (reaching[f"{near}_hip"], reaching[f"{far}_hip"]) == (2, 1)


@pytest.mark.parametrize(("yaw", "expected"), [(0, {2}), (90, {1, 2}), (180, {2})])
def test_hips_are_seen_through_the_cloth_but_not_through_the_body(yaw: float, expected: set[int]) -> None:
    person = figure(yaw, arms=(Limb(70, 0, 0, 0),) * 2, outfit=replace(OUTFIT, skirt=0.9, leg=0.0))
    canvas, _ = drawn(person)
    hips = flags_of(person)["left_hip"], flags_of(person)["right_hip"]
    assert {part_at(canvas, person, f"{side}_hip") for side in ("left", "right")} <= {"skirt", "torso"}
    assert set(hips) == expected
    if yaw == 90:
        assert hips == (1, 2)


def test_a_hand_behind_a_thigh_is_hidden() -> None:
    person = figure(0, arms=(Limb(0, -5, 0, 0), REST), legs=(Limb(50, 5, 0, 60), APART))
    canvas, _ = drawn(person)
    assert part_at(canvas, person, "left_wrist") == "left_thigh"
    assert flags_of(person)["left_wrist"] == 1


def test_a_thigh_towards_the_camera_is_seen_and_one_away_from_it_is_hidden() -> None:
    raised = (Limb(80, 5, 0, 90), APART)
    front, back = figure(0, legs=raised), figure(180, legs=raised)
    canvas, _ = drawn(front)
    assert part_at(canvas, front, "left_knee") in SEEN_ON["left_knee"]
    assert flags_of(front)["left_knee"] == 2
    canvas, _ = drawn(back)
    assert part_at(canvas, back, "left_knee") == "torso"
    assert flags_of(back)["left_knee"] == 1


# ------------------------------------------------------------------------------------------------- clothes and boxes


@pytest.mark.parametrize("sleeve", [0.0, 0.55, 1.0, 1.93])
def test_sleeves_reach_as_far_as_they_say(sleeve: float) -> None:
    person = figure(0, outfit=replace(OUTFIT, sleeve=sleeve))
    canvas, _ = drawn(person)
    names = ("left_shoulder", "left_elbow", "left_wrist")
    shoulder, elbow, wrist = person.joints[[COCO.names.index(name) for name in names]]
    # Not at the joints themselves: cloth ends round, by a fifth of the limb's length.
    for along in (0.25, 0.8, 1.3, 1.8):
        point = shoulder + along * (elbow - shoulder) if along < 1 else elbow + (along - 1) * (wrist - elbow)
        x, y = np.rint(point).astype(int)
        assert canvas.categories[y, x] == (TOP if along < sleeve else SKIN), along


def test_categories_follow_the_body() -> None:
    canvas, _ = drawn(figure(0))
    rows = {c: np.nonzero(canvas.categories == c)[0].mean() for c in (HAIR, SKIN, TOP, BOTTOM, SHOES)}
    assert rows[HAIR] < rows[TOP] < rows[BOTTOM] < rows[SHOES]
    assert np.array_equal(canvas.categories > 0, canvas.labels > 0)


def test_a_skirt_covers_the_thighs() -> None:
    parts = {}
    for skirt in (0.0, 0.9):
        canvas, _ = drawn(figure(0, outfit=replace(OUTFIT, skirt=skirt, leg=0.0)))
        parts[skirt] = {name: np.count_nonzero(canvas.labels == LABELS_PER_PERSON + i) for name, i in PART_IDS.items()}
    assert parts[0.0]["skirt"] == 0 < parts[0.9]["skirt"]
    assert parts[0.9]["left_thigh"] < 0.5 * parts[0.0]["left_thigh"]


@pytest.mark.parametrize(("pose", "yaw"), [("standing", 0), ("standing", 180), ("sitting", 0), ("sitting", 90)])
def test_the_box_is_that_of_the_person_without_the_seat(pose: str, yaw: float) -> None:
    person = figure(yaw, pose=pose, legs=(APART, APART) if pose == "standing" else (Limb(80, 8, 0, 80),) * 2)
    canvas, (box,) = drawn(person)
    rows, columns = np.nonzero(canvas.labels)
    assert box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    # Every joint lies on the drawing.
    assert np.all((person.joints >= np.array(box[:2]) - 1) & (person.joints <= np.array(box[2:])))


def test_a_seat_belongs_to_nobody_and_hides_what_is_behind_it() -> None:
    sitting = figure(180, pose="sitting", legs=(Limb(80, 8, 0, 80),) * 2)  # its back to the camera
    canvas, (box,) = drawn(sitting)
    assert box is not None
    lowest = np.nonzero(canvas.labels)[0].max()
    assert box[3] > lowest + 20, "the box holds the hidden feet"
    x, y = np.rint(sitting.joints[COCO.names.index("left_ankle")]).astype(int)
    assert canvas.image[y, x].any()
    assert canvas.labels[y, x] == canvas.categories[y, x] == 0
    assert flags_of(sitting)["left_ankle"] == 1


def test_the_box_holds_covered_parts_and_ends_with_the_image() -> None:
    behind = figure(0)
    _, (alone,) = drawn(behind)
    _, boxes = drawn(behind, figure(0, foot=(150.0, 285.0)))
    assert boxes[0] == alone
    _, (cut,) = drawn(figure(0, foot=(0.0, 285.0)))
    assert cut is not None
    assert cut[0] == 0
    assert cut[2] < WIDTH
    canvas, (outside,) = drawn(figure(0, foot=(-400.0, 285.0)))
    assert outside is None
    assert not canvas.labels.any()


def test_labels_fit_between_those_of_two_people() -> None:
    assert max(PART_IDS.values()) < LABELS_PER_PERSON
    assert len(set(PART_IDS.values())) == len(PARTS)
    assert 0 not in PART_IDS.values()
