"""Sequences of layers give the same, fused or not, and are fused only where that is all they do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from litehrnet_cuda import functional
from litehrnet_cuda.backends import can_run_cpu, use_backend
from litehrnet_cuda.nn.layers import ConvModule, DepthwiseSeparableConvModule, separable_layers
from litehrnet_cuda.nn.separable import run_layers

needs_cpu = pytest.mark.skipif(not can_run_cpu().ok, reason=can_run_cpu().reason)

MODULES: dict[str, Callable[[], list[nn.Module]]] = {
    "stride 1": lambda: [DepthwiseSeparableConvModule(6, 8)],
    "stride 2": lambda: [nn.Sequential(*separable_layers(6, 8, stride=2))],
    "pointwise": lambda: [ConvModule(6, 8, 1)],
    "three": lambda: [
        ConvModule(6, 6, 1),
        ConvModule(6, 6, 3, stride=2, groups=6, activation=None),
        ConvModule(6, 8, 1),
    ],
    "full convolution": lambda: [ConvModule(6, 8, 3, stride=2)],
}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many convolutions each call of the fused op had."""
    seen: list[int] = []
    op = functional.separable_conv_batch_norm

    def record(x: Tensor, depthwise_weight: Any, weight: Any, *others: Any, **options: Any) -> Any:
        seen.append(len(depthwise_weight) + len(weight))
        return op(x, depthwise_weight, weight, *others, **options)

    monkeypatch.setattr(functional, "separable_conv_batch_norm", record)
    return seen


def modules_of(name: str) -> list[nn.Module]:
    torch.manual_seed(0)
    modules = MODULES[name]()
    for norm in nn.ModuleList(modules).modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias)
    return [module.double() for module in modules]


def images() -> Tensor:
    return torch.randn(3, 6, 9, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def step(modules: list[nn.Module]) -> dict[str, Tensor]:
    """Output, gradients and buffers after a training step."""
    x = images().requires_grad_()
    y = run_layers(modules, x)
    y.square().sum().backward()
    whole = nn.ModuleList(modules)
    found = {"y": y.detach(), "x": x.grad, **{f"{key} grad": p.grad for key, p in whole.named_parameters()}}
    found |= {key: buffer.clone() for key, buffer in whole.named_buffers()}
    assert all(value is not None for value in found.values())
    return {key: value for key, value in found.items() if value is not None}


@needs_cpu
@pytest.mark.parametrize("training", [True, False], ids=["batch", "frozen"])
@pytest.mark.parametrize("name", MODULES)
def test_fused_layers_equal_plain_ones(name: str, training: bool, calls: list[int]) -> None:
    with use_backend("reference"):
        expected = step([module.train(training) for module in modules_of(name)])
    assert not calls
    found = step([module.train(training) for module in modules_of(name)])
    assert calls == {"pointwise": [1], "three": [1, 2], "full convolution": [0]}.get(name, [2])
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-10, atol=1e-10)


def nothing(modules: list[nn.Module]) -> None: ...


def hook(modules: list[nn.Module]) -> None:
    next(iter(modules[0].children())).register_forward_hook(lambda *_: None)


def bias(modules: list[nn.Module]) -> None:
    for module in modules[0].modules():
        if isinstance(module, nn.Conv2d):
            module.bias = nn.Parameter(torch.ones(module.out_channels, dtype=torch.float64))


def activation(modules: list[nn.Module]) -> None:
    for module in modules[0].modules():
        if isinstance(module, nn.ReLU):
            module.forward = torch.sigmoid  # type: ignore[method-assign]


@needs_cpu
@pytest.mark.parametrize("change", [hook, activation])
def test_what_is_more_than_its_layers_runs_as_it_is(change: Any, calls: list[int]) -> None:
    modules = modules_of("stride 1")
    change(modules)
    run_layers(modules, images())
    assert not calls


@needs_cpu
def test_convolutions_with_a_bias_are_not_fused(calls: list[int]) -> None:
    modules = modules_of("stride 1")
    bias(modules)
    with use_backend("reference"):
        expected = run_layers(modules, images())
    torch.testing.assert_close(run_layers(modules, images()), expected, rtol=1e-12, atol=1e-12)
    assert calls == [0, 0]  # the norms behind them


class Clamp(nn.ReLU):
    def forward(self, input: Tensor) -> Tensor:
        return input.clamp(-1, 1)


@needs_cpu
def test_layers_run_in_the_order_in_which_they_are_called() -> None:
    relu = nn.ReLU()
    convs = [nn.Conv2d(6, 6, 1, bias=False) for _ in range(2)]
    shared = nn.Sequential(convs[0], nn.BatchNorm2d(6), relu, convs[1], nn.BatchNorm2d(6), relu).double()
    late = ConvModule(6, 8).double()
    activate = late.activate
    del late.activate
    late.activate = activate
    bn = late.bn
    del late.bn
    late.bn = bn  # registered behind the activation now
    subclass = nn.Sequential(nn.Conv2d(6, 6, 1, bias=False), nn.BatchNorm2d(6), Clamp()).double()
    for modules in ([shared], [late], [subclass]):
        with use_backend("reference"):
            expected = run_layers(modules, images())
        torch.testing.assert_close(run_layers(modules, images()), expected, rtol=1e-12, atol=1e-12)


@needs_cpu
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_who_knows_nothing_of_the_ops_sees_plain_layers(calls: list[int]) -> None:
    class Network(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return run_layers(list(self), x)

    network = Network(*modules_of("stride 1")).eval()
    x, direction = images(), torch.randn_like(images())
    _, tangent = torch.func.jvp(network, (x,), (direction,))
    step = 1e-6
    torch.testing.assert_close(
        tangent, ((network(x + step * direction) - network(x - step * direction)) / (2 * step)), rtol=1e-4, atol=1e-4
    )
    calls.clear()
    torch.func.grad(lambda x: network(x).sum())(x)
    torch.func.vmap(network)(x[None])
    torch.jit.trace(network, x, check_trace=False)  # type: ignore[no-untyped-call]
    assert not calls


@needs_cpu
def test_autocast_takes_the_plain_way(calls: list[int]) -> None:
    modules = [module.float() for module in modules_of("stride 1")]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        run_layers(modules, images().float())
    assert not calls
