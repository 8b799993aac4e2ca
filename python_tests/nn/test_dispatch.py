from __future__ import annotations

from typing import Any

import emulated_ops
import pytest
import torch
from torch import nn

from litehrnet_cuda.backends import use_backend
from litehrnet_cuda.nn.dispatch import MAX_HIDDEN, MAX_WIDTH, are_recorded, has_kernels_for, training_dtype
from litehrnet_cuda.nn.layers import ConvModule


@pytest.fixture
def module() -> nn.Sequential:
    emulated_ops.load()
    return nn.Sequential(ConvModule(4, 2))


def fits(module: Any, *maps: torch.Tensor) -> bool:
    with use_backend("emulated"):
        return has_kernels_for(module, maps, module[0].conv.weight)


def test_maps_that_fit(module: nn.Sequential) -> None:
    x = torch.zeros(1, 4, 3, 3)
    assert fits(module, x)
    assert fits(module, *[x] * 4)
    assert not has_kernels_for(module, [x], module[0].conv.weight)  # type: ignore[arg-type,union-attr]


def test_limits_of_the_kernels(module: nn.Sequential) -> None:
    assert not fits(module, *[torch.zeros(1, 4, 3, 3)] * 5)
    assert not fits(module, torch.zeros(1, 4, 1, MAX_WIDTH + 1))
    assert not fits(nn.Sequential(ConvModule(4, MAX_HIDDEN + 1)), torch.zeros(1, 4, 3, 3))


def test_another_dtype_needs_autocast(module: nn.Sequential) -> None:
    x = torch.zeros(1, 4, 3, 3, dtype=torch.bfloat16)
    assert not fits(module, x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert fits(module, x)


@pytest.mark.parametrize(
    "register",
    [
        lambda m: m.register_forward_hook(lambda *_: None),
        lambda m: m.register_forward_pre_hook(lambda *_: None),
        lambda m: m.register_full_backward_hook(lambda *_: None),
        lambda m: m.register_full_backward_pre_hook(lambda *_: None),
    ],
)
def test_hooks_of_parts_see_what_passes(module: nn.Sequential, register: Any) -> None:
    register(module)  # on the module itself: runs whatever happens inside
    assert fits(module, torch.zeros(1, 4, 3, 3))
    handle = register(module[0].conv)  # type: ignore[union-attr]
    assert not fits(module, torch.zeros(1, 4, 3, 3))
    handle.remove()
    assert fits(module, torch.zeros(1, 4, 3, 3))


def test_what_is_recorded(module: nn.Sequential) -> None:
    x = torch.zeros(1, 4, 3, 3)
    assert are_recorded([x], module)
    with torch.no_grad():
        assert not are_recorded([x], module)
    module.requires_grad_(False)
    assert not are_recorded([x], module)
    assert are_recorded([x.requires_grad_()], module)


def test_parameters_of_training_are_wide() -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        assert training_dtype(torch.zeros(1, dtype=dtype)) == torch.float32
    assert training_dtype(torch.zeros(1, dtype=torch.float64)) == torch.float64
