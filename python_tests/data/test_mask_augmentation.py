"""Random parts of images, against plain resizing and mmsegmentation's definitions."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from mask_cases import draw

from litehrnet_cuda.data.mask_augmentation import (
    NO_MASK_AUGMENTATION,
    MaskAugmentation,
    augment,
    change_colors,
)
from litehrnet_cuda.errors import InputError


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_without_changes_a_part_of_the_image_comes_back() -> None:
    image, labels = draw(0)
    pixels, part = augment(image, labels, (72, 56), NO_MASK_AUGMENTATION, rng())
    np.testing.assert_array_equal(pixels, image)
    np.testing.assert_array_equal(part, labels)
    pixels, part = augment(image, labels, (20, 30), NO_MASK_AUGMENTATION, rng())
    places = [
        (top, left)
        for top in range(56 - 30 + 1)
        for left in range(72 - 20 + 1)
        if np.array_equal(image[top : top + 30, left : left + 20], pixels)
    ]
    ((top, left),) = places
    np.testing.assert_array_equal(part, labels[top : top + 30, left : left + 20])


@pytest.mark.parametrize("scale", [0.5, 0.8, 1.7, 2.0])
def test_a_scaled_image_is_as_opencv_resizes_it(scale: float) -> None:
    image, labels = draw(1)
    image = cv2.GaussianBlur(image, (7, 7), 2)
    fixed = MaskAugmentation(scale, scale, 1.0, 0.0, 0.0)
    size = round(72 * scale), round(56 * scale)
    pixels, part = augment(image, labels, (1000, 1000), fixed, rng())
    assert pixels.shape == (size[1], size[0], 3)
    # warpAffine knows places to a 32nd of a pixel, between pixels that differ by up to 30 here.
    assert np.abs(pixels.astype(int) - cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)).max() <= 2
    np.testing.assert_array_equal(part, cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST_EXACT))


def test_scales_and_places_cover_their_ranges() -> None:
    image, labels = draw(2)
    chosen = MaskAugmentation(0.5, 2.0, 1.0, 0.0, 0.0)
    random = rng()
    widths = [augment(image, labels, (1000, 1000), chosen, random)[1].shape[1] for _ in range(300)]
    assert min(widths) < 0.53 * 72
    assert max(widths) > 1.97 * 72
    assert abs(np.mean(widths) / 72 - 1.25) < 0.08, "three deviations of the mean of 300 uniform numbers"


def test_image_and_labels_are_mirrored_together() -> None:
    image, labels = draw(3)
    always = MaskAugmentation(1.0, 1.0, 1.0, 1.0, 0.0)
    pixels, part = augment(image, labels, (72, 56), always, rng())
    np.testing.assert_array_equal(pixels, image[:, ::-1])
    np.testing.assert_array_equal(part, labels[:, ::-1])


def test_parts_in_which_one_class_prevails_are_tried_again() -> None:
    labels = np.zeros((100, 100), np.uint8)
    labels[:, 60:] = 1
    image = np.zeros((100, 100, 3), np.uint8)

    def share_of_prevailing(largest_share: float) -> float:
        random, chosen = rng(), MaskAugmentation(1.0, 1.0, largest_share, 0.0, 0.0)
        parts = [augment(image, labels, (20, 20), chosen, random)[1] for _ in range(300)]
        return float(np.mean([max((part == 0).mean(), (part == 1).mean()) >= 0.75 for part in parts]))

    # Of 81 places, 9 have less than 75 % of either class, so that ten tries fail with (72 / 81)^10 = 0.31.
    assert share_of_prevailing(1.0) > 0.8
    assert share_of_prevailing(0.75) == pytest.approx((72 / 81) ** 10, abs=3 * (0.31 * 0.69 / 300) ** 0.5)


def test_equal_numbers_give_equal_parts() -> None:
    image, labels = draw(4)
    one, other = (augment(image, labels, (40, 40), MaskAugmentation(), rng(5)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_colours_stay_without_probability_and_the_image_is_left_alone() -> None:
    image, _ = draw(5)
    before = image.copy()
    np.testing.assert_array_equal(change_colors(image, 0.0, rng()), image)
    changed = change_colors(image, 1.0, rng())
    assert changed.shape == image.shape
    assert changed.dtype == np.uint8
    assert not np.array_equal(changed, image)
    np.testing.assert_array_equal(image, before)


def test_each_change_of_colours_is_what_it_is_called() -> None:
    """One at a time: a generator whose first numbers choose which."""

    class Chosen(np.random.Generator):
        def __init__(self, chosen: int) -> None:
            super().__init__(np.random.PCG64(2))
            self.calls, self.chosen = 0, chosen

        def random(self, *args: object, **kwargs: object) -> float:  # type: ignore[override]
            self.calls += 1
            return 0.0 if self.calls - 1 == self.chosen or self.calls == 5 else 1.0

    grey = np.full((4, 4, 3), 100, np.uint8)
    coloured = np.zeros((4, 4, 3), np.uint8)
    coloured[:] = (40, 80, 160)
    bright, contrast, saturated, turned = (change_colors(coloured, 0.5, Chosen(index))[0, 0] for index in range(4))
    offsets = bright.astype(int) - coloured[0, 0]
    assert len(set(offsets.tolist())) == 1, "brightness adds the same everywhere"
    assert 0 < abs(offsets[0]) <= 32
    factors = contrast / coloured[0, 0]
    assert np.ptp(factors) < 1 / 40 + 1e-9, "contrast multiplies, up to rounding down"
    assert 0.5 <= factors.mean() <= 1.5
    assert saturated.max() == coloured.max(), "saturation keeps the value, the largest channel"
    assert saturated.min() != coloured.min()
    assert sorted(turned.tolist()) != coloured[0, 0].tolist() or turned.tolist() != coloured[0, 0].tolist()
    assert turned.max() == coloured.max(), "so does hue"
    for index in (2, 3):
        np.testing.assert_array_equal(change_colors(grey, 0.5, Chosen(index)), grey)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"least_scale": 0.0}, "expected 0 < least_scale <= most_scale"),
        ({"least_scale": 3.0}, "expected 0 < least_scale <= most_scale"),
        ({"largest_share": 0.0}, "largest_share: expected more than 0"),
        ({"flip_probability": 1.5}, "flip_probability: expected a probability"),
        ({"color_probability": -0.1}, "color_probability: expected a probability"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        MaskAugmentation(**changes)
