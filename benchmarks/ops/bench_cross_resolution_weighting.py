"""Cross-resolution weighting with folded batch norms, of the halves that a block weights."""

from __future__ import annotations

from typing import Any

from benchmarks.cases import Benchmark, Stage, cross_resolution_weights, maps_of
from litehrnet_cuda import functional
from litehrnet_cuda.reference.cross_resolution_weighting import cross_resolution_weighting as reference


def setup(stage: Stage, batch: int) -> list[Any]:
    return [maps_of(stage, batch, stage.halves), *cross_resolution_weights(stage)]


BENCHMARK = Benchmark(
    "cross_resolution_weighting", functional.cross_resolution_weighting, reference, setup, in_triton=True
)
