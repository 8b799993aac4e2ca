"""Random weights of the networks under the names that code bases give them, and how to compare state dicts."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import torch
from official_reference import REGISTRY_NAMES
from torch import Tensor, nn

VARIANTS = {name: short for short, name in REGISTRY_NAMES.items()}


def state_of(golden: Path, variant: str = "litehrnet_18", joints: int = 17) -> dict[str, Tensor]:
    """Random weights under the official names."""
    shapes = json.loads((golden / "keys" / f"{VARIANTS[variant]}.json").read_text())
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in shapes.items():
        if name.startswith("keypoint_head."):
            shape = [joints, *shape[1:]]
        counter = name.endswith("num_batches_tracked")
        state[name] = torch.tensor(7) if counter else torch.rand(shape, generator=generator)
    return state


def to_mmpose_1x(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights under the names of mmpose 1.x."""
    return {name.replace("keypoint_head.", "head."): value for name, value in state.items()}


def to_paddle(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names as PaddleDetection gives them; ``test_paddle_names`` compares them with its own list."""
    renamed = {}
    for name, value in state.items():
        if name.endswith("num_batches_tracked"):
            continue
        name = name.replace("keypoint_head.final_layer", "final_conv").replace(".bn.", ".norm.")
        renamed[name.replace("running_mean", "_mean").replace("running_var", "_variance")] = value
    return renamed


def write_paddle(weights: dict[str, Tensor], path: Path, internal: dict[str, str] | None = None) -> Path:
    """What ``paddle.save(layer.state_dict(), path)`` writes: arrays by name, and a table of their internal names."""
    table = {name: (internal or {}).get(name, f"parameter_{index}") for index, name in enumerate(weights)}
    content = {**{name: value.numpy() for name, value in weights.items()}, "StructuredToParameterName@@": table}
    path.write_bytes(pickle.dumps(content, protocol=4))
    return path


def assert_same(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """The same names with the same values, to the bit."""
    assert set(actual) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, rtol=0, atol=0, msg=lambda text, name=name: f"{name}: {text}")


def copy_of(model: nn.Module) -> dict[str, Tensor]:
    """The state dict as it is now."""
    return {name: value.clone() for name, value in model.state_dict().items()}
