"""The weightings by themselves on fused ops; test_blocks.py compares them with the official code in plain PyTorch."""

from __future__ import annotations

import copy
from typing import Any

import emulated_ops
import pytest
import torch
from module_cases import CASES, assert_matches_official
from torch import Tensor
from training_cases import assert_gradcheck

from litehrnet_cuda.backends import use_backend
from litehrnet_cuda.nn.weighting import (
    CrossResolutionWeighting,
    SpatialWeighting,
    gate_matrices,
    weighting_matrices,
)


@pytest.fixture(autouse=True)
def emulator() -> Any:
    library = emulated_ops.load()
    library.configure(seed=0)
    library.reset()
    yield library
    assert library.errors() == []


KINDS = ("SpatialWeighting", "CrossResolutionWeighting")


@pytest.mark.parametrize("case", [c for c in CASES if c["kind"] in KINDS], ids=lambda case: case["name"])
def test_fused_module_matches_official(case: dict[str, Any], emulator: Any) -> None:
    with use_backend("emulated"):
        assert_matches_official(case)
    # Evaluation and a training step, forward and backward.
    assert len(emulator.launches()) == (1 + 1 + 4 if case["kind"] == "SpatialWeighting" else 3 + 3 + 1 + 4)


def maps() -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, 4, 9, 6, dtype=torch.float64), torch.randn(2, 6, 5, 3, dtype=torch.float64)]


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_gradcheck(mode: str) -> None:
    weighting, gate = CrossResolutionWeighting([4, 6], ratio=2).double(), SpatialWeighting(4, ratio=2).double()
    getattr(weighting, mode)()
    with use_backend("emulated"):
        assert_gradcheck(lambda x: weighting(x), [maps()], 1)
        assert_gradcheck(lambda x: [gate(x)], maps()[:1], 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_modules_follow_their_dtype(dtype: torch.dtype) -> None:
    weighting, gate = CrossResolutionWeighting([4, 6], ratio=2).to(dtype), SpatialWeighting(4, ratio=2).to(dtype)
    plain = copy.deepcopy(weighting), copy.deepcopy(gate)
    x = [s.to(dtype) for s in maps()]
    with use_backend("emulated"):
        ours = [*weighting(x), gate(x[0])]
    theirs = [*plain[0](x), plain[1](x[0])]
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == dtype
        torch.testing.assert_close(a, b, rtol=4 * torch.finfo(dtype).eps, atol=8 * torch.finfo(dtype).eps)


def test_matrices() -> None:
    gate, weighting = SpatialWeighting(8, ratio=4), CrossResolutionWeighting([4, 8], ratio=4)
    assert [tuple(m.shape) for m in gate_matrices(gate, torch.float64)] == [(2, 8), (2,), (8, 2), (8,)]
    assert [tuple(m.shape) for m in weighting_matrices(weighting, torch.float64)] == [(3, 12), (12, 3)]
