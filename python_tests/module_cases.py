"""The cases of single modules of the official code: outputs, gradients, and buffers after a training step."""

from __future__ import annotations

from typing import Any

import torch
from official_reference import load_recipe, read_json, read_tensors, recipe_input, relative_error
from torch import Tensor, nn

from litehrnet_cuda.models.heads import IterativeHead
from litehrnet_cuda.nn.blocks import (
    ConditionalChannelWeighting,
    ShuffleUnit,
    Stem,
)
from litehrnet_cuda.nn.fuse import LiteHRModule
from litehrnet_cuda.nn.weighting import CrossResolutionWeighting, SpatialWeighting

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


def assert_matches_official(case: dict[str, Any]) -> None:
    """A module in evaluation and in a training step, in float64, on the backend that is selected."""
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
