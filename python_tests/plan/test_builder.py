from __future__ import annotations

from collections import Counter
from copy import deepcopy

import pytest
import torch
from plan_cases import UNUSUAL, backbone_of, pose_network

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.models.litehrnet import Variant
from litehrnet_cuda.plan import build_plan
from litehrnet_cuda.plan.operands import plane_count
from litehrnet_cuda.plan.packing import ACCUMULATE
from litehrnet_cuda.plan.steps import GatedDepthwise

# Stem 2, transitions 3, head 4; a module of n branches 2 launches for each of its two blocks, and n for its fuse step.
LAUNCHES = {
    "litehrnet_18": 65,
    "litehrnet_30": 107,
    "naive_litehrnet_18": 65,
    "wider_naive_litehrnet_18": 65,
}


@pytest.mark.parametrize("size", [(384, 288), (50, 71)], ids=str)
@pytest.mark.parametrize("name", LAUNCHES)
def test_launches(name: str, size: tuple[int, int]) -> None:
    assert len(build_plan(pose_network(name), *size).steps) == LAUNCHES[name]


def test_launches_by_kind() -> None:
    lite = Counter(type(step).__name__ for step in build_plan(pose_network("litehrnet_18"), 64, 64).steps)
    assert lite == {
        "StemConvolution": 1,
        "SeparableConvolution": 4,
        "ResolutionGates": 16,
        "GatedDepthwise": 16,
        "FuseUpward": 8,
        "FuseDownward": 16,
        "HeadConvolution": 4,
    }
    naive = Counter(type(step).__name__ for step in build_plan(pose_network("naive_litehrnet_18"), 64, 64).steps)
    assert naive == {
        "StemConvolution": 1,
        "SeparableConvolution": 20,
        "PointwiseConvolution": 16,
        "FuseUpward": 8,
        "FuseDownward": 16,
        "HeadConvolution": 4,
    }


@pytest.mark.parametrize(
    ("with_head", "branches", "launches"),
    [(True, "all", 65), (True, "top", 65), (False, "all", 61), (False, "top", 58)],  # of the last fuse step one is left
)
def test_launches_of_backbones(with_head: bool, branches: str, launches: int) -> None:
    backbone = backbone_of("litehrnet_18", with_head=with_head, branches=branches)
    plan = build_plan(backbone, 64, 64)
    assert len(plan.steps) == launches
    assert len(plan.outputs) == (4 if branches == "all" else 1)


def test_gates_are_evaluated_once_and_by_the_next_reader() -> None:
    plan = build_plan(pose_network("litehrnet_18"), 64, 64)
    made = {run.buffer: number for number, step in enumerate(plan.steps) for run in step.writes()}
    evaluated = [(number, gate) for number, step in enumerate(plan.steps) for gate in step.evaluated_gates()]
    factors = [buffer for buffer in plan.buffers if buffer.role == "factors"]
    assert len(evaluated) == len(factors) == 2 * (2 * 2 + 4 * 3 + 2 * 4)
    for number, gate in evaluated:
        assert {made[run.buffer] for run in gate.sums} == {number - 1}


def test_a_block_touches_half_of_the_planes_in_few_runs() -> None:
    """Shuffled twice, planes still lie in runs, because weights are packed in the order of planes."""
    plan = build_plan(pose_network("litehrnet_18"), 64, 64)
    for step in plan.steps:
        scattered = {id(getattr(step, name, None)) for name in ("top", "kept")}  # what sums in channel order add
        assert max(len(planes) for planes in step.inputs() if id(planes) not in scattered) <= 3, step.name
        assert max(len(planes) for planes in step.outputs()) == 1, step.name
    gated = [step for step in plan.steps if isinstance(step, GatedDepthwise)]
    assert [[plane_count(branch.input) for branch in step.branches] for step in gated[-1:]] == [[20, 40, 80, 160]]


@pytest.mark.parametrize("dtype", ACCUMULATE)
def test_types_of_weights(dtype: torch.dtype) -> None:
    plan = build_plan(pose_network("litehrnet_18"), 32, 32, dtype)
    for name, tensor in plan.weights.items():
        assert tensor.dtype == (ACCUMULATE[dtype] if name.endswith(".bias") else dtype)
        assert tensor.is_contiguous()


@pytest.mark.parametrize("variant", UNUSUAL, ids=lambda variant: variant.name)
def test_every_weight_is_used_once(variant: Variant) -> None:
    plan = build_plan(backbone_of(variant), 64, 64)
    used = Counter(name for step in plan.steps for name in step.weights())
    assert set(used) == set(plan.weights)
    assert set(used.values()) == {1}


def test_a_model_on_another_device_or_in_half_precision_is_copied() -> None:
    model = deepcopy(pose_network("naive_litehrnet_18")).half()
    plan = build_plan(model, 32, 32)
    assert {tensor.device.type for tensor in plan.weights.values()} == {"cpu"}


def test_errors() -> None:
    model = pose_network("naive_litehrnet_18")
    with pytest.raises(InputError, match="expected a LiteHRNet or a PoseNetwork, got Linear"):
        build_plan(torch.nn.Linear(1, 1), 32, 32)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="at least 32, got 31 and 64"):
        build_plan(model, 31, 64)
    with pytest.raises(InputError, match=r"expected dtype float16, .*, got torch.int8"):
        build_plan(model, 32, 32, torch.int8)
    with pytest.raises(InputError, match="a module in every stage"):
        build_plan(backbone_of(Variant("empty", (0, 1), (16, 32, 48))), 32, 32)
