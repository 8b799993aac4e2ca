"""The plan computes what the model computes: all variants, sizes, types, and the official code's own results.

Tolerances: eager fp32 is within 1.2e-6 of max|output| of fp64 (golden/README.md), 20 units of its rounding error of
6e-8. A plan rounds about as often as eager, so that 20 units of each, and 5 times that for other seeds, are 100 units:
1e-14 in fp64, 6e-6 in fp32. Half types round only what is stored, 20 units are 1e-2 and 8e-2 there.
"""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import Any

import pytest
import torch
from network_cases import INDEX, STORED_AS_FLOAT32, build, images
from official_reference import read_tensors, relative_error
from plan_cases import SIZES, UNUSUAL, backbone_of, pose_network
from torch import Tensor, nn

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.models.litehrnet import VARIANTS, Variant
from litehrnet_cuda.plan import build_plan
from litehrnet_cuda.plan.checks import check_plan
from litehrnet_cuda.plan.reference import run_reference

TOLERANCE = {torch.float64: 1e-14, torch.float32: 6e-6, torch.float16: 1e-2, torch.bfloat16: 8e-2}


def assert_plan_equals_model(model: Any, size: tuple[int, int], dtype: torch.dtype, batch: int = 1) -> None:
    plan = build_plan(model, *size, dtype)
    check_plan(plan)
    torch.manual_seed(0)
    # The model runs on the rounded image, so that both see the same.
    x = torch.randn(batch, plan.buffers[0].channels, *size).to(dtype)
    with torch.no_grad():
        expected = model(x.double())
    outputs = run_reference(plan, x)
    expected = expected if isinstance(expected, list) else [expected]
    assert len(outputs) == len(expected)
    for output, one in zip(outputs, expected, strict=True):
        assert output.dtype == dtype
        assert relative_error(output, one) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", VARIANTS)
def test_pose_networks(name: str, size: tuple[int, int], dtype: torch.dtype) -> None:
    assert_plan_equals_model(pose_network(name), size, dtype, batch=1 if size == SIZES[0] else 3)


@pytest.mark.parametrize("branches", ["all", "top"])
@pytest.mark.parametrize("with_head", [True, False])
@pytest.mark.parametrize("name", ["litehrnet_18", "naive_litehrnet_18"])
def test_backbones(name: str, with_head: bool, branches: str) -> None:
    backbone = backbone_of(name, with_head=with_head, branches=branches)
    assert_plan_equals_model(backbone, (50, 71), torch.float64, batch=3)


@pytest.mark.parametrize("name", ["litehrnet_18", "naive_litehrnet_18"])
def test_pose_network_without_iterative_head(name: str) -> None:
    assert_plan_equals_model(pose_network(name, with_head=False), (50, 71), torch.float64)


@pytest.mark.parametrize("branches", ["all", "top"])
@pytest.mark.parametrize("with_head", [True, False])
@pytest.mark.parametrize("variant", UNUSUAL, ids=lambda variant: variant.name)
def test_unusual_variants(variant: Variant, with_head: bool, branches: str) -> None:
    assert_plan_equals_model(
        backbone_of(variant, with_head=with_head, branches=branches, in_channels=4), (64, 45), torch.float64
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["litehrnet_18", "wider_naive_litehrnet_18"])
def test_half_types(name: str, dtype: torch.dtype) -> None:
    assert_plan_equals_model(pose_network(name), (64, 96), dtype, batch=2)


@cache
def official_network(variant: str, joints: int, weight_tag: str) -> nn.Module:
    return build({"variant": variant, "joints": joints, "weight_tag": weight_tag})


@pytest.mark.parametrize("case", INDEX["eval"], ids=lambda case: case["name"])
def test_official_results(case: dict[str, Any]) -> None:
    expected = read_tensors("eval_outputs.safetensors", case["name"])[""]
    model, x = official_network(case["variant"], case["joints"], case["weight_tag"]), images(case)
    for dtype, tolerance in ((torch.float64, STORED_AS_FLOAT32), (torch.float32, TOLERANCE[torch.float32])):
        (output,) = run_reference(build_plan(model, case["height"], case["width"], dtype), x.to(dtype))
        assert relative_error(output, expected) < tolerance


def test_images_of_a_batch_do_not_mix() -> None:
    plan = build_plan(pose_network("litehrnet_18"), 50, 71, torch.float64)
    x = torch.randn(3, 3, 50, 71, dtype=torch.float64)
    (together,) = run_reference(plan, x)
    alone = torch.cat([run_reference(plan, image[None])[0] for image in x])
    assert relative_error(together, alone) < TOLERANCE[torch.float64]


def test_training_mode_and_later_training_change_nothing() -> None:
    model = deepcopy(pose_network("litehrnet_18"))
    x = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        expected: Tensor = model(x)
    plan = build_plan(model.train(), 32, 32, torch.float64)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    assert relative_error(run_reference(plan, x)[0], expected) < TOLERANCE[torch.float64]


@pytest.mark.parametrize(
    "wrong", [torch.zeros(1, 3, 32, 64), torch.zeros(3, 32, 32), torch.zeros(1, 3, 32, 32, dtype=torch.float64)]
)
def test_images_that_do_not_fit(wrong: Tensor) -> None:
    plan = build_plan(pose_network("naive_litehrnet_18"), 32, 32)
    with pytest.raises(InputError, match=r"images: expected \[N, 3, 32, 32\] of torch.float32"):
        run_reference(plan, wrong)
