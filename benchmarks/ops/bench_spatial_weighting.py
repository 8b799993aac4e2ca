"""Spatial weighting of all branches, with the halves that a block keeps shuffled in."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.cases import MODES, Benchmark, Case, Stage, Traffic, bytes_of, converted, gate_weights, maps_of
from litehrnet_cuda import functional
from litehrnet_cuda.reference.spatial_weighting import spatial_weighting as reference


def setup(stage: Stage, batch: int) -> list[Any]:
    return [maps_of(stage, batch, stage.halves), maps_of(stage, batch, stage.halves), *gate_weights(stage)]


def backward_arguments(arguments: list[Any], results: list[torch.Tensor]) -> list[Any]:
    x, _, *weights = arguments
    return [[torch.randn_like(y) for y in results], x, True, *weights]


def backward_launches(case: Case) -> list[Traffic]:
    """Sums over planes, and the gradient of what was kept; the gates of each image; the weights; the maps."""
    maps, weights = case.map_bytes, bytes_of(converted(gate_weights(case.stage), case.dtype, "cpu"))
    return [Traffic(3 * maps, maps), Traffic(weights, 0), Traffic(0, weights), Traffic(maps, maps)]


BENCHMARK = Benchmark(
    "spatial_weighting",
    functional.spatial_weighting,
    reference,
    setup,
    modes=MODES,
    backward_arguments=backward_arguments,
    backward_launches=backward_launches,
)
