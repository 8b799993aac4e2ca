"""The one-euro filter is the paper's, steadies what rests, and keeps up with what moves."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.video.smoothing import OneEuroFilter

Array = np.ndarray[Any, Any]


def by_the_paper(
    values: list[float], rate: float, min_cutoff: float, beta: float, derivative_cutoff: float
) -> list[float]:
    """Algorithm 1 of Casiez et al., for one number, as it is printed there."""

    def alpha(cutoff: float) -> float:
        tau = 1 / (2 * math.pi * cutoff)
        return 1 / (1 + tau * rate)

    smooth, smooth_derivative, result = values[0], 0.0, [values[0]]
    for value in values[1:]:
        derivative = (value - smooth) * rate
        share = alpha(derivative_cutoff)
        smooth_derivative = share * derivative + (1 - share) * smooth_derivative
        share = alpha(min_cutoff + beta * abs(smooth_derivative))
        smooth = share * value + (1 - share) * smooth
        result.append(smooth)
    return result


def smoothed(points: Array, rate: float, **settings: Any) -> Array:
    """``[T, K, 2]``, filtered."""
    steady = OneEuroFilter(**settings)
    return np.array([steady(point, index / rate) for index, point in enumerate(points)])


def test_one_coordinate_is_filtered_as_in_the_paper() -> None:
    values = np.random.default_rng(0).normal(0, 1, 50).cumsum()
    points = np.zeros((50, 1, 2))
    points[:, 0, 1] = values
    found = smoothed(points, 30, min_cutoff=0.8, speed_coefficient=0.5, derivative_cutoff=1.2)
    # Both are in double precision.
    np.testing.assert_allclose(found[:, 0, 1], by_the_paper(values.tolist(), 30, 0.8, 0.5, 1.2), rtol=1e-9)
    assert not found[:, 0, 0].any()


def test_what_rests_trembles_less() -> None:
    noise = np.random.default_rng(0).normal(0, 0.015, (200, 50, 2))
    found = smoothed(noise, 30)[60:]
    ratio = np.abs(np.diff(found, axis=0)).mean() / np.abs(np.diff(noise[60:], axis=0)).mean()
    # A third, as the settings' comment says; the mean of 14,000 steps is good to 1 %.
    assert 0.3 < ratio < 0.37


def test_what_moves_does_not_lag() -> None:
    points = np.zeros((120, 1, 2))
    points[:, 0, 0] = 0.5 * np.arange(120) / 30  # half the person's size in a second
    lag = (points - smoothed(points, 30))[60:, 0, 0].mean() / 0.5
    assert 0.005 < lag < 0.015  # seconds; the comment says 0.01


def test_speed_is_relative_to_the_person_and_to_time() -> None:
    points = np.random.default_rng(0).normal(0, 1, (20, 3, 2)).cumsum(axis=0)
    near, far = OneEuroFilter(), OneEuroFilter()
    for index, point in enumerate(points):
        first, second = near(point, index / 10, 5.0), far(point * 4, index / 10, 20.0)
        np.testing.assert_allclose(first * 4, second, rtol=1e-12)


def test_a_joint_that_was_out_of_sight_starts_anew() -> None:
    steady = OneEuroFilter()
    rest, far = np.zeros((2, 2)), np.array([[0.0, 0.0], [50.0, 50.0]])
    for index in range(5):
        steady(rest, index / 30)
    np.testing.assert_array_equal(steady(far, 5 / 30, seen=np.array([True, False])), far)  # as it is
    np.testing.assert_array_equal(steady(rest, 6 / 30), rest)  # and nothing of it stays
    moved = steady(rest + 1, 7 / 30)
    assert (moved < 1).all()
    assert moved[0, 0] == pytest.approx(moved[1, 0], rel=0.1)


def test_what_cannot_be() -> None:
    with pytest.raises(InputError, match="expected positive cutoffs"):
        OneEuroFilter(0)
    steady = OneEuroFilter()
    steady(np.zeros((1, 2)), 1.0)
    with pytest.raises(InputError, match="time: expected one later than 1 s"):
        steady(np.zeros((1, 2)), 1.0)
