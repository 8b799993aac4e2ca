"""The head: features on the right side of the sphere, hair where its style puts it, parts in the order of depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from litehrnet_cuda.data.generated.canvas import Canvas, Part
from litehrnet_cuda.data.generated.clothes import HAIR, HAIR_STYLES, SKIN, sample_outfit
from litehrnet_cuda.data.generated.head import Head
from litehrnet_cuda.data.generated.people import rotation

CENTER = np.array([60.0, 60.0])
SCALE = 450.0  # pixels per body height: a head of 81 pixels
RADII = np.array([0.072, 0.09, 0.081])
OUTFIT = replace(
    sample_outfit(np.random.default_rng(1)),
    skin=np.array([140, 170, 220], np.float32),
    hair=np.array([200, 40, 40], np.float32),
    hat=np.array([40, 200, 40], np.float32),
    hair_style="short",
    hairline=0.0,
    beard=False,
    glasses=False,
)


def head(yaw: float = 0.0, **looks: Any) -> Head:
    frame = rotation(1, yaw)
    sides = np.array([(1.05, -0.06, -0.08), (-1.05, -0.06, -0.08)]) * RADII
    ears = CENTER + (sides @ frame.T)[:, :2] * (SCALE, -SCALE)
    return Head(
        center=CENTER,
        depth=0.0,
        frame=frame,
        radii=RADII,
        scale=SCALE,
        ears=(ears[0], ears[1]),
        hair_ends=CENTER + np.array([(-25.0, 50.0), (25.0, 50.0)]),
        back_nearness=-float(frame[2, 2]),
        neck_depth=-0.01,
        outfit=replace(OUTFIT, **looks),
        light=np.array([0.0, 0.0, 1.0]),
    )


def named(person: Head, name: str) -> list[Part]:
    return [part for part in person.parts() if part.name == name]


def skull(person: Head) -> Part:
    """The ellipsoid with the face on it, among the parts called head (the nose is another)."""
    return max(named(person, "head"), key=lambda part: np.ptp(part.polygons[0][:, 1]))


def shade(person: Head, *points: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Colours ``[n, 3]`` and categories ``[n]`` of the skull at offsets from its centre, in radii (right, up)."""
    results = []
    for across, up in points:
        x = np.array([[CENTER[0] + across * RADII[0] * SCALE]], np.float32)
        y = np.array([[CENTER[1] - up * RADII[1] * SCALE]], np.float32)
        color, category = skull(person).shade(x, y)
        results.append((color[0, 0], np.broadcast_to(category, (1, 1))[0, 0]))
    return np.array([color for color, _ in results]), np.array([category for _, category in results])


EYES = ((0.40, 0.10), (-0.40, 0.10))
CHEEKS = ((0.45, -0.3), (-0.45, -0.3))


@pytest.mark.parametrize("yaw", [0, 90, -90, 180])
def test_the_outline_has_the_size_of_the_ellipsoid(yaw: float) -> None:
    outline = skull(head(yaw)).polygons[0]
    half_width = RADII[0 if yaw in (0, 180) else 2]
    # Extremes of 24 points on an ellipse: the four on its axes are among them.
    assert np.ptp(outline, axis=0) == pytest.approx(2 * SCALE * np.array([half_width, RADII[1]]), rel=1e-6)
    assert outline.mean(axis=0) == pytest.approx(CENTER)


def test_the_face_is_on_the_front_only() -> None:
    front, _ = shade(head(0), *EYES, *CHEEKS)
    assert np.all(front[:2].mean(axis=1) < 0.5 * front[2:].mean(axis=1)), "the irises are dark"
    from_behind, categories = shade(head(180), *EYES, *CHEEKS)
    assert np.all(categories[:2] == HAIR)
    assert from_behind[:2] == pytest.approx(np.tile(OUTFIT.hair, (2, 1)), rel=0.45)  # hair, lit between 0.62 and 1.08


def test_the_face_moves_to_where_the_person_looks() -> None:
    eye, cheek = np.array([(0.40, 0.10, 0.91), (0.40, -0.3, 0.87)]) * RADII  # on the sphere
    for yaw in (-30, 0, 30):
        points = [(rotation(1, yaw) @ point)[:2] / RADII[:2] for point in (eye, cheek)]
        (iris, skin), _ = shade(head(yaw), *points)
        assert iris.mean() < 0.6 * skin.mean(), yaw


def test_the_frontal_face_is_symmetric() -> None:
    person = head(0)
    left, left_category = shade(person, *[(x / 10, y / 10) for x in range(1, 8) for y in range(-6, 7)])
    right, right_category = shade(person, *[(-x / 10, y / 10) for x in range(1, 8) for y in range(-6, 7)])
    assert np.array_equal(left_category, right_category)
    assert left == pytest.approx(right, abs=0.1)  # of 255; float32 over a few dozen operations


