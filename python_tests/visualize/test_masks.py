"""Masks on images, and legends."""

from __future__ import annotations

import numpy as np
import pytest
from pixel_colors import has

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.visualize import (
    add_legend,
    draw_masks,
)


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
