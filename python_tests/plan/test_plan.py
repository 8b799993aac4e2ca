from __future__ import annotations

from plan_cases import pose_network

from litehrnet_cuda.plan import build_plan


def test_bytes_and_text() -> None:
    plan = build_plan(pose_network("litehrnet_18"), 64, 32)
    assert plan.caller_bytes == 4 * (3 * 64 * 32 + 5 * 16 * 8)
    assert plan.weight_bytes == sum(w.numel() * 4 for w in plan.weights.values())
    assert str(plan).startswith("litehrnet_18 as a plan, input 32x64")
