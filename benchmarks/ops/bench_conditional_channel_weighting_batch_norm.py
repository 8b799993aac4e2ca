"""The whole block with its batch norms, in training: five launches forward, eight backward."""

from __future__ import annotations

from typing import Any

from benchmarks.cases import (
    MODES,
    Benchmark,
    Case,
    Stage,
    Traffic,
    batch_norms,
    cross_resolution_weights,
    depthwise_filters,
    gate_weights,
    maps_of,
    training_backward_arguments,
)
from benchmarks.ops.bench_cross_resolution_weighting_batch_norm import backward_launches as weighting_launches
from benchmarks.ops.bench_cross_resolution_weighting_batch_norm import logits_launches
from litehrnet_cuda import functional
from litehrnet_cuda.reference.conditional_channel_weighting_batch_norm import (
    conditional_channel_weighting_batch_norm as reference,
)


def setup(stage: Stage, batch: int) -> list[Any]:
    weight1, _, weight2, _ = cross_resolution_weights(stage)
    return [
        maps_of(stage, batch, stage.channels),
        weight1,
        weight2.contiguous(),
        depthwise_filters(stage),
        *gate_weights(stage),
        *batch_norms([stage.hidden, sum(stage.halves), *stage.halves]),
    ]


def forward_launches(case: Case) -> list[Traffic]:
    """Hidden values and logits; gate and filter; merge statistics, which are left out; gate and shuffle."""
    maps = case.map_bytes
    return [
        *logits_launches(case),
        Traffic(maps + case.logit_bytes, maps),
        Traffic(0, 0),
        Traffic(2 * maps, 2 * maps),
    ]


def backward_launches(case: Case) -> list[Traffic]:
    """Sums over planes; gates; coefficients; the convolution; the four launches of cross-resolution weighting."""
    maps = case.map_bytes
    return [
        Traffic(3 * maps, maps),
        Traffic(0, 0),
        Traffic(0, 0),
        Traffic(3 * maps + case.logit_bytes, maps),
        *weighting_launches(case),
    ]


BENCHMARK = Benchmark(
    "conditional_channel_weighting_batch_norm",
    functional.conditional_channel_weighting_batch_norm,
    reference,
    setup,
    modes=MODES,
    fp32_parameters=True,
    backward_arguments=training_backward_arguments,
    forward_launches=forward_launches,
    backward_launches=backward_launches,
    backward_unread=lambda case: case.map_bytes,  # the kept half of x
)
