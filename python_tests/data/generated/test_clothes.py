"""Looks: what is drawn by lot stays in its range, and patterns repeat as they should."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest

from litehrnet_cuda.data.generated.clothes import (
    BOTTOM,
    CATEGORIES,
    HAIR,
    HAIR_STYLES,
    PATTERNS,
    SHOES,
    SKIN,
    TOP,
    Outfit,
    pattern_weight,
    sample_color,
    sample_outfit,
)

COUNT = 1500
SIZE = 0.05


@pytest.fixture(scope="module")
def outfits() -> list[Outfit]:
    rng = np.random.default_rng(7)
    return [sample_outfit(rng) for _ in range(COUNT)]


def test_category_names() -> None:
    names = ("background", "skin", "hair or hat", "upper clothes", "lower clothes", "shoes")
    assert names == CATEGORIES
    assert [CATEGORIES[i] for i in (SKIN, HAIR, TOP, BOTTOM, SHOES)] == list(names[1:])


def test_equal_seeds_give_equal_outfits() -> None:
    a, b, other = (asdict(sample_outfit(np.random.default_rng(seed))) for seed in (3, 3, 4))
    for name, value in a.items():
        assert np.array_equal(value, b[name]), name
    assert any(not np.array_equal(value, other[name]) for name, value in a.items())


def test_colours_are_bgr_values(outfits: list[Outfit]) -> None:
    for outfit in outfits:
        for name in ("skin", "hair", "hat", "top", "top_second", "bottom", "shoe"):
            color = getattr(outfit, name)
            assert (color.shape, color.dtype) == ((3,), np.float32), name
            assert 0 <= color.min(), name
            assert color.max() <= 255, name


def test_skins_range_from_dark_to_pale_and_are_reddish(outfits: list[Outfit]) -> None:
    skins = np.array([outfit.skin for outfit in outfits])
    assert np.all((skins[:, 0] < skins[:, 1]) & (skins[:, 1] < skins[:, 2]))
    brightness = skins.mean(axis=1)
    assert brightness.min() < 90
    assert brightness.max() > 215
    # Tones are drawn evenly, so that no third of the range is rare.
    thirds = np.histogram(brightness, bins=3)[0] / COUNT
    assert thirds.min() > 0.2


def test_colours_are_neither_black_nor_all_alike() -> None:
    rng = np.random.default_rng(0)
    colors = np.array([sample_color(rng) for _ in range(500)])
    assert colors.max(axis=1).min() >= 69  # the value of HSV is the largest channel: 70, cut to whole numbers
    assert np.all(np.bincount(np.argmax(colors, axis=1), minlength=3) > 50), "every hue"


def test_shares_of_styles_and_patterns(outfits: list[Outfit]) -> None:
    # By design; four standard errors of 1500 draws are at most 5.2 %.
    styles = [outfit.hair_style for outfit in outfits]
    patterns = [outfit.pattern for outfit in outfits]
    for name, share in zip(HAIR_STYLES, (0.42, 0.22, 0.09, 0.09, 0.07, 0.11), strict=True):
        assert styles.count(name) / COUNT == pytest.approx(share, abs=0.052), name
    for name, share in zip(PATTERNS, (0.46, 0.20, 0.09, 0.09, 0.07, 0.09), strict=True):
        assert patterns.count(name) / COUNT == pytest.approx(share, abs=0.052), name


def test_what_goes_together(outfits: list[Outfit]) -> None:
    skirts = [outfit for outfit in outfits if outfit.skirt]
    dresses = [outfit for outfit in skirts if np.array_equal(outfit.top, outfit.bottom)]
    assert 0.05 < len(skirts) / COUNT < 0.3
    assert 0.2 < len(dresses) / len(skirts) < 0.6
    for outfit in outfits:
        if outfit.skirt:
            assert 0.5 <= outfit.skirt <= 0.92
            assert outfit.leg in (0.0, 1.9), "bare legs or tights"
        else:
            assert outfit.leg in (0.72, 0.98, 1.88)
        if outfit.beard:
            assert outfit.hair_style in ("short", "bald", "cap")
        assert 0 <= outfit.sleeve < 2


def test_plain_cloth_has_no_pattern(outfits: list[Outfit]) -> None:
    assert pattern_weight(replace(outfits[0], pattern="plain"), np.zeros((2, 2)), np.zeros((2, 2))) is None


def weights(outfits: list[Outfit], pattern: str) -> np.ndarray:
    """Of a pattern of size 0.05: ``[along, across]`` on a grid of a thousandth of a body height from -0.1 to 0.3."""
    t = np.arange(-100, 301) / 1000
    weight = pattern_weight(replace(outfits[0], pattern=pattern, pattern_size=SIZE), *np.meshgrid(t, t, indexing="xy"))
    assert weight is not None
    return weight


@pytest.mark.parametrize("pattern", PATTERNS[1:])
def test_patterns_show_both_colours_and_nothing_beyond(outfits: list[Outfit], pattern: str) -> None:
    weight = weights(outfits, pattern)
    assert weight.shape == (401, 401)
    assert weight.min() == 0
    assert weight.max() == pytest.approx(1)
    assert 0.1 < weight.mean() < 0.9


@pytest.mark.parametrize(
    ("pattern", "axis", "period"),
    [
        ("hoops", 0, 50),
        ("pinstripes", 1, 35),  # narrower by 0.7
        ("checks", 0, 50),
        ("checks", 1, 50),
        ("dots", 0, 50),
        ("dots", 1, 50),
    ],
)
def test_patterns_repeat_with_their_size(outfits: list[Outfit], pattern: str, axis: int, period: int) -> None:
    weight = np.moveaxis(weights(outfits, pattern), axis, 0)
    assert np.allclose(weight[period:], weight[:-period], rtol=0, atol=1e-9)  # rounding of float64
    assert np.abs(weight[period // 2 :] - weight[: -(period // 2)]).max() > 0.4


def test_hoops_go_round_pinstripes_run_down_and_blocks_sit_on_top(outfits: list[Outfit]) -> None:
    assert np.ptp(weights(outfits, "hoops"), axis=1).max() == 0
    assert np.ptp(weights(outfits, "pinstripes"), axis=0).max() == 0
    block = weights(outfits, "block")
    assert np.all(block[: 100 + 120] == 1)  # up to 0.12 along
    assert np.all(block[100 + 141 :] == 0)
    assert np.ptp(block, axis=1).max() == 0
