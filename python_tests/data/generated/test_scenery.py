"""Backgrounds and objects: repeatable, varied, never taken for people, and standing where they are put."""

from __future__ import annotations

import numpy as np
import pytest

from litehrnet_cuda.data.generated.canvas import Canvas
from litehrnet_cuda.data.generated.scenery import draw_background, draw_object, soft_noise

WIDTH, HEIGHT = 160, 120
# The first number that a seed's generator gives decides what is drawn.
ROOM, OUTDOORS, ABSTRACT = (
    [seed for seed in range(40) if low <= np.random.default_rng(seed).random() < high]
    for low, high in ((0, 0.4), (0.4, 0.8), (0.8, 1))
)
OBJECTS = [next(seed for seed in range(99) if np.random.default_rng(seed).integers(5) == kind) for kind in range(5)]
NAMES = ["crate", "ball", "post", "plant", "table"]


def background(seed: int, horizon: float = 50.0) -> Canvas:
    return draw_background(np.random.default_rng(seed), WIDTH, HEIGHT, horizon)


def test_noise_is_of_unit_strength_about_zero() -> None:
    noise = soft_noise(np.random.default_rng(0), 320, 240, 80)
    assert noise.shape == (240, 320)
    assert noise.dtype == np.float32
    # The mean of 80 x 60 independent normal values: standard error 0.014.
    assert abs(noise.mean()) < 0.06
    assert 0.6 < noise.std() < 1.1


@pytest.mark.parametrize("cells", [16, 32, 64])
def test_noise_has_as_many_cells_across_as_asked_for(cells: int) -> None:
    noise = soft_noise(np.random.default_rng(0), 640, 480, cells)
    for along, count in ((noise, cells), (noise.T, cells * 480 // 640)):
        changes = np.mean(np.count_nonzero(np.diff(np.sign(along), axis=1), axis=1))
        # Neighbours among independent values have different signs half of the time.
        assert changes == pytest.approx(count / 2, rel=0.2)


@pytest.mark.parametrize("cells", [0, 1])
def test_noise_needs_no_cells(cells: int) -> None:
    assert np.isfinite(soft_noise(np.random.default_rng(0), 5, 70, cells)).all()


@pytest.mark.parametrize("seed", [*ROOM[:6], *OUTDOORS[:6], *ABSTRACT[:4]])
def test_backgrounds_are_whole_and_belong_to_nobody(seed: int) -> None:
    canvas = background(seed)
    assert canvas.image.shape == (HEIGHT, WIDTH, 3)
    assert canvas.image.dtype == np.float32
    assert np.isfinite(canvas.image).all()
    assert not canvas.labels.any()
    assert not canvas.categories.any()
    # Grain is added to colours of 0 to 255 before the photograph cuts them off; nothing is left unpainted.
    assert -60 < canvas.image.min()
    assert canvas.image.max() < 330
    assert np.mean(canvas.image.max(axis=2) < 1) < 0.01


def test_equal_seeds_give_equal_backgrounds_and_others_differ() -> None:
    images = [background(seed).image for seed in range(12)]
    for seed, image in enumerate(images):
        assert np.array_equal(image, background(seed).image)
    means = np.array([image.mean(axis=(0, 1)) for image in images])
    assert means.std(axis=0).min() > 10
    assert min(np.abs(a - b).mean() for i, a in enumerate(images) for b in images[:i]) > 10


@pytest.mark.parametrize("seed", OUTDOORS[:5])
def test_the_ground_of_a_landscape_begins_at_the_horizon(seed: int) -> None:
    # Trees and houses stand in some columns; the step from the sky or a house to the ground is in most.
    image = background(seed, horizon=60.0).image
    above, below = image[54:59].mean(axis=0), image[62:67].mean(axis=0)
    within = np.abs(image[72:77].mean(axis=0) - image[64:69].mean(axis=0)).sum(axis=1)
    assert np.median(np.abs(above - below).sum(axis=1)) > 2 * np.median(within)


def test_the_horizon_moves_all_but_abstract_backgrounds() -> None:
    for seed in (*ROOM[:3], *OUTDOORS[:3]):
        assert np.abs(background(seed, 40.0).image - background(seed, 65.0).image).mean() > 1, seed
    for seed in ABSTRACT[:3]:
        assert np.array_equal(background(seed, 40.0).image, background(seed, 65.0).image)


def person_everywhere() -> Canvas:
    canvas = Canvas(np.full((HEIGHT, WIDTH, 3), 17, np.float32))
    canvas.labels[...] = 40
    canvas.categories[...] = 3
    return canvas


@pytest.mark.parametrize("seed", OBJECTS, ids=NAMES)
def test_objects_stand_on_their_foot_and_hide_who_is_behind(seed: int) -> None:
    canvas, scale = person_everywhere(), 80.0
    draw_object(np.random.default_rng(seed), canvas, np.array([80.0, 100.0]), scale)
    painted = canvas.labels == 0
    rows, columns = np.nonzero(painted)
    assert np.array_equal(canvas.categories == 0, painted)
    # At most the rounded end of a post reaches below the ground, by its radius of 0.022.
    assert 98 <= rows.max() <= 101 + 0.022 * scale
    assert columns.min() < 80 < columns.max()
    assert rows.min() < 100 - 0.05 * scale
    assert np.ptp(columns) < 0.8 * scale
    assert np.any(canvas.image[painted] != 17)
    assert np.all(canvas.image[~painted & (np.abs(np.arange(WIDTH) - 80) > 60)] == 17)


@pytest.mark.parametrize("seed", OBJECTS, ids=NAMES)
def test_objects_grow_with_the_scale(seed: int) -> None:
    extents = []
    for scale in (40.0, 80.0):
        canvas = person_everywhere()
        draw_object(np.random.default_rng(seed), canvas, np.array([80.0, 115.0]), scale)
        rows, columns = np.nonzero(canvas.labels == 0)
        extents.append((np.ptp(rows) + 1, np.ptp(columns) + 1))
    (small_height, small_width), (height, width) = extents
    # The same numbers by lot at twice the scale; antialiased rims of a pixel each way, and legs of fixed width.
    assert height == pytest.approx(2 * small_height, abs=5)
    assert width == pytest.approx(2 * small_width, abs=5)


@pytest.mark.parametrize("seed", OBJECTS, ids=NAMES)
def test_objects_outside_of_the_image_change_nothing(seed: int) -> None:
    canvas = person_everywhere()
    draw_object(np.random.default_rng(seed), canvas, np.array([-500.0, 90.0]), 80.0)
    assert np.all(canvas.labels == 40)
    assert np.all(canvas.image == 17)
