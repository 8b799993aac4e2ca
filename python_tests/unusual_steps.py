"""Steps that no network has: single pixels, rows and columns, many channels, a ReLU and a factor on one plane."""

from __future__ import annotations

from dataclasses import replace

import torch

from litehrnet_cuda.plan.draft import Draft
from litehrnet_cuda.plan.memory import lay_out
from litehrnet_cuda.plan.operands import Filter, Matrix, Planes
from litehrnet_cuda.plan.plan import Plan
from litehrnet_cuda.plan.steps import (
    HeadConvolution,
    PointwiseConvolution,
    PointwisePath,
    SeparableConvolution,
    SeparablePath,
    Step,
)

# Channels of x, of e (0: not expanded) and of y, size, stride.
PATHS = [
    (5, 7, 3, (1, 9), 1),
    (2, 3, 6, (2, 1), 2),
    (3, 0, 5, (1, 1), 2),
    (700, 0, 9, (3, 3), 1),
    (90, 70, 33, (4, 5), 2),
]
# Sizes of maps whose tiles are no whole vectors, or whose rows are none.
HEADS = [(9, 9), (3, 7)]


def unusual_plan(dtype: torch.dtype) -> Plan:
    """A plan of steps with these paths, and of heads with more outputs than channels, which computes no network."""
    random = torch.Generator().manual_seed(2)
    draft = Draft(dtype)

    def matrix(name: str, rows: int, columns: int) -> Matrix:
        weight = torch.randn(rows, columns, generator=random) / columns**0.5
        return draft.weights.stacked_matrix(name, weight, torch.randn(rows, generator=random))

    def filter_of(name: str, channels: int) -> Filter:
        weight = draft.weights.weight(f"{name}.weight", torch.randn(channels, 3, 3, generator=random))
        return Filter(weight, draft.weights.bias(f"{name}.bias", torch.randn(channels, generator=random)))

    def source(name: str, channels: int, size: tuple[int, int], *, pending: bool) -> Planes:
        runs = draft.allocate(name, channels, size).runs()
        if not pending:
            return runs
        (factors,) = draft.allocate(f"{name}.factors", channels, (1, 1), "factors").runs()
        return tuple(replace(run, relu=True, factors=factors.buffer, first_factor=run.first) for run in runs)

    draft.allocate("image", 1, (1, 1), "input")
    sources, separable, pointwise = [], [], []
    for i, (channels, expanded, rows, (height, width), stride) in enumerate(PATHS):
        x = source(f"x{i}", channels, (height, width), pending=bool(i % 2))
        y = draft.allocate(f"y{i}", rows, (-(-height // stride), -(-width // stride))).runs()
        z = draft.allocate(f"z{i}", rows, (height, width)).runs()
        inner = expanded or channels
        filter_ = filter_of(f"depthwise{i}", inner)
        expand = matrix(f"expand{i}", expanded, channels) if expanded else None
        sources.append(x)
        separable.append(SeparablePath(i, stride, expand, filter_, matrix(f"matrix{i}", rows, inner), y))
        pointwise.append(PointwisePath(x, matrix(f"pointwise{i}", rows, channels), bool(i % 2), z))
    heads = [
        HeadConvolution(
            f"head{i}",
            source(f"head{i}.x", 6, size, pending=True),
            source(f"head{i}.below", 6, (5, 4), pending=True),
            filter_of(f"head{i}.depthwise", 6),
            matrix(f"head{i}.pointwise", 24, 6),
            matrix(f"head{i}.final", 140, 24),
            draft.allocate(f"head{i}.y", 140, size).runs(),
        )
        for i, size in enumerate(HEADS)
    ]
    steps: tuple[Step, ...] = (
        SeparableConvolution("separable", tuple(sources), tuple(separable)),
        PointwiseConvolution("pointwise", tuple(pointwise)),
        *heads,
    )
    buffers = tuple(draft.buffers)
    layout = lay_out(buffers, steps, dtype)
    return Plan("unusual_steps", 1, 1, dtype, buffers, steps, draft.weights.tensors, (), layout)
