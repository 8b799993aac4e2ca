"""Steps that no network has: single pixels, rows and columns, many channels."""

from __future__ import annotations

import torch

from litehrnet_cuda.plan.draft import Draft
from litehrnet_cuda.plan.memory import lay_out
from litehrnet_cuda.plan.operands import Filter, Matrix
from litehrnet_cuda.plan.plan import Plan
from litehrnet_cuda.plan.steps import PointwiseConvolution, PointwisePath, SeparableConvolution, SeparablePath, Step

# Channels of x, of e (0: not expanded) and of y, size, stride.
PATHS = [
    (5, 7, 3, (1, 9), 1),
    (2, 3, 6, (2, 1), 2),
    (3, 0, 5, (1, 1), 2),
    (700, 0, 9, (3, 3), 1),
    (90, 70, 33, (4, 5), 2),
]


def unusual_plan(dtype: torch.dtype) -> Plan:
    """A plan of two steps with these paths, which computes no network."""
    random = torch.Generator().manual_seed(2)
    draft = Draft(dtype)

    def matrix(name: str, rows: int, columns: int) -> Matrix:
        weight = torch.randn(rows, columns, generator=random) / columns**0.5
        return draft.weights.stacked_matrix(name, weight, torch.randn(rows, generator=random))

    draft.allocate("image", 1, (1, 1), "input")
    sources, separable, pointwise = [], [], []
    for i, (channels, expanded, rows, (height, width), stride) in enumerate(PATHS):
        x = draft.allocate(f"x{i}", channels, (height, width)).runs()
        y = draft.allocate(f"y{i}", rows, (-(-height // stride), -(-width // stride))).runs()
        z = draft.allocate(f"z{i}", rows, (height, width)).runs()
        inner = expanded or channels
        weight = draft.weights.weight(f"depthwise{i}", torch.randn(inner, 3, 3, generator=random))
        filter_ = Filter(weight, draft.weights.bias(f"depthwise_bias{i}", torch.randn(inner, generator=random)))
        expand = matrix(f"expand{i}", expanded, channels) if expanded else None
        sources.append(x)
        separable.append(SeparablePath(i, stride, expand, filter_, matrix(f"matrix{i}", rows, inner), y))
        pointwise.append(PointwisePath(x, matrix(f"pointwise{i}", rows, channels), bool(i % 2), z))
    steps: tuple[Step, ...] = (
        SeparableConvolution("separable", tuple(sources), tuple(separable)),
        PointwiseConvolution("pointwise", tuple(pointwise)),
    )
    buffers = tuple(draft.buffers)
    layout = lay_out(buffers, steps, dtype)
    return Plan("unusual_steps", 1, 1, dtype, buffers, steps, draft.weights.tensors, (), layout)
