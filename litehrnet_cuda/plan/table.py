"""A plan as a table for people: one line a launch."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from litehrnet_cuda.plan.costs import plan_cost, step_cost
from litehrnet_cuda.plan.operands import plane_count
from litehrnet_cuda.plan.plan import Plan
from litehrnet_cuda.plan.steps import Step

HEADER = ("", "launch", "module", "writes", "MMAC", "read", "weights", "written")


def plan_table(plan: Plan) -> str:
    """One line a step: number, kind, module, feature maps written, and what it costs for one image; then totals.

    Bytes are compulsory traffic in kilobytes (:mod:`litehrnet_cuda.plan.costs`).
    """
    rows: list[tuple[str, ...]] = [HEADER]
    for number, step in enumerate(plan.steps):
        cost = step_cost(plan, step)
        numbers = (f"{cost.macs / 1e6:.2f}", *(f"{b / 1e3:.1f}" for b in (cost.read, cost.weights, cost.written)))
        module = step.name.removeprefix("backbone.")
        rows.append((str(number), type(step).__name__, module, _shapes(plan, step), *numbers))
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = []
    for row in rows:
        cells = zip(row, widths, strict=True)
        texts = [cell.ljust(w) if 0 < column < 4 else cell.rjust(w) for column, (cell, w) in enumerate(cells)]
        lines.append("  ".join(texts[:4]) + " " + " ".join(texts[4:]))
    total = plan_cost(plan)
    dtype = str(plan.dtype).removeprefix("torch.")
    return "\n".join(
        [
            f"{plan.network} as a plan, input {plan.width}x{plan.height}, {dtype}; figures for one image, memory in kB",
            *lines,
            f"launches          {len(plan.steps)}",
            f"MACs              {total.macs / 1e6:.1f}e6",
            f"compulsory bytes  {(total.read + total.written + total.weights) / 1e6:.2f} MB: "
            f"{total.read / 1e6:.2f} read, {total.written / 1e6:.2f} written, {total.weights / 1e6:.2f} of weights",
            f"peak memory       {plan.layout.arena_bytes / 1e6:.2f} MB an image, beside "
            f"{plan.caller_bytes / 1e6:.2f} MB for image and outputs, and {plan.weight_bytes / 1e6:.2f} MB for weights",
        ]
    )


def plan_figures(plan: Plan) -> dict[str, Any]:
    """The same figures for programs: bytes and multiply-accumulates for one image."""
    return {
        "network": plan.network,
        "height": plan.height,
        "width": plan.width,
        "dtype": str(plan.dtype).removeprefix("torch."),
        "launches": len(plan.steps),
        **asdict(plan_cost(plan)),
        "arena_bytes": plan.layout.arena_bytes,
        "caller_bytes": plan.caller_bytes,
        "weight_bytes": plan.weight_bytes,
        "steps": [
            {"kind": type(step).__name__, "module": step.name, **asdict(step_cost(plan, step))} for step in plan.steps
        ],
    }


def _shapes(plan: Plan, step: Step) -> str:
    """What a step writes, but for sums: channels x height x width, equal ones together."""
    shapes: Counter[str] = Counter()
    for planes in step.outputs():
        buffer = plan.buffers[planes[0].buffer]
        if buffer.role != "sums":
            shapes[f"{plane_count(planes)}x{buffer.height}x{buffer.width}"] += 1
    return " ".join(shape if count == 1 else f"{count}({shape})" for shape, count in shapes.items())
