"""Random changes: their distributions are those that were published, and each depends on the generator alone."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest

from litehrnet_cuda.data.augmentation import (
    AUGMENTATIONS,
    MMPOSE1_COCO,
    MMPOSE1_MPII,
    NO_AUGMENTATION,
    OFFICIAL_COCO,
    OFFICIAL_MPII,
    Augmentation,
    half_body_box,
)
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import COCO

COUNT = 20_000
NORMAL = NormalDist()


def draws(augmentation: Augmentation, count: int = COUNT) -> list:
    return [augmentation.draw(np.random.default_rng((0, 1, index))) for index in range(count)]


def expect_share(share: float, probability: float, count: int = COUNT) -> None:
    """Five standard deviations: a fair draw fails once in two million runs, and the seed is fixed anyway."""
    assert abs(share - probability) < 5 * math.sqrt(probability * (1 - probability) / count)


def distance(sample: np.ndarray, cdf) -> float:
    """Of Kolmogorov and Smirnov, between a sample and a distribution."""
    ordered = np.sort(sample)
    expected = np.array([cdf(value) for value in ordered])
    steps = np.arange(len(ordered) + 1) / len(ordered)
    return float(np.maximum(np.abs(expected - steps[1:]), np.abs(expected - steps[:-1])).max())


def truncated(value: float) -> float:
    """The distribution of a normal number, given that it lies within one deviation."""
    low, high = NORMAL.cdf(-1), NORMAL.cdf(1)
    return (NORMAL.cdf(min(max(value, -1), 1)) - low) / (high - low)


# The distance of a sample of n exceeds 1.95 / sqrt(n) once in a thousand; see any table of the test.
FAR = 1.95


def test_official_distributions_are_cut():
    changes = draws(OFFICIAL_COCO)
    scales = np.array([change.scale for change in changes])
    assert (scales.min(), scales.max()) == (0.75, 1.25)
    # A standard normal number is beyond one deviation in 31.7 % of the cases, half of them on each side.
    expect_share(float((scales == 1.25).mean()), NORMAL.cdf(-1))
    expect_share(float((scales == 0.75).mean()), NORMAL.cdf(-1))
    inside = (scales[(scales > 0.75) & (scales < 1.25)] - 1) / 0.25
    assert distance(inside, truncated) < FAR / math.sqrt(len(inside))
    rotations = np.array([change.rotation for change in changes])
    turned = rotations[rotations != 0]
    expect_share(len(turned) / COUNT, 0.6)
    assert np.abs(turned).max() == 60
    expect_share(float((np.abs(turned) == 60).mean()), 2 * NORMAL.cdf(-2), len(turned))
    assert not any(any(change.shift) for change in changes)
    expect_share(np.mean([change.flip for change in changes]), 0.5)
    expect_share(np.mean([change.half_body for change in changes]), 0.3)
    expect_share(np.mean([change.prefer_upper for change in changes]), NORMAL.cdf(0.5))


def test_mmpose_1_distributions_are_truncated():
    changes = draws(MMPOSE1_COCO)
    scales = np.array([change.scale for change in changes])
    assert 0.75 < scales.min() < 0.751
    assert 1.249 < scales.max() < 1.25
    assert distance((scales - 1) / 0.25, truncated) < FAR / math.sqrt(COUNT)
    rotations = np.array([change.rotation for change in changes])
    turned = rotations[rotations != 0]
    expect_share(len(turned) / COUNT, 0.6)
    assert np.abs(turned).max() < 60
    assert distance(turned / 60, truncated) < FAR / math.sqrt(len(turned))
    shifts = np.array([change.shift for change in changes])
    moved = shifts[shifts.any(axis=1)]
    expect_share(len(moved) / COUNT, 0.3)  # both axes or none
    assert (moved != 0).all()
    for axis in (0, 1):
        assert distance(moved[:, axis] / 0.16, truncated) < FAR / math.sqrt(len(moved))
    expect_share(np.mean([change.prefer_upper for change in changes]), 0.7)
    numbers = np.column_stack([scales, rotations, shifts])[(rotations != 0) & shifts.any(axis=1)]
    independent = np.abs(np.corrcoef(numbers.T) - np.eye(4)).max()
    assert independent < 5 / math.sqrt(len(numbers))


def test_equal_generators_give_equal_changes():
    for augmentation in AUGMENTATIONS.values():
        assert draws(augmentation, 50) == draws(augmentation, 50)


@pytest.mark.parametrize("style", ["official", "mmpose1"])
@pytest.mark.parametrize(
    ("field", "of_change"),
    [
        ("flip_probability", "flip"),
        ("scale", "scale"),
        ("rotation", "rotation"),
        ("rotation_probability", "rotation"),
        ("half_body_probability", "half_body"),
        ("shift", "shift"),
        ("shift_probability", "shift"),
    ],
)
def test_switching_one_part_off_leaves_the_others(style, field, of_change):
    everything = replace(MMPOSE1_COCO, style=style, flip_probability=0.5)
    for change, fewer in zip(draws(everything, 50), draws(replace(everything, **{field: 0.0}), 50), strict=True):
        neutral = getattr(NO_AUGMENTATION.draw(np.random.default_rng(0)), of_change)
        assert fewer == replace(change, **{of_change: neutral})


def test_no_augmentation_changes_nothing():
    for change in draws(NO_AUGMENTATION, 50):
        assert (change.flip, change.half_body, change.scale, change.rotation) == (False, False, 1.0, 0.0)
        assert change.shift == (0.0, 0.0)


def test_presets_are_the_published_recipes():
    assert Augmentation() == OFFICIAL_COCO
    assert OFFICIAL_MPII.half_body_probability == MMPOSE1_MPII.half_body_probability == 0
    assert (MMPOSE1_COCO.rotation, MMPOSE1_COCO.shift, MMPOSE1_COCO.shift_probability) == (60, 0.16, 0.3)
    assert MMPOSE1_MPII.shift == 0


# ---------------------------------------------------------------------------------------------------- half bodies

POINTS = np.stack([np.arange(17), 10 * np.arange(17)], axis=1).astype(np.float32)


def half(*joints: int, upper: bool, style: str = "official", points: np.ndarray = POINTS):
    visible = np.isin(np.arange(17), joints).astype(np.float32)
    return half_body_box(points, visible, COCO, prefer_upper=upper, style=style)


@pytest.mark.parametrize("style", ["official", "mmpose1"])
def test_half_body_takes_the_preferred_half(style):
    center, size = half(*range(17), upper=True, style=style)
    np.testing.assert_allclose(center, (5, 50))  # the mean of joints 0 to 10
    np.testing.assert_allclose(size, (10, 100))
    center, size = half(*range(17), upper=False, style=style)
    np.testing.assert_allclose(center, (13.5, 135))
    np.testing.assert_allclose(size, (5, 50))


def test_half_body_takes_the_half_that_has_joints():
    np.testing.assert_allclose(half(0, 1, 2, upper=False)[0], (1, 10))
    np.testing.assert_allclose(half(11, 12, 13, upper=True)[0], (12, 120))
    assert half(0, upper=True) is None
    assert half(11, 12, upper=False) is None
    assert half(*range(17), upper=True, points=np.ones((17, 2))) is None  # all in one point


def test_two_joints_of_the_upper_half_are_enough_for_mmpose_1_alone():
    joints = (0, 1, 11, 12, 13)
    np.testing.assert_allclose(half(*joints, upper=True, style="official")[0], (12, 120))
    np.testing.assert_allclose(half(*joints, upper=True, style="mmpose1")[0], (0.5, 5))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"flip_probability": 1.5}, r"flip_probability: expected a probability from 0 to 1, got 1\.5"),
        ({"shift_probability": -1}, "shift_probability: expected a probability from 0 to 1, got -1"),
        ({"scale": 1.0}, r"scale: expected at least 0 and less than 1, got 1\.0"),
        ({"shift": 1.0}, r"shift: expected at least 0 and less than 1, got 1\.0"),
        ({"rotation": -1}, "rotation: expected degrees from 0 to 180, got -1"),
        ({"style": "mmpose"}, "style: expected one of official, mmpose1, got 'mmpose'"),
    ],
)
def test_says_what_is_wrong(fields, message):
    with pytest.raises(InputError, match=f"augmentation.{message}"):
        Augmentation(**fields)
