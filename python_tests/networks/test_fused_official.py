"""Models with the official classes run on the fused kernels once their modules are swapped; here on the emulator."""

from __future__ import annotations

import copy
from typing import Any

import emulated_ops
import official_modules as official
import pytest
import torch
from official_reference import load_recipe, recipe_input, relative_error

from litehrnet_cuda.backends import use_backend
from litehrnet_cuda.models.litehrnet import Variant
from litehrnet_cuda.nn.replacement import use_fused_modules

VARIANT = Variant("small", (1, 1, 1), (8, 16, 32, 64), num_blocks=1)


@pytest.fixture(autouse=True)
def emulator() -> Any:
    library = emulated_ops.load()
    library.configure(seed=0)
    library.reset()
    yield library
    assert library.errors() == []


def networks() -> tuple[torch.nn.Module, torch.nn.Module]:
    before = load_recipe(official.TopDown(VARIANT, 3), "fused official")
    return before, use_fused_modules(copy.deepcopy(before))


def test_evaluation_is_fused(emulator: Any) -> None:
    before, after = networks()
    x = recipe_input(3, (2, 3, 64, 96))
    with torch.no_grad(), use_backend("emulated"):
        expected = before.eval()(x)
        assert emulator.launches() == []
        got = after.eval()(x)
    assert len(emulator.launches()) == 3 * 3
    assert relative_error(got, expected) < 1e-12  # fp64 in another order of summation


def test_training_is_fused(emulator: Any) -> None:
    before, after = networks()
    x = recipe_input(4, (2, 3, 64, 96))
    for model in (before, after):
        with use_backend("emulated"):
            model.train()(x).square().mean().backward()
    assert len(emulator.launches()) == 3 * (6 + 8)
    # fp64 in another order of summation, through batch statistics of as few as 12 values.
    scale = max(parameter.grad.abs().max().item() for parameter in before.parameters())
    for (key, a), b in zip(before.named_parameters(), after.parameters(), strict=True):
        assert (a.grad - b.grad).abs().max() < 1e-9 * scale, key
    for (key, a), b in zip(before.named_buffers(), after.buffers(), strict=True):
        assert relative_error(b, a) < 1e-11, key
