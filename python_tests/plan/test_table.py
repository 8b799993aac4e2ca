from __future__ import annotations

import pytest
from plan_cases import pose_network

from litehrnet_cuda.models.litehrnet import VARIANTS
from litehrnet_cuda.plan import build_plan
from litehrnet_cuda.plan.table import plan_figures, plan_table


@pytest.mark.parametrize("name", VARIANTS)
def test_one_line_a_launch(name: str) -> None:
    plan = build_plan(pose_network(name, 17), 256, 192)
    lines = plan_table(plan).splitlines()
    assert len(lines) == len(plan.steps) + 6
    assert max(map(len, lines)) <= 120
    assert lines[0] == f"{name} as a plan, input 192x256, float32; figures for one image, memory in kB"
    assert lines[2].split() == ["0", "StemConvolution", "stem.conv1", "32x128x96", "10.62", "589.8", "3.6", "1572.9"]
    assert f"launches          {len(plan.steps)}" in lines


def test_figures() -> None:
    plan = build_plan(pose_network("litehrnet_18", 17), 256, 192)
    figures = plan_figures(plan)
    assert figures["launches"] == len(figures["steps"]) == 65
    for key in ("macs", "read", "written", "weights"):
        assert sum(step[key] for step in figures["steps"]) == figures[key]
    assert figures["steps"][-1]["kind"] == "HeadConvolution"
