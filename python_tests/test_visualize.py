"""The pictures: what is drawn, where, and in which colour."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import COCO
from litehrnet_cuda.results import KeyPoints
from litehrnet_cuda.visualize import (
    CENTER,
    LEFT,
    RIGHT,
    add_legend,
    contact_sheet,
    draw_masks,
    draw_poses,
    plot_joint_errors,
    plot_training_curve,
)


def person(scores: float = 1.0, scale: float = 1.0) -> KeyPoints:
    """Someone who faces the camera with the left side at larger x, in a box of 100 x 200 times scale."""
    places = {
        "nose": (60, 30), "eye": (66, 26), "ear": (72, 30), "shoulder": (90, 60), "elbow": (98, 95),
        "wrist": (100, 130), "hip": (78, 130), "knee": (80, 170), "ankle": (82, 205),
    }  # fmt: skip
    points = []
    for name in COCO.names:
        side, _, joint = name.partition("_")
        x, y = places[joint or "nose"]
        points.append((120 - x if side == "right" else x, y))
    keypoints = np.array([points], float) * scale
    box = np.array([[10, 10, 110, 210]]) * scale
    return KeyPoints(keypoints, np.full((1, 17), scores), box, np.ones(1))


def has(image: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    return np.all(image == color, axis=2)


def test_sides_have_their_colours() -> None:
    drawn = draw_poses(np.full((220, 120, 3), 127, np.uint8), person())
    assert np.nonzero(has(drawn, LEFT))[1].min() > 60 - 5
    assert np.nonzero(has(drawn, RIGHT))[1].max() < 60 + 5
    assert has(drawn, CENTER)[60].any(), "the line between the shoulders"
    knee = person().keypoints[0, COCO.names.index("left_knee")].astype(int)
    assert tuple(drawn[knee[1], knee[0]]) == LEFT


def test_faint_joints_are_left_out() -> None:
    image = np.full((220, 120, 3), 127, np.uint8)
    assert np.array_equal(draw_poses(image, person(0.1)), image)
    assert not np.array_equal(draw_poses(image, person(0.1), min_score=0.05), image)
    assert np.array_equal(draw_poses(image, KeyPoints.empty()), image)


def test_lines_grow_with_the_person() -> None:
    shares = []
    for scale in (1.0, 4.0):
        image = np.full((int(220 * scale), int(120 * scale), 3), 127, np.uint8)
        shares.append(np.mean(draw_poses(image, person(scale=scale)) != image))
    # A constant share of the picture means widths in proportion; outlines of one pixel make it fall a little.
    assert 0.5 < shares[1] / shares[0] <= 1.1


def test_boxes_grey_images_and_joints_far_outside() -> None:
    grey = np.full((220, 120), 127, np.uint8)
    plain, boxed = draw_poses(grey, person()), draw_poses(grey, person(), boxes=True)
    assert plain.shape == (220, 120, 3)
    assert tuple(plain[150, 10]) == (127, 127, 127)
    assert tuple(boxed[150, 10]) != (127, 127, 127)
    far = person()
    moved = KeyPoints(far.keypoints * 1e6, far.scores, far.boxes, far.box_scores)
    assert draw_poses(grey, moved).shape == (220, 120, 3)


def test_labels_are_above_people_and_inside_of_the_image() -> None:
    image = np.full((220, 120, 3), 127, np.uint8)
    plain, labelled = draw_poses(image, person()), draw_poses(image, person(), labels=["7"])
    rows, columns = np.nonzero((plain != labelled).any(axis=2))
    assert rows.max() < 30, "above the nose"
    assert 40 < columns.mean() < 80
    assert np.array_equal(draw_poses(image, person(0.1), labels=["7"]), image), "nothing is seen of the person"
    assert not np.array_equal(
        draw_poses(image, person(), boxes=True, labels=["7"]), draw_poses(image, person(), boxes=True)
    )
    far = person()
    far = KeyPoints(far.keypoints * 1e6, far.scores, far.boxes, far.box_scores)
    assert (draw_poses(image, far, labels=["7"])[-30:, -30:] == 235).any(), "moved into the image"
    with pytest.raises(InputError, match="labels: expected 1, one for each person, got 2"):
        draw_poses(image, person(), labels=["1", "2"])


@pytest.mark.parametrize(
    "image", [np.zeros((9, 9, 3), np.float32), np.zeros((9, 9, 4), np.uint8), np.zeros((0, 9, 3), np.uint8)]
)
def test_bad_images(image: np.ndarray) -> None:
    with pytest.raises(InputError, match="image: expected uint8 of shape"):
        draw_poses(image, KeyPoints.empty())


def test_masks_tint_classes_and_spare_the_background() -> None:
    image = np.full((40, 60, 3), 200, np.uint8)
    mask = np.zeros((40, 60), np.uint8)
    mask[5:30, 5:25], mask[5:30, 35:55] = 1, 2
    drawn = draw_masks(image, mask)
    assert np.array_equal(drawn[mask == 0], image[mask == 0])
    assert len({tuple(drawn[15, x]) for x in (2, 15, 45)}) == 3
    assert not np.array_equal(draw_masks(image, mask, background=None)[0, 0], image[0, 0])
    assert np.all(image == 200)


@pytest.mark.parametrize(
    "mask",
    [
        np.zeros((40, 61), np.uint8),
        np.zeros((40, 60), np.float32),
        np.full((40, 60), 256),
        np.full((40, 60), -1),
        np.zeros((0, 60), int),
    ],
    ids=lambda mask: f"{mask.shape} {mask.dtype}",
)
def test_masks_that_do_not_fit(mask: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"index_mask: expected whole numbers 0 to 255 of shape \[40, 60\]"):
        draw_masks(np.zeros((40, 60, 3), np.uint8), mask)


def test_masks_in_given_colours() -> None:
    image = np.full((40, 60, 3), 200, np.uint8)
    mask = np.zeros((40, 60), np.uint8)
    mask[5:30, 5:25], mask[5:30, 35:55] = 1, 2
    colors = np.array([(0, 0, 0), (10, 20, 30)], np.uint8)
    drawn = draw_masks(image, mask, opacity=1, colors=colors)
    assert np.array_equal(drawn[15, 15], (10, 20, 30))
    assert np.array_equal(drawn[mask == 2], image[mask == 2])  # beyond the colours


@pytest.mark.parametrize("opacity", [-0.1, 1.1, float("nan")])
def test_opacity_out_of_range(opacity: float) -> None:
    with pytest.raises(InputError, match="opacity: expected 0 to 1"):
        draw_masks(np.zeros((4, 4, 3), np.uint8), np.ones((4, 4), np.uint8), opacity)


def test_legend_takes_as_many_rows_as_its_names_need() -> None:
    image = np.full((50, 300, 3), 90, np.uint8)
    colors = np.array([(10 * i, 5, 250 - 10 * i) for i in range(12)], np.uint8)
    names = [f"class number {i}" for i in range(12)]
    heights = []
    for count in (1, 2, 12):
        whole = add_legend(image, names[:count], colors[:count])
        assert np.array_equal(whole[:50], image)
        heights.append(len(whole))
        patches = [has(whole[50:], tuple(color)).sum() for color in colors[:count]]  # type: ignore[arg-type]
        assert min(patches) > 20, "every class has its patch"
    assert 50 < heights[0] == heights[1] < heights[2]
    assert np.array_equal(add_legend(image, [], np.empty((0, 3), np.uint8)), image)
    with pytest.raises(InputError, match="colors: expected 2, one per name, got 1"):
        add_legend(image, names[:2], colors[:1])


def test_contact_sheet_holds_every_image_whole() -> None:
    colors = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    images = [np.full((50, 80, 3), color, np.uint8) for color in colors]
    sheet = contact_sheet(
        images, ["first", "second", "a title that is much longer than its picture"], 2, heading="Sheet"
    )
    places = []
    for color in colors:
        rows, columns = np.nonzero(has(sheet, color))
        assert len(rows) == 50 * 80
        places.append((rows.min(), columns.min()))
    assert places[0][0] == places[1][0] < places[2][0]
    assert places[0][1] == places[2][1] < places[1][1]


def test_contact_sheet_fits_other_sizes_into_the_cell() -> None:
    sheet = contact_sheet([np.zeros((100, 50, 3), np.uint8), np.zeros((20, 80), np.uint8)], columns=1, cell=(60, 60))
    assert has(sheet, (0, 0, 0)).sum() == 60 * 30 + 60 * 15


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": []}, "images: expected at least one"),
        ({"images": [np.zeros((9, 9), np.uint8)], "titles": []}, "titles: expected 1, one per image, got 0"),
        ({"images": [np.zeros((9, 9), np.uint8)], "columns": 0}, "columns: expected 1 or more"),
    ],
)
def test_contact_sheet_bad_input(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        contact_sheet(**arguments)


def colored(path: Path, *bgr: int) -> int:
    """How many pixels of a picture have a color of the curves."""
    return int(has(cv2.imread(str(path)), bgr).sum())


def test_training_curve_has_a_panel_for_each_figure(tmp_path: Path) -> None:
    losses = [{"step": i, "loss": 1.0 / (i + 1)} for i in range(30)]
    scores = [{"step": 15, "PCKh@0.5": 0.4}, {"step": 29, "PCKh@0.5": 0.7}]
    rates = [{"step": i, "learning_rate": 0.1 * i} for i in range(30)]
    blue, orange, green = (178, 114, 0), (0, 94, 213), (115, 158, 0)
    heights = []
    for name, history, drawn in (
        ("loss", losses, {blue}),
        ("score", scores, {orange}),
        ("both", losses + scores, {blue, orange}),
        ("all", losses + scores + rates, {blue, orange, green}),
        ("rows", [a | b for a, b in zip(losses, rates, strict=True)], {blue, green}),
    ):
        path = plot_training_curve(history, tmp_path / f"{name}.png", "PCKh@0.5")
        assert {color for color in (blue, orange, green) if colored(path, *color) > 100} == drawn, name
        heights.append(cv2.imread(str(path)).shape[0])
    assert heights[0] == heights[1] < heights[2] == heights[4] < heights[3]


def test_training_curve_of_nothing_is_said(tmp_path: Path) -> None:
    for history in ([{"epoch": 1}], [{"loss": 1.0}], [{"step": 1, "PCK": 0.5}], []):
        with pytest.raises(InputError, match=f"history: expected rows with 'step' .* got {len(history)} rows without"):
            plot_training_curve(history, tmp_path / "none.png")


def test_joint_errors_are_bars_as_long_as_they_are(tmp_path: Path) -> None:
    errors = [np.full(9, 4.0), np.array([1.0] * 9 + [8.0] * 2), np.empty(0)]
    path = plot_joint_errors(("nose", "left_eye", "tail"), errors, tmp_path / "errors.png", heading="three")
    picture = cv2.imread(str(path))
    blue = has(picture, (178, 114, 0))
    rows = np.flatnonzero(blue.sum(axis=1) > 20)
    bars = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
    legend = bars.pop()  # below the chart
    assert len(bars) == 2
    assert legend[0] > bars[-1][-1]
    first, second = (blue[bar[len(bar) // 2]].sum() for bar in bars)
    assert first / second == pytest.approx(4, rel=0.05)  # medians 4 and 1; an edge is a pixel or two
    for names, message in (((), "expected some"), (("a", "b"), "expected 2, one array per name, got 3")):
        with pytest.raises(InputError, match=f"errors: {message}"):
            plot_joint_errors(names, errors, path)


def test_import_does_not_load_matplotlib() -> None:
    code = "import sys, litehrnet_cuda.visualize; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
