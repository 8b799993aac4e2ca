"""The cases of whole networks of the official code: how they are built, and their training in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from official_reference import REGISTRY_NAMES, load_recipe, read_json, read_tensors, recipe_input, relative_error
from torch import Tensor

from litehrnet_cuda.models.litehrnet import VARIANTS, LiteHRNet, PoseNetwork

INDEX = read_json("index.json")
TRAINING = read_json("train_steps.json")
# Of the six losses. Adam magnifies roundings 40 to 70 times a step: in naive_18, where every activation and gradient of
# the plain network is rounded otherwise in the last place, the sixth loss moves by up to 7e-7.
LATE = 1e-5
LOSS_TOLERANCES = (1e-12, 1e-10, 1e-8, 1e-7, LATE, LATE)
# The reference outputs are float64 results rounded to float32: half a unit in the last place is 6e-8.
STORED_AS_FLOAT32 = 1e-7


def build(case: dict[str, Any], **options: Any) -> PoseNetwork:
    backbone = LiteHRNet(VARIANTS[REGISTRY_NAMES[case["variant"]]], **options)
    return load_recipe(PoseNetwork(backbone, case["joints"]), case["weight_tag"])  # type: ignore[return-value]


def images(case: dict[str, Any]) -> Tensor:
    return recipe_input(case["input_seed"], (case["batch"], 3, case["height"], case["width"]))


def assert_training_matches_official(case: dict[str, Any]) -> None:
    """Five steps of Adam: losses, gradients and buffers of the first, parameters after the last."""
    model = build(case).train()
    x = images(case)
    random = np.random.RandomState(case["target_seed"])
    shape = (case["batch"], case["joints"], case["height"] // 4, case["width"] // 4)
    target = torch.from_numpy(random.uniform(0, 1, shape).astype(np.float32)).double()
    weight = torch.from_numpy(random.uniform(0, 1, (*shape[:2], 1)) > 0.25).double().unsqueeze(-1)
    assert case["optimizer"]["type"] == "Adam"
    adam = torch.optim.Adam(model.parameters(), lr=case["optimizer"]["lr"])

    def loss(heatmaps: Tensor) -> Tensor:
        return (weight * (heatmaps - target)).square().mean()

    losses = []
    for step in range(5):
        adam.zero_grad()
        heatmaps = model(x)
        value = loss(heatmaps)
        value.backward()
        losses.append(value.item())
        if step == 0:
            expected = read_tensors("train_step_outputs.safetensors", case["variant"])[""]
            assert relative_error(heatmaps.detach(), expected) < STORED_AS_FLOAT32
            largest = max(case["grad_norms"].values())
            for key, parameter in model.named_parameters():
                # Norms are stored with ten digits; gradients that are zero but for rounding count as zero.
                assert parameter.grad.norm().item() == pytest.approx(
                    case["grad_norms"][key], rel=1e-8, abs=1e-13 * largest
                ), key
            buffers = case["buffer_norms_after_step1"]
            for key, buffer in model.named_buffers():
                assert buffer.double().norm().item() == pytest.approx(buffers[key], rel=1e-8), key
        adam.step()
    losses.append(loss(model(x)).item())
    # Adam divides by the root of squared gradients, which makes a full step of a gradient that is only rounding; such
    # parameters have no influence on the output, but their norms after training are arbitrary.
    for loss_here, official, tolerance in zip(losses, case["losses"], LOSS_TOLERANCES, strict=True):
        assert loss_here == pytest.approx(official, rel=tolerance)
    for key, parameter in model.named_parameters():
        if case["grad_norms"][key] > 1e-6:
            assert parameter.norm().item() == pytest.approx(case["param_norms_after"][key], rel=LATE), key
    with torch.no_grad():
        eval_loss = loss(model.eval()(x)).item()
    assert eval_loss == pytest.approx(case["eval_loss_after"], rel=LATE)
