"""How long an op's launches would take on a named GPU: a range, from the emulator's counts. Predicted, never measured.

The model is that of litehrnet_cuda/plan/latency.py, for launches out of a stream that find nothing in caches. The
shortest time has the bytes that a launch has to move at its boundaries, the longest one every sector that its warps ask
for, all from memory; arithmetic is taken as free.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from litehrnet_cuda.plan import latency
from litehrnet_cuda.plan.gpus import Gpu
from litehrnet_cuda.plan.latency import Range


class LaunchCounts(NamedTuple):
    """What is known of a launch."""

    blocks: int
    boundary_bytes: int  # read and written, given what launches before it left in memory
    sector_bytes: int  # asked for by its warps, read and written


def predict(launches: Sequence[LaunchCounts], gpu: Gpu) -> Range:
    """The time of launches one after the other."""
    return latency.predict([latency.Launch(n, n, least, most) for n, least, most in launches], gpu)
