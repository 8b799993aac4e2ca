"""Depthwise 3x3 convolution of all branches with folded batch norms."""

from __future__ import annotations

from typing import Any

from benchmarks.cases import Benchmark, Stage, depthwise_filters, maps_of, random
from litehrnet_cuda import functional
from litehrnet_cuda.reference.depthwise_conv import depthwise_conv as reference


def setup(stage: Stage, batch: int) -> list[Any]:
    return [maps_of(stage, batch, stage.halves), depthwise_filters(stage), [random(c) for c in stage.halves]]


BENCHMARK = Benchmark("depthwise_conv", functional.depthwise_conv, reference, setup)
