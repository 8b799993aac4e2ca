"""Plans with one number wrong: each must be found. Where plans are right, test_reference.py checks them all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from plan_cases import pose_network

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.plan import Plan, build_plan
from litehrnet_cuda.plan.checks import check_plan
from litehrnet_cuda.plan.operands import Run


@pytest.fixture(scope="module")
def plan() -> Plan:
    plan = build_plan(pose_network("litehrnet_18"), 64, 64)
    check_plan(plan)
    return plan


def with_step(number: int, change: Callable[[Any], Any]) -> Callable[[Plan], Plan]:
    def changed(plan: Plan) -> Plan:
        steps = list(plan.steps)
        steps[number] = change(steps[number])
        return replace(plan, steps=tuple(steps))

    return changed


def with_buffer(number: int, **changes: Any) -> Callable[[Plan], Plan]:
    def changed(plan: Plan) -> Plan:
        buffers = list(plan.buffers)
        buffers[number] = replace(buffers[number], **changes)
        return replace(plan, buffers=tuple(buffers))

    return changed


def with_offset(number: int, offset: int | None) -> Callable[[Plan], Plan]:
    def changed(plan: Plan) -> Plan:
        offsets = list(plan.layout.offsets)
        offsets[number] = offset
        return replace(plan, layout=replace(plan.layout, offsets=tuple(offsets)))

    return changed


def without_weight(plan: Plan) -> Plan:
    return replace(plan, weights={k: v for k, v in plan.weights.items() if not k.endswith("total.weight")})


def with_transposed_weights(plan: Plan) -> Plan:
    return replace(plan, weights={k: v.t() if v.dim() == 2 else v for k, v in plan.weights.items()})


def with_wide_biases(plan: Plan) -> Plan:
    return replace(plan, weights={k: v.double() if "bias" in k else v for k, v in plan.weights.items()})


def first_run(planes: tuple[Run, ...], **changes: Any) -> tuple[Run, ...]:
    return (replace(planes[0], **changes), *planes[1:])


# Steps of the plan: 0 stem, 1 stem, 2 transition, 3 gates, 4 depthwise, 5 gates, 6 depthwise, 7 upward, 8 downward.
WRONG: dict[str, tuple[Callable[[Plan], Plan], str]] = {
    "steps swapped": (lambda plan: replace(plan, steps=(plan.steps[1], plan.steps[0], *plan.steps[2:])), "has written"),
    "step left out": (lambda plan: replace(plan, steps=plan.steps[:6] + plan.steps[7:]), "has written"),
    "plane outside": (with_step(0, lambda s: replace(s, output=first_run(s.output, first=1))), "expected planes of"),
    "negative plane": (with_step(3, lambda s: replace(s, output=first_run(s.output, first=-1))), "expected planes of"),
    "no such buffer": (with_step(0, lambda s: replace(s, output=first_run(s.output, buffer=10**6))), "buffer below"),
    "no factors": (
        with_step(7, lambda s: replace(s, top=tuple(replace(r, factors=0) for r in s.top))),
        "expected factors",
    ),
    "image overwritten": (with_step(0, lambda s: replace(s, output=first_run(s.output, buffer=0))), "expected planes"),
    "read twice": (
        with_step(3, lambda s: replace(s, branches=(s.branches[0], s.branches[0]))),
        "expected weight|read once|size",
    ),
    "in place": (
        with_step(
            4, lambda s: replace(s, branches=(replace(s.branches[0], output=s.branches[0].input), s.branches[1]))
        ),
        "nothing pending|both read and written",
    ),
    "stride": (
        with_step(2, lambda s: replace(s, paths=(replace(s.paths[0], stride=2), s.paths[1]))),
        "expected planes of size",
    ),
    "source": (
        with_step(2, lambda s: replace(s, paths=(replace(s.paths[0], source=1), s.paths[1]))),
        "expected numbers below 1",
    ),
    "rows of a sum": (
        with_step(4, lambda s: replace(s, branches=(replace(s.branches[0], rows_per_sum=1), s.branches[1]))),
        "expected planes of size",
    ),
    "pixels of a mean": (
        with_step(5, lambda s: replace(s, gates=(replace(s.gates[0], pixels=0), *s.gates[1:]))),
        "expected pixels",
    ),
    "too few planes": (with_step(8, lambda s: replace(s, kept=s.kept[:1])), "expected weight|planes"),
    "no planes": (with_step(8, lambda s: replace(s, kept=())), "expected planes of one size"),
    "weight missing": (without_weight, "expected weight"),
    "weights transposed": (with_transposed_weights, "expected weight"),
    "type of weights": (with_wide_biases, "expected weight"),
    "type of the plan": (lambda plan: replace(plan, dtype=torch.int8), "expected dtype"),
    "buffer of nothing": (with_buffer(1, height=0), "expected sizes of 1"),
    "buffer too large": (with_buffer(1, channels=10**9), "expected sizes of 1"),
    "planes over one another": (with_buffer(1, plane_stride=8), "expected sizes of 1"),
    "input size": (lambda plan: replace(plan, height=32), "expected an input of 32"),
    "outputs": (lambda plan: replace(plan, outputs=()), "expected outputs"),
    "buffers at one place": (with_offset(2, 0), "apart|aligned"),
    "offset unaligned": (with_offset(1, 4), "aligned place"),
    "offset outside": (with_offset(1, 2**30), "aligned place"),
    "offset negative": (with_offset(1, -256), "aligned place"),
    "no offset": (with_offset(1, None), "expected an offset"),
    "offset of the image": (with_offset(0, 0), "expected no offset"),
    "arena too small": (
        lambda plan: replace(plan, layout=replace(plan.layout, arena_bytes=plan.layout.arena_bytes - 256)),
        "aligned place",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_plans_are_found(plan: Plan, wrong: str) -> None:
    change, message = WRONG[wrong]
    with pytest.raises(InputError, match=message):
        check_plan(change(plan))
