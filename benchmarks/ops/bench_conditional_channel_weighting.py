"""The whole block with folded batch norms: three launches."""

from __future__ import annotations

from typing import Any

from benchmarks.cases import (
    Benchmark,
    Case,
    Stage,
    Traffic,
    bytes_of,
    converted,
    cross_resolution_weights,
    depthwise_filters,
    gate_weights,
    maps_of,
    random,
)
from litehrnet_cuda import functional
from litehrnet_cuda.reference.conditional_channel_weighting import conditional_channel_weighting as reference


def setup(stage: Stage, batch: int) -> list[Any]:
    return [
        maps_of(stage, batch, stage.channels),
        *cross_resolution_weights(stage),
        depthwise_filters(stage),
        [random(c) for c in stage.halves],
        *gate_weights(stage),
    ]


def launches(case: Case) -> list[Traffic]:
    """Weights across resolutions; filters, and sums planes; gates and shuffles."""
    stage, maps = case.stage, case.map_bytes
    matrices, filters, gates = (
        bytes_of(converted(weights, case.dtype, "cpu"))
        for weights in (
            cross_resolution_weights(stage),
            [depthwise_filters(stage), [random(c) for c in stage.halves]],
            gate_weights(stage),
        )
    )
    sums = case.batch * sum(stage.halves) * 4  # fp32, one for each plane at least
    return [
        Traffic(maps + matrices, maps),
        Traffic(maps + filters, maps + sums),
        Traffic(2 * maps + sums + gates, 2 * maps),
    ]


BENCHMARK = Benchmark(
    "conditional_channel_weighting",
    functional.conditional_channel_weighting,
    reference,
    setup,
    forward_launches=launches,
    in_triton=True,
)
