"""A backend "plain" for tests, which runs optimised networks by the plain executor of plans: quick, and thread-safe."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from litehrnet_cuda import inference
from litehrnet_cuda.plan import Plan, executor, program
from litehrnet_cuda.plan.reference import run_reference


class PlainProgram:
    """A plan in the place of its program."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def to(self, device: torch.device) -> PlainProgram:
        assert device.type == "cpu"
        return self


class Executor:
    """Stands in for the native one, and remembers which sizes it has been given, and which batches."""

    def __init__(self) -> None:
        self.made: list[tuple[int, int]] = []
        self.batches: list[int] = []

    def compile_plan(self, plan: Plan) -> PlainProgram:
        self.made.append((plan.height, plan.width))
        return PlainProgram(plan)

    def run_program(self, program: PlainProgram, images: Tensor, *, persistent: bool) -> list[Tensor]:
        assert not persistent
        assert images.is_contiguous()
        self.batches.append(len(images))
        return run_reference(program.plan, images)


def install(monkeypatch: pytest.MonkeyPatch) -> Executor:
    """Puts it in the native executor's place for a test."""
    plain = Executor()
    monkeypatch.setattr(program, "compile_plan", plain.compile_plan)
    monkeypatch.setattr(executor, "run_program", plain.run_program)
    monkeypatch.setattr(inference, "select_backend", lambda device: "plain")
    return plain
