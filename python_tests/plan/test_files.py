from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
from plan_cases import UNUSUAL, backbone_of, pose_network
from safetensors.torch import save_file

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.plan import Plan, build_plan
from litehrnet_cuda.plan.reference import run_reference

KEY = "litehrnet_cuda.plan"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["litehrnet_18", "naive_litehrnet_18"])
def test_round_trip(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    plan = build_plan(pose_network(name), 50, 71, dtype)
    file = plan.save(tmp_path / "plan.safetensors")
    loaded = Plan.load(file)
    for field in ("network", "height", "width", "dtype", "buffers", "steps", "outputs", "layout"):
        assert getattr(loaded, field) == getattr(plan, field), field
    assert loaded.weights.keys() == plan.weights.keys()
    assert all(torch.equal(loaded.weights[key], plan.weights[key]) for key in plan.weights)
    x = torch.randn(2, 3, 50, 71).to(dtype)
    assert torch.equal(run_reference(loaded, x)[0], run_reference(plan, x)[0])
    assert loaded.save(tmp_path / "again.safetensors").read_bytes() == file.read_bytes()


@pytest.mark.parametrize("with_head", [True, False])
def test_round_trip_of_backbones(with_head: bool, tmp_path: Path) -> None:
    plan = build_plan(backbone_of(UNUSUAL[0], with_head=with_head), 50, 71)
    loaded = Plan.load(plan.save(tmp_path / "plan.safetensors"))
    assert loaded.steps == plan.steps
    assert loaded.outputs == plan.outputs


@pytest.fixture(scope="module")
def plan_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    plan = build_plan(backbone_of(UNUSUAL[2]), 32, 32)
    return plan.save(tmp_path_factory.mktemp("plan") / "plan.safetensors")


def damaged(file: Path, change: Any) -> Path:
    """A copy of a plan's file with its JSON changed."""
    with safetensors.safe_open(file, framework="pt") as opened:
        content = json.loads(opened.metadata()[KEY])
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}
    change(content)
    copy = file.with_name("damaged.safetensors")
    save_file(tensors, copy, {KEY: json.dumps(content)})
    return copy


DAMAGE: dict[str, Any] = {
    "version": lambda content: content.update(version=2),
    "no steps": lambda content: content.pop("steps"),
    "steps no list": lambda content: content.update(steps={}),
    "unknown step": lambda content: content["steps"][0].update(kind="Plan"),
    "step no object": lambda content: content["steps"].insert(0, 1),
    "field missing": lambda content: content["steps"][0].pop("bias"),
    "field too many": lambda content: content["steps"][0].update(more=1),
    "text for a number": lambda content: content.update(height="50"),
    "true for a number": lambda content: content["buffers"][1].update(channels=True),
    "unknown role": lambda content: content["buffers"][1].update(role="secret"),
    "unknown type": lambda content: content.update(dtype="int8"),
    "number no list": lambda content: content.update(outputs=3),
    "place outside": lambda content: content["layout"]["offsets"].__setitem__(1, 2**40),
    "plane outside": lambda content: content["steps"][0]["output"][0].update(count=2**40),
    "not an object": lambda content: content["layout"].update(offsets=None),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_plans(damage: str, plan_file: Path) -> None:
    with pytest.raises(InputError, match=r"expected a plan as Plan.save writes it, got a damaged one"):
        Plan.load(damaged(plan_file, DAMAGE[damage]))


def test_other_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="got a path where there is none"):
        Plan.load(tmp_path / "none.safetensors")
    weights = tmp_path / "weights.safetensors"
    save_file({"weight": torch.zeros(1)}, weights)
    with pytest.raises(InputError, match="got a file without one"):
        Plan.load(weights)
    text = tmp_path / "text.safetensors"
    text.write_text("no tensors here")
    with pytest.raises(InputError, match="expected a safetensors file"):
        Plan.load(text)
    plan = build_plan(pose_network("naive_litehrnet_18"), 32, 32)
    with pytest.raises(InputError, match=r"expected a name that ends in .safetensors, got plan.pt"):
        plan.save(tmp_path / "plan.pt")
