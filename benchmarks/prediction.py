"""How long launches would take on a named GPU: a range, from counts and data sheets. Predicted, never measured.

The shortest time is that of a launch whose caches are ideal: 2 us from its start to the next one's, and the bytes that
it has to move at the launch's boundaries at 85 % of the memory's peak. The longest is that of a launch whose caches do
nothing: 5 us, and every sector that its warps ask for at 40 % of the peak, of which a launch with fewer blocks than the
GPU has multiprocessors gets no more than their share. Times of launches are added up; arithmetic is taken as free.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.gpus import Gpu

SHORTEST_LAUNCH, LONGEST_LAUNCH = 2e-6, 5e-6  # seconds
MOST_OF_PEAK, LEAST_OF_PEAK = 0.85, 0.40


class LaunchCounts(NamedTuple):
    """What is known of a launch."""

    blocks: int
    boundary_bytes: int  # read and written, given what launches before it left in memory
    sector_bytes: int  # asked for by its warps, read and written


class Range(NamedTuple):
    """Seconds."""

    shortest: float
    longest: float

    def __str__(self) -> str:
        """In microseconds, with two digits."""
        return " - ".join(f"{seconds * 1e6:.{1 if seconds < 10e-6 else 0}f}" for seconds in self)


def predict(launches: Sequence[LaunchCounts], gpu: Gpu) -> Range:
    """The time of launches one after the other."""
    peak = gpu.gigabytes_per_second * 1e9
    shortest = longest = 0.0
    for launch in launches:
        share = min(1.0, launch.blocks / gpu.multiprocessors)
        shortest += SHORTEST_LAUNCH + launch.boundary_bytes / (MOST_OF_PEAK * peak)
        longest += LONGEST_LAUNCH + launch.sector_bytes / (LEAST_OF_PEAK * peak * share)
    return Range(shortest, longest)
