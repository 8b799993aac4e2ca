"""The canvas: edges where they belong, and one owner per pixel."""

from __future__ import annotations

import numpy as np

from litehrnet_cuda.data.generated.canvas import Canvas, capsule, ellipse, flat, gradient, hull

WHITE = np.full(3, 255, np.float32)


def black() -> Canvas:
    return Canvas(np.zeros((40, 60, 3), np.float32))


def test_paint_covers_the_shape_and_reports_its_box() -> None:
    canvas = black()
    box = canvas.paint([ellipse(np.array([30.0, 20.0]), 10, 6)], flat(WHITE, 3), 7)
    owned = canvas.labels == 7
    rows, columns = np.nonzero(owned)
    assert box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    # Centre of mass: symmetric shape, whole-number centre; area: within the one-pixel rim of the ellipse's.
    assert abs(columns.mean() - 30) < 0.3
    assert abs(rows.mean() - 20) < 0.3
    assert abs(owned.sum() - np.pi * 60) < 2 * np.pi * 8
    assert np.array_equal(canvas.categories == 3, owned)
    assert np.all(canvas.image[owned] > 100)
    assert canvas.image[0, 0, 0] == 0


def test_later_shapes_hide_earlier_ones_and_translucent_ones_own_nothing() -> None:
    canvas = black()
    square = np.array([(10.0, 10), (30, 10), (30, 30), (10, 30)])
    canvas.paint([square], flat(WHITE), 1)
    canvas.paint([square + 5], flat(WHITE * 0.5), 2)
    assert canvas.labels[12, 12] == 1
    assert canvas.labels[25, 25] == 2
    assert canvas.paint([square], flat(WHITE * 0), 3, opacity=0.5) is None
    assert not np.any(canvas.labels == 3)
    assert 100 < canvas.image[12, 12, 0] < 150


def test_shapes_outside_and_across_the_rim() -> None:
    canvas = black()
    assert canvas.paint([ellipse(np.array([-50.0, 20.0]), 5, 5)], flat(WHITE), 1) is None
    assert canvas.paint([ellipse(np.array([0.0, 0.0]), 8, 8)], flat(WHITE), 1) is not None
    assert canvas.labels[0, 0] == 1


def test_outlines() -> None:
    limb = capsule(np.array([0.0, 0.0]), np.array([10.0, 0.0]), 2, 1)
    assert np.allclose([limb[:, 0].min(), limb[:, 0].max()], [-2, 11])
    assert np.allclose([limb[:, 1].min(), limb[:, 1].max()], [-2, 2])
    assert len(hull(np.array([(0.0, 0), (4, 0), (4, 4), (0, 4), (2, 2)]))) == 4
    color, _ = gradient(WHITE * 0, WHITE, 0, 10)(np.zeros((1, 1)), np.array([[-5.0], [5], [15]]))
    assert np.allclose(color[:, 0, 0], [0, 127.5, 255])
