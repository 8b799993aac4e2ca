"""Depthwise 3x3 convolution and batch norm, in training: three launches forward, four backward."""

from __future__ import annotations

from typing import Any

from benchmarks.cases import (
    MODES,
    Benchmark,
    Case,
    Stage,
    Traffic,
    batch_norms,
    depthwise_filters,
    maps_of,
    training_backward_arguments,
)
from litehrnet_cuda import functional
from litehrnet_cuda.reference.depthwise_conv_batch_norm import depthwise_conv_batch_norm as reference


def setup(stage: Stage, batch: int) -> list[Any]:
    return [maps_of(stage, batch, stage.halves), depthwise_filters(stage), *batch_norms(stage.halves)]


def forward_launches(case: Case) -> list[Traffic]:
    """Filter; merge statistics, a few numbers a tile that are left out; normalise."""
    maps = case.map_bytes
    return [Traffic(maps, maps), Traffic(0, 0), Traffic(maps, maps)]


def backward_launches(case: Case) -> list[Traffic]:
    """Sums over planes; the batch norm's coefficients; the convolution; sums of parts. Sums are left out."""
    maps = case.map_bytes
    return [Traffic(2 * maps, 0), Traffic(0, 0), Traffic(3 * maps, maps), Traffic(0, 0)]


BENCHMARK = Benchmark(
    "depthwise_conv_batch_norm",
    functional.depthwise_conv_batch_norm,
    reference,
    setup,
    modes=MODES,
    fp32_parameters=True,
    backward_arguments=training_backward_arguments,
    forward_launches=forward_launches,
    backward_launches=backward_launches,
)
