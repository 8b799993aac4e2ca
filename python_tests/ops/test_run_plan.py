"""The op that runs plans, as PyTorch sees it. What it computes is tested in plan/test_executor.py."""

from __future__ import annotations

import emulated_ops
import pytest
import torch
from plan_cases import pose_network

from litehrnet_cuda.ops.run_plan import run_plan, run_plan_steps
from litehrnet_cuda.plan import build_plan
from litehrnet_cuda.plan.program import Program, compile_plan


@pytest.fixture
def program() -> Program:
    emulated_ops.load().configure(seed=0)
    return compile_plan(build_plan(pose_network("litehrnet_18"), 32, 32))


def test_opcheck(program: Program) -> None:
    images = torch.randn(2, 3, 32, 32)
    arguments = (images, program.constants, program.code, program.arena_bytes, list(program.shapes), False)
    torch.library.opcheck(torch.ops.litehrnet_cuda._run_plan.default, arguments)
    arena = torch.zeros(2 * program.arena_bytes, dtype=torch.uint8)
    outputs = [torch.zeros(2, 5, 8, 8)]
    steps = (images, program.constants, program.code, arena, outputs, 0, 2)
    torch.library.opcheck(torch.ops.litehrnet_cuda._run_plan_steps.default, steps)


def test_compiled_without_graph_breaks(program: Program) -> None:
    def run(images: torch.Tensor) -> torch.Tensor:
        shapes = list(program.shapes)
        return run_plan(images, program.constants, program.code, program.arena_bytes, shapes)[0] * 2

    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(torch.compile(run, fullgraph=True, backend="aot_eager")(images), run(images))


def test_arguments_that_do_not_fit(program: Program) -> None:
    images, rest = torch.randn(1, 3, 32, 32), (program.arena_bytes, list(program.shapes))
    with pytest.raises(RuntimeError, match=r"images: expected \[N, C, H, W\], got \[3, 32, 32\]"):
        run_plan(images[0], program.constants, program.code, *rest)
    with pytest.raises(RuntimeError, match="constants: expected contiguous uint8"):
        run_plan(images, program.constants.float(), program.code, *rest)
    with pytest.raises(RuntimeError, match="program: expected contiguous int64"):
        run_plan(images, program.constants, program.code.int(), *rest)
    with pytest.raises(RuntimeError, match="x: expected float32"):
        run_plan(images.int(), program.constants, program.code, *rest)
    with pytest.raises(RuntimeError, match="expected at most 4 outputs"):
        run_plan_steps(images, program.constants, program.code, program.constants, [images] * 5, 0, 1)
