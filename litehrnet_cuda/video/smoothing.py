"""Steady joints: the one-euro filter.

Casiez, Roussel, Vogel: 1€ Filter: A Simple Speed-based Low-pass Filter for Noisy Input in Interactive Systems, CHI
2012, algorithm 1. A low-pass filter whose cutoff frequency grows with the speed: what rests does not tremble, and what
moves does not lag behind.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from litehrnet_cuda.errors import InputError

Array = np.ndarray[Any, Any]

# Chosen as the paper describes: the cutoff for a joint at rest, then the growth that keeps up with a fast one. At 30
# frames per second a third of the trembling is left at rest, and a joint that moves by half the person's size in a
# second lags 10 ms behind.
MIN_CUTOFF = 1.0
SPEED_COEFFICIENT = 20.0
DERIVATIVE_CUTOFF = 1.0  # the paper's


class OneEuroFilter:
    """Smooths K points of one person over time, each by its own speed.

    Speeds are measured in person sizes per second, so that the same settings serve near and far people and every
    resolution.

    Args:
        min_cutoff: hertz, the cutoff for a point at rest: less is steadier and slower.
        speed_coefficient: hertz by which the cutoff grows per person size per second (beta in the paper): more lags
            less, and trembles more in motion.
        derivative_cutoff: hertz, of the filter for the speed.

    Raises:
        InputError: for settings that are not positive (``speed_coefficient`` may be 0).
    """

    def __init__(
        self,
        min_cutoff: float = MIN_CUTOFF,
        speed_coefficient: float = SPEED_COEFFICIENT,
        derivative_cutoff: float = DERIVATIVE_CUTOFF,
    ) -> None:
        if not (min_cutoff > 0 and derivative_cutoff > 0 and speed_coefficient >= 0):
            raise InputError(
                f"OneEuroFilter: expected positive cutoffs and a speed coefficient of at least 0, got {min_cutoff}, "
                f"{derivative_cutoff} and {speed_coefficient}"
            )
        self.min_cutoff = min_cutoff
        self.speed_coefficient = speed_coefficient
        self.derivative_cutoff = derivative_cutoff
        self._time: float | None = None
        self._points: Array = np.empty((0, 2))
        self._velocity: Array = np.empty((0, 2))
        self._known: Array = np.empty(0, bool)

    def __call__(self, points: Array, time: float, size: float = 1.0, seen: Array | None = None) -> Array:
        """The smoothed points.

        Args:
            points: ``[K, 2]``.
            time: seconds, later than at the last call.
            size: of the person, in the unit of the points.
            seen: ``[K]`` bool, by default all. A point that is not seen stays where it is said to be, and is smoothed
                anew from the next time it is seen.

        Returns:
            ``[K, 2]`` float64.
        """
        points = np.asarray(points, np.float64)
        counted = np.ones(len(points), bool) if seen is None else np.asarray(seen, bool)
        if self._time is None or len(points) != len(self._points):
            self._points, self._velocity, self._known = points, np.zeros_like(points), np.zeros(len(points), bool)
        elif not time > self._time:
            raise InputError(f"time: expected one later than {self._time:g} s, that of the last points, got {time:g} s")
        if self._known.any():
            assert self._time is not None
            elapsed = time - self._time
            velocity = (points - self._points) / (elapsed * size)
            share = _smoothing_factor(elapsed, self.derivative_cutoff)
            velocity = share * velocity + (1 - share) * self._velocity
            speed = np.hypot(velocity[:, 0], velocity[:, 1])
            shares = _smoothing_factor(elapsed, self.min_cutoff + self.speed_coefficient * speed)[:, None]
            going_on = (self._known & counted)[:, None]
            self._points = np.where(going_on, shares * points + (1 - shares) * self._points, points)
            self._velocity = np.where(going_on, velocity, 0.0)
        else:
            self._points, self._velocity = points, np.zeros_like(points)
        self._time, self._known = time, counted
        return np.array(self._points)


def _smoothing_factor(elapsed: float, cutoff: Any) -> Any:
    """The weight of the newest value in an exponential filter of this cutoff: the paper's equations 5 and 6."""
    return 1 / (1 + 1 / (2 * np.pi * cutoff * elapsed))
