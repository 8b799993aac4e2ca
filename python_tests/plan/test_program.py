"""Programs of plans: what of them can be told without running one."""

from __future__ import annotations

import pytest
import torch
from plan_cases import pose_network

from litehrnet_cuda.plan import Plan, build_plan
from litehrnet_cuda.plan.program import Constants, compile_plan, panels
from litehrnet_cuda.plan.steps import STEPS


def test_panels() -> None:
    matrix = torch.arange(15.0).view(5, 3)
    result = panels(matrix)
    assert result.shape == (2, 3, 4)
    for row in range(8):
        for column in range(3):
            expected = matrix[row, column] if row < 5 else 0
            assert result[row // 4, column, row % 4] == expected


def test_equal_constants_are_stored_once() -> None:
    constants = Constants()
    places = [constants.add(torch.full((5,), value)) for value in (1.0, 2.0, 1.0)]
    assert places == [0, 32, 0]  # whole vectors of 16 bytes
    assert len(constants.joined()) == 64
    assert torch.equal(constants.joined()[32:52].view(torch.float32), torch.full((5,), 2.0))


@pytest.mark.parametrize("network", ["litehrnet_18", "naive_litehrnet_18"])
def test_one_entry_a_step(network: str) -> None:
    plan: Plan = build_plan(pose_network(network), 64, 48)
    program = compile_plan(plan)
    code, kinds = program.code.tolist(), []
    while code:
        kinds.append(STEPS[code[0]])
        code = code[2 + code[1] :]
    assert kinds == [type(step) for step in plan.steps]
    assert program.shapes == (5, 16, 12)
    # Padding of matrices, tables of planes, and little else: a tenth on top of the weights.
    assert plan.weight_bytes < program.constants.numel() < 1.15 * plan.weight_bytes


def test_programs_are_reproducible() -> None:
    first, second = (compile_plan(build_plan(pose_network("litehrnet_18"), 64, 48)) for _ in range(2))
    assert torch.equal(first.code, second.code)
    assert torch.equal(first.constants, second.constants)
