"""What pictures are drawn on, and text."""

from __future__ import annotations

import numpy as np
import pytest

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.visualize.canvas import INK, PAPER, copy_image, write_text


def test_images_are_copied_and_grey_becomes_colour() -> None:
    image, grey = np.full((4, 6, 3), 7, np.uint8), np.full((4, 6), 7, np.uint8)
    for copy in (copy_image(image), copy_image(grey)):
        assert np.array_equal(copy, image)
        copy[:] = 0
    assert image.min() == grey.min() == 7


@pytest.mark.parametrize(
    "image", [np.zeros((9, 9, 3), np.float32), np.zeros((9, 9, 4), np.uint8), np.zeros((0, 9, 3), np.uint8)]
)
def test_bad_images(image: np.ndarray) -> None:
    with pytest.raises(InputError, match="image: expected uint8 of shape"):
        copy_image(image)


def test_text_stays_within_its_room() -> None:
    sheet = np.full((40, 400, 3), PAPER, np.uint8)
    write_text(sheet, "a line that is much longer than a hundred pixels", (10, 30), 0.5, room=100)
    inked = np.flatnonzero((sheet == INK).all(axis=2).any(axis=0))
    assert 60 < inked.max() < 10 + 100
    assert inked.min() >= 10
