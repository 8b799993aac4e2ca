"""The running statistics of all batch norms of a block; the batch does not matter."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.cases import FP32_BYTES, Benchmark, Stage, random
from litehrnet_cuda import functional
from litehrnet_cuda.reference.update_running_statistics import update_running_statistics as reference


def setup(stage: Stage, batch: int) -> list[Any]:
    channels = [stage.hidden, sum(stage.halves), *stage.halves]
    means, variances = ([random(c) ** 2 for c in channels] for _ in range(2))
    return [means, variances, [torch.tensor(0) for _ in channels], random(3, sum(channels)) ** 2, 0.1]


BENCHMARK = Benchmark(
    "update_running_statistics",
    functional.update_running_statistics,
    reference,
    setup,
    dtypes=(torch.float32,),
    unread=lambda case: FP32_BYTES * (case.stage.hidden + 2 * sum(case.stage.halves)),  # the biased variance
    in_place=lambda arguments: arguments[:3],
)
