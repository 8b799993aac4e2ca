"""Every block against the official code in float64: outputs, gradients, and buffers after a training step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from official_reference import load_recipe, read_json, read_tensors, recipe_input, relative_error
from torch import Tensor, nn

from litehrnet_cuda.models.heads import IterativeHead
from litehrnet_cuda.nn.blocks import (
    ConditionalChannelWeighting,
    CrossResolutionWeighting,
    ShuffleUnit,
    SpatialWeighting,
    Stem,
)
from litehrnet_cuda.nn.fuse import LiteHRModule

CLASSES = {
    cls.__name__: cls
    for cls in (
        *(SpatialWeighting, CrossResolutionWeighting, ConditionalChannelWeighting),
        *(Stem, ShuffleUnit, LiteHRModule, IterativeHead),
    )
}
CASES = read_json("index.json")["modules"]

# Both sides are float64 and differ by the order of summation only: a few thousand additions of rounding error 1e-16.
# Gradients pass through batch statistics of few values, whose division by a small deviation amplifies that.
OUTPUT_TOLERANCE = 1e-12
GRADIENT_TOLERANCE = 1e-10


def build(case: dict[str, Any]) -> tuple[nn.Module, list[Tensor]]:
    module = load_recipe(CLASSES[case["kind"]](**case["config"]), case["weight_tag"])
    inputs = [recipe_input(seed, shape) for seed, shape in zip(case["input_seeds"], case["input_shapes"], strict=True)]
    return module, inputs


def run(module: nn.Module, inputs: list[Tensor]) -> list[Tensor]:
    takes_list = not isinstance(module, (SpatialWeighting, Stem, ShuffleUnit))
    out = module(list(inputs)) if takes_list else module(inputs[0])
    return list(out) if takes_list else [out]


def training_step(module: nn.Module, inputs: list[Tensor], case: dict[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
    inputs = [x.clone().requires_grad_() for x in inputs]
    outputs = run(module.train(), inputs)
    cotangents = [recipe_input(seed, out.shape) for seed, out in zip(case["cotangent_seeds"], outputs, strict=True)]
    sum((out * cotangent).sum() for out, cotangent in zip(outputs, cotangents, strict=True)).backward()
    return outputs, [x.grad for x in inputs]


def buffer_errors(module: nn.Module, expected: dict[str, Tensor]) -> dict[str, float]:
    buffers = dict(module.named_buffers())
    assert set(buffers) == set(expected)
    return {key: relative_error(buffers[key].reshape(expected[key].shape), expected[key]) for key in expected}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_matches_official(case: dict[str, Any]) -> None:
    name = case["name"]
    module, inputs = build(case)
    with torch.no_grad():
        outputs = run(module.eval(), inputs)
    expected = read_tensors("modules.safetensors", f"{name}/eval_output/")
    assert len(outputs) == len(expected)
    for i, out in enumerate(outputs):
        assert relative_error(out, expected[str(i)]) < OUTPUT_TOLERANCE

    outputs, input_grads = training_step(module, inputs, case)
    expected = read_tensors("modules.safetensors", f"{name}/train_output/")
    for i, out in enumerate(outputs):
        assert relative_error(out, expected[str(i)]) < OUTPUT_TOLERANCE * 100  # through batch statistics
    expected = read_tensors("modules.safetensors", f"{name}/input_grad/")
    for i, grad in enumerate(input_grads):
        assert relative_error(grad, expected[str(i)]) < GRADIENT_TOLERANCE
    expected = read_tensors("modules.safetensors", f"{name}/grad/")
    parameters = dict(module.named_parameters())
    assert set(parameters) == set(expected)
    # Relative to the largest gradient: the gradient of a bias before a batch norm is exactly zero but for rounding.
    scale = max(grad.abs().max().item() for grad in expected.values())
    for key, grad in expected.items():
        actual = parameters[key].grad
        assert actual is not None
        assert (actual - grad.reshape(actual.shape)).abs().max().item() < GRADIENT_TOLERANCE * scale, key
    if list(module.buffers()):  # SpatialWeighting has none
        errors = buffer_errors(module, read_tensors("modules.safetensors", f"{name}/buffer_after/"))
        assert max(errors.values()) < OUTPUT_TOLERANCE * 100, errors


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