@pytest.mark.parametrize(("style", "back"), [("short", HAIR), ("long", HAIR), ("bald", SKIN)])
def test_hair_covers_what_its_style_says(style: str, back: int) -> None:
    _, categories = shade(head(0, hair_style=style), (0, -0.2), (0, 0.05))
    assert set(categories.tolist()) == {SKIN}
    _, (crown,) = shade(head(0, hair_style=style), (0, 0.9))
    assert crown == (SKIN if style == "bald" else HAIR)
    _, (middle,) = shade(head(180, hair_style=style), (0, 0.4))
    assert middle == back


def test_a_higher_hairline_shows_more_forehead() -> None:
    points = [(0, y / 20) for y in range(20)]
    covered = [np.count_nonzero(shade(head(0, hairline=line), *points)[1] == HAIR) for line in (0.12, 0.0, -0.04)]
    assert covered[0] > covered[1] >= covered[2]


def test_a_cap_has_the_colour_of_the_hat_and_a_peak() -> None:
    person = head(0, hair_style="cap")
    (top,), (category,) = shade(person, (0, 0.8))
    assert category == HAIR
    assert np.argmax(top) == 1, "green as the hat, not blue as the hair"
    (peak,) = named(person, "hair")
    assert peak.depth > person.depth
    assert named(head(180, hair_style="cap"), "hair")[0].depth < 0


@pytest.mark.parametrize(
    ("look", "point"), [("beard", (0.0, -0.8)), ("glasses", (0.40 + 0.27, 0.10))], ids=["beard", "glasses"]
)
def test_looks_that_belong_to_the_face(look: str, point: tuple[float, float]) -> None:
    without, _ = shade(head(0), point)
    with_it, categories = shade(head(0, **{look: True}), point)
    assert np.abs(with_it - without).max() > 40
    assert categories[0] == SKIN, "painted on the face"
    assert np.array_equal(shade(head(180, **{look: True}), *EYES, *CHEEKS)[0], shade(head(180), *EYES, *CHEEKS)[0])


def test_light_from_one_side_lights_that_side() -> None:
    person = replace(head(0), light=np.array([0.8, 0.0, 0.6]))
    (right, left), _ = shade(person, *CHEEKS)
    assert right.mean() > left.mean() + 20


def test_ears_are_on_their_sides_and_the_far_one_is_behind() -> None:
    for yaw, sign in ((0, 1), (180, -1)):
        (left,), (right,) = named(head(yaw), "left_ear"), named(head(yaw), "right_ear")
        assert sign * (left.polygons[0][:, 0].mean() - CENTER[0]) > 20
        assert sign * (CENTER[0] - right.polygons[0][:, 0].mean()) > 20
        assert min(left.depth, right.depth) > 0, "both stand out from the head"
    sideways = head(90)  # faces the right of the image: the left ear is on the far side
    assert named(sideways, "left_ear")[0].depth < 0 < named(sideways, "right_ear")[0].depth


@pytest.mark.parametrize("style", HAIR_STYLES)
def test_parts_of_every_style(style: str) -> None:
    names = [part.name for part in head(0, hair_style=style).parts()]
    assert names.count("head") == 2, "skull and nose"
    # Long hair covers the ears; the cap's hair is its peak.
    assert names.count("left_ear") == names.count("right_ear") == (0 if style == "long" else 1)
    assert names.count("hair") == (1 if style in ("long", "bun", "tail", "cap") else 0)


@pytest.mark.parametrize("style", ["long", "bun", "tail"])
def test_hair_on_the_back_is_before_the_head_only_from_behind(style: str) -> None:
    (front,), (back,) = (named(head(yaw, hair_style=style), "hair") for yaw in (0, 180))
    assert front.depth < 0 < back.depth


def test_the_nose_is_below_the_eyes_and_turns_with_the_head() -> None:
    def nose(yaw: float) -> Part:
        return min(named(head(yaw), "head"), key=lambda part: np.ptp(part.polygons[0][:, 1]))

    tip = nose(0).polygons[0].mean(axis=0)
    assert tip[0] == pytest.approx(CENTER[0])
    assert CENTER[1] - 0.1 * RADII[1] * SCALE < tip[1] < CENTER[1] + 0.4 * RADII[1] * SCALE
    assert nose(90).polygons[0][:, 0].max() > CENTER[0] + RADII[2] * SCALE, "it stands out in profile"
    assert nose(0).depth > 0 > nose(180).depth


def test_a_head_on_a_canvas_fills_its_outline() -> None:
    canvas = Canvas(np.zeros((120, 120, 3), np.float32))
    for part in sorted(head(0).parts(), key=lambda part: part.depth):
        canvas.paint(part.polygons, part.shade, 1)
    # An ellipse's area, the ears beside it, less rounding at the rim.
    ellipse = np.pi * RADII[0] * RADII[1] * SCALE**2
    assert ellipse < np.count_nonzero(canvas.labels) < 1.2 * ellipse
    assert set(np.unique(canvas.categories)) == {0, SKIN, HAIR}
    assert np.isfinite(canvas.image).all()
