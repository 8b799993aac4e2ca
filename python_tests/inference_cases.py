"""A small network and its images, for tests of networks that are optimised."""

from __future__ import annotations

import copy
from typing import Any

import torch
from official_reference import relative_error
from plan_cases import pose_network
from torch import Tensor, nn

from litehrnet_cuda.backends import use_backend
from litehrnet_cuda.models.litehrnet import PoseNetwork, Variant

# Of max|output|: eager fp32 is within 1.2e-6 of fp64, and plan/test_reference.py says what may be added to that.
TOLERANCE = {torch.float32: 6e-6, torch.float64: 1e-14, torch.float16: 1e-2}
SMALL = Variant("small", (1, 1), (8, 16, 32))


def small(seed: int = 0, dtype: torch.dtype = torch.float32) -> PoseNetwork:
    """Batch norms as random as weights, in training mode."""
    model = copy.deepcopy(pose_network(SMALL)).to(dtype).train()
    with torch.no_grad():
        model.keypoint_head.final_layer.weight.mul_(1 + seed)
    return model


def images(batch: int = 2, size: tuple[int, int] = (33, 50), seed: int = 0) -> Tensor:
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(seed))


def truth(model: nn.Module, x: Tensor) -> Any:
    """What a model returns in evaluation mode, in fp64 and plain PyTorch."""
    with torch.no_grad(), use_backend("reference"):
        return copy.deepcopy(model).double().eval()(x.double())


def assert_right(found: Tensor, model: nn.Module, x: Tensor, dtype: torch.dtype = torch.float32) -> None:
    assert found.dtype == dtype
    assert relative_error(found, truth(model, x.to(dtype))) < TOLERANCE[dtype]
