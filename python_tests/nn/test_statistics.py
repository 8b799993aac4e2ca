from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from litehrnet_cuda.nn.statistics import kept_statistics, repeated_statistics


def test_repeated_equals_repeating() -> None:
    torch.manual_seed(0)
    once = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).double()
    twice = copy.deepcopy(once)
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    with repeated_statistics(once, 2):
        once(x)
    twice(x)
    twice(x)
    torch.testing.assert_close(once[1].running_mean, twice[1].running_mean)
    torch.testing.assert_close(once[1].running_var, twice[1].running_var)
    assert once[1].num_batches_tracked == twice[1].num_batches_tracked == 2
    assert once[1].momentum == 0.1


def test_repeated_leaves_evaluation_and_frozen_norms_alone() -> None:
    norm = nn.BatchNorm2d(4).eval()
    with repeated_statistics(norm, 2):
        norm(torch.randn(2, 4, 3, 3))
    assert norm.num_batches_tracked == 0
    assert torch.equal(norm.running_mean, torch.zeros(4))


def test_repeated_refuses_cumulative_average() -> None:
    with pytest.raises(ValueError, match="momentum=None"), repeated_statistics(nn.BatchNorm2d(4, momentum=None), 2):
        pass


def test_kept_restores_after_an_error() -> None:
    norm = nn.BatchNorm2d(4)
    x = torch.randn(2, 4, 3, 3)

    def stop(_module: nn.Module, _inputs: object, _output: object) -> None:
        raise RuntimeError("stop")

    hook = norm.register_forward_hook(stop)
    with pytest.raises(RuntimeError, match="stop"), kept_statistics(norm):
        norm(x)
    hook.remove()
    assert norm.num_batches_tracked == 0
    assert torch.equal(norm.running_mean, torch.zeros(4))
    norm(x)
    assert norm.num_batches_tracked == 1
    assert not torch.equal(norm.running_mean, torch.zeros(4))
