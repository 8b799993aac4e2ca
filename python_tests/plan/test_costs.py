from __future__ import annotations

import pytest
import torch
from plan_cases import SIZES, UNUSUAL, backbone_of, pose_network

from litehrnet_cuda.models.complexity import measure_complexity
from litehrnet_cuda.models.litehrnet import VARIANTS, Variant
from litehrnet_cuda.plan import build_plan
from litehrnet_cuda.plan.costs import plan_cost, step_cost


@pytest.mark.parametrize(("name", "size"), list(zip(VARIANTS, (*SIZES, SIZES[1]), strict=True)))
def test_a_plan_multiplies_as_much_as_the_model(name: str, size: tuple[int, int]) -> None:
    """Fusing leaves out no product and adds none: the plan's count is that of the model's convolutions."""
    plan = build_plan(pose_network(name, 17), *size)
    assert plan_cost(plan).macs == measure_complexity(VARIANTS[name], height=size[0], width=size[1]).macs


def test_bytes_of_the_first_steps() -> None:
    plan = build_plan(pose_network("litehrnet_18"), 64, 32)
    first, second, _, gates, depthwise, *_ = (step_cost(plan, step) for step in plan.steps)
    assert first.read == 4 * 3 * 64 * 32
    assert first.written == 4 * 32 * 32 * 16
    assert first.weights == 4 * (32 * 27 + 32)
    assert second.read == first.written
    assert second.written == 4 * 32 * 16 * 8
    # A block of two branches, 40x16x8 and 80x8x4: halves in, gates out; halves and gates in, halves and sums out.
    assert gates.read == 4 * (20 * 16 * 8 + 40 * 8 * 4)
    assert gates.written == 4 * 60 * 8 * 4
    assert depthwise.read == gates.read + gates.written
    assert depthwise.written == gates.read + 4 * 60


@pytest.mark.parametrize("variant", UNUSUAL, ids=lambda variant: variant.name)
def test_weights_count_once(variant: Variant) -> None:
    plan = build_plan(backbone_of(variant), 64, 64)
    assert plan_cost(plan).weights == plan.weight_bytes


def test_half_types_move_half_as_much() -> None:
    model = pose_network("litehrnet_18")
    full, half = (plan_cost(build_plan(model, 256, 192, dtype)) for dtype in (torch.float32, torch.float16))
    # All but sums and factors, which keep their type: 0.1 % of the bytes.
    assert half.read == pytest.approx(full.read / 2, rel=2e-3)
    assert half.macs == full.macs


# Read, written and weights in 1e6 bytes, 256x192, fp32: what a change of the plan does to its traffic is to be seen.
TRAFFIC = {
    "litehrnet_18": (36.84, 19.86, 4.44),
    "litehrnet_30": (61.53, 32.25, 6.93),
    "naive_litehrnet_18": (26.86, 19.11, 2.98),
    "wider_naive_litehrnet_18": (34.97, 24.75, 5.19),
}


@pytest.mark.parametrize("name", TRAFFIC)
def test_compulsory_bytes(name: str) -> None:
    cost = plan_cost(build_plan(pose_network(name, 17), 256, 192))
    assert tuple(round(b / 1e6, 2) for b in (cost.read, cost.written, cost.weights)) == TRAFFIC[name]
