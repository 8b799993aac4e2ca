from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from litehrnet_cuda.nn.norms import NormGroup


class Louder(nn.BatchNorm2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


class Renamed(nn.BatchNorm2d):
    pass


def norms(**options: Any) -> list[nn.BatchNorm2d]:
    return [nn.BatchNorm2d(c, **options) for c in (3, 5)]


def test_group_of_plain_norms() -> None:
    group = NormGroup.of([*norms(momentum=0.2, eps=1e-3), Renamed(4, momentum=0.2, eps=1e-3)])
    assert group is not None
    assert (group.training, group.eps) == (True, 1e-3)
    weights, biases, means, variances = group.parameters(torch.float64)
    assert [len(w) for w in weights] == [3, 5, 4]
    assert {t.dtype for t in (*weights, *biases)} == {torch.float64}
    assert means == variances == []


def test_evaluation_reads_running_statistics_and_moves_nothing() -> None:
    group = NormGroup.of([norm.eval() for norm in norms()])
    assert group is not None
    assert not group.training
    assert [len(m) for m in group.parameters(torch.float32)[2]] == [3, 5]
    group.update(torch.zeros(3, 0))


def test_norms_without_running_statistics_always_take_the_batchs() -> None:
    for mode in (True, False):
        group = NormGroup.of([norm.train(mode) for norm in norms(track_running_stats=False)])
        assert group is not None
        assert group.training


@pytest.mark.parametrize(
    "others",
    [
        [nn.SyncBatchNorm(4)],
        [nn.GroupNorm(2, 4)],
        [Louder(4)],
        [nn.BatchNorm2d(4, affine=False)],
        [nn.BatchNorm2d(4, eps=1e-3)],
        [nn.BatchNorm2d(4).eval()],
    ],
    ids=["sync", "group", "subclass", "affine", "eps", "frozen"],
)
def test_other_norms_are_no_group(others: list[nn.Module]) -> None:
    assert NormGroup.of([*norms(), *others]) is None


def test_synchronised_norms_are_plain_ones_in_evaluation() -> None:
    group = NormGroup.of([norm.eval() for norm in (nn.SyncBatchNorm(4), nn.BatchNorm2d(3))])
    assert group is not None
    assert not group.training


def test_a_norm_that_appears_twice_is_no_group() -> None:
    norm = nn.BatchNorm2d(4)
    assert NormGroup.of([norm, norm]) is None


def test_momenta_and_counts_may_differ() -> None:
    assert NormGroup.of([*norms(momentum=None), *norms(momentum=0.3), *norms(track_running_stats=False)]) is not None
