"""Every block against the official code in float64: outputs, gradients, and buffers after a training step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from module_cases import CASES, CLASSES, assert_matches_official, build, training_step
from official_reference import load_recipe
from torch import nn

from litehrnet_cuda.nn.blocks import ConditionalChannelWeighting, ShuffleUnit
from litehrnet_cuda.nn.weighting import CrossResolutionWeighting, SpatialWeighting


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_matches_official(case: dict[str, Any]) -> None:
    assert_matches_official(case)


@pytest.mark.parametrize("name", ["ccw_3", "stem_32_32", "shuffle_unit_s1"])
def test_gradient_checkpointing_changes_nothing(name: str) -> None:
    case = next(case for case in CASES if case["name"] == name)
    plain, inputs = build(case)
    saving = load_recipe(CLASSES[case["kind"]](**case["config"], with_cp=True), case["weight_tag"])
    outputs, grads = training_step(plain, inputs, case)
    saved_outputs, saved_grads = training_step(saving, inputs, case)
    for a, b in zip(outputs + grads, saved_outputs + saved_grads, strict=True):
        assert torch.equal(a, b)
    for (key, a), b in zip(plain.named_parameters(), saving.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad), key
    for (key, a), b in zip(plain.named_buffers(), saving.buffers(), strict=True):
        assert torch.equal(a, b), key


def test_gradient_checkpointing_stands_a_second_backward_pass() -> None:
    block = ShuffleUnit(4, 4, with_cp=True)
    x = torch.randn(2, 4, 6, 6, requires_grad=True)
    loss = block(x).square().sum()
    loss.backward(retain_graph=True)
    assert x.grad is not None
    once = x.grad.clone()
    loss.backward()
    assert torch.equal(x.grad, 2 * once)
    norms = [module for module in block.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {norm.momentum for norm in norms} == {0.1}
    assert {int(norm.num_batches_tracked) for norm in norms} == {1}


def test_gradient_checkpointing_keeps_less() -> None:
    """The block really is evaluated again: what is saved for the backward pass is its input alone."""
    x = [torch.randn(1, 40, 16, 16), torch.randn(1, 80, 8, 8)]
    saved: dict[bool, int] = {}
    for with_cp in (False, True):
        sizes: list[int] = []
        module = ConditionalChannelWeighting([40, 80], with_cp=with_cp)
        inputs = [s.clone().requires_grad_() for s in x]
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: (s.append(t.numel()), t)[1], lambda t: t):
            module(inputs)
        saved[with_cp] = sum(sizes)
    assert saved[True] < saved[False] / 4


@pytest.mark.parametrize(
    ("build_module", "message"),
    [
        (lambda: ShuffleUnit(12, 24), "expected out_channels=12 at stride 1, got 24"),
        (lambda: ShuffleUnit(12, 13), "expected an even number of channels"),
        (lambda: ShuffleUnit(12, 12, stride=3), "expected stride 1 or 2, got 3"),
        (lambda: ConditionalChannelWeighting([8, 16], stride=2), "expected stride 1, got 2"),
        (lambda: ConditionalChannelWeighting([8, 15]), "expected an even number of channels"),
        (lambda: SpatialWeighting(3, ratio=4), "expected at least ratio=4 channels"),
        (lambda: CrossResolutionWeighting([2, 4], ratio=8), "expected at least ratio=8 channels"),
    ],
)
def test_bad_arguments(build_module: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_module()
