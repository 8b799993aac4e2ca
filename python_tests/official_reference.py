"""Weights, inputs and results of the official code, as python_tests/golden/README.md describes them.

Weights and inputs are drawn by a recipe from numpy's frozen RandomState streams, so only results are stored. The
complete set lies in ../shared/golden; a subset of a few megabytes is committed. A case that neither holds is skipped.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

COMMITTED = Path(__file__).parent / "golden" / "network"
COMPLETE = Path(__file__).resolve().parents[2] / "shared" / "golden"

REGISTRY_NAMES = {
    "lite_18": "litehrnet_18",
    "lite_30": "litehrnet_30",
    "naive_18": "naive_litehrnet_18",
    "wider_naive_18": "wider_naive_litehrnet_18",
}


@cache
def read_json(name: str) -> Any:
    return json.loads((COMMITTED / name).read_text())


def read_tensors(file: str, prefix: str) -> dict[str, Tensor]:
    """The tensors of a file whose names start with a prefix, without it."""
    for folder in (COMPLETE, COMMITTED):
        if (folder / file).exists():
            with safe_open(folder / file, "pt") as tensors:
                found = {
                    key.removeprefix(prefix): tensors.get_tensor(key)
                    for key in tensors.keys()
                    if key.startswith(prefix)
                }
            if found:
                return found
    pytest.skip(f"{prefix!r} is in the complete reference data only, which is not here")


def recipe_tensor(tag: str, key: str, shape: Iterable[int]) -> np.ndarray[Any, Any]:
    """The value that the recipe gives the parameter or buffer ``key`` under a weight tag."""
    shape = tuple(shape)
    seed = int.from_bytes(hashlib.sha256(f"{tag}|{key}".encode()).digest()[:4], "little")
    random = np.random.RandomState(seed)
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if key.endswith("running_mean"):
        value = 0.2 * random.standard_normal(shape)
    elif key.endswith("running_var"):
        value = random.uniform(0.6, 1.6, shape)
    elif len(shape) == 4:
        value = random.standard_normal(shape) * (1.0 / math.sqrt(shape[1] * shape[2] * shape[3]))
    elif key.endswith("weight"):
        value = random.uniform(0.5, 1.1, shape)
    else:
        value = 0.2 * random.standard_normal(shape)
        if "fuse_layers" in key.split("."):
            value = value - 0.2
    return value.astype(np.float32)


def load_recipe(module: nn.Module, tag: str) -> nn.Module:
    """Fills a module with the recipe's weights and turns it to float64."""
    state = {k: torch.from_numpy(recipe_tensor(tag, k, v.shape)) for k, v in module.state_dict().items()}
    module.load_state_dict(state)
    return module.double()


def recipe_input(seed: int, shape: Iterable[int]) -> Tensor:
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(tuple(shape)).astype(np.float32)).double()


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """max|actual - expected| / max|expected|, or the absolute error where all that is expected is zero."""
    assert actual.shape == expected.shape
    scale = expected.double().abs().max().item()
    return (actual.double() - expected.double()).abs().max().item() / (scale or 1.0)
