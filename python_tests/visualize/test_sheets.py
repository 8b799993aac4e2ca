"""Sheets of images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pixel_colors import has

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.visualize import (
    contact_sheet,
)


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
