"""Cross-resolution weighting with its two batch norms, in training: three launches forward, four backward."""

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
    maps_of,
    training_backward_arguments,
)
from litehrnet_cuda import functional
from litehrnet_cuda.reference.cross_resolution_weighting_batch_norm import (
    cross_resolution_weighting_batch_norm as reference,
)


def setup(stage: Stage, batch: int) -> list[Any]:
    weight1, _, weight2, _ = cross_resolution_weights(stage)
    norms = batch_norms([stage.hidden, sum(stage.halves)])
    return [maps_of(stage, batch, stage.halves), weight1, weight2.contiguous(), *norms]


def logits_launches(case: Case) -> list[Traffic]:
    """Pool and multiply by the first matrix; by the second one. Statistics are left out: a few numbers a channel."""
    return [
        Traffic(case.map_bytes + case.matrix_bytes, case.hidden_bytes),
        Traffic(case.hidden_bytes + case.matrix_bytes, case.logit_bytes),
    ]


def forward_launches(case: Case) -> list[Traffic]:
    return [*logits_launches(case), Traffic(case.map_bytes + case.logit_bytes, case.map_bytes)]


def backward_launches(case: Case) -> list[Traffic]:
    """Gradients of the gates; of what is hidden; of the pooled maps and, in parts, of the matrices; of the maps."""
    maps, logits, gates = case.map_bytes, case.logit_bytes, case.gate_bytes
    hidden, matrix = case.hidden_bytes, case.matrix_bytes
    return [
        Traffic(2 * maps + logits, 3 * gates),  # writes gates, pooled maps, gradients
        Traffic(gates + logits + hidden + matrix, gates + hidden),
        Traffic(2 * hidden + matrix + 2 * gates, gates + 2 * matrix),
        Traffic(maps + 2 * gates + 2 * matrix, maps + 2 * matrix),
    ]


BENCHMARK = Benchmark(
    "cross_resolution_weighting_batch_norm",
    functional.cross_resolution_weighting_batch_norm,
    reference,
    setup,
    modes=MODES,
    fp32_parameters=True,
    backward_arguments=training_backward_arguments,
    forward_launches=forward_launches,
    backward_launches=backward_launches,
)
