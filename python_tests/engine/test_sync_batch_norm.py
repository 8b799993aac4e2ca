"""Batch norm over several processes, without them and with two."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from processes import run_processes
from torch import nn

from litehrnet_cuda.engine.sync_batch_norm import CpuSyncBatchNorm2d, synchronize_batch_norm
from litehrnet_cuda.models.registry import create_model
from litehrnet_cuda.nn.norms import NormGroup

TWO = """
import sys, torch
from torch import nn
from litehrnet_cuda.engine.distributed import connected
from litehrnet_cuda.engine.sync_batch_norm import synchronize_batch_norm
x, cotangent, state = torch.load(sys.argv[1], weights_only=True)
with connected(torch.device("cpu")) as processes:
    part = slice(3 * processes.rank, 3 * processes.rank + 3)
    model = nn.Sequential(nn.BatchNorm2d(5, momentum=None if sys.argv[3] == "cumulative" else 0.1)).double()
    model.load_state_dict(state)
    synchronize_batch_norm(model)
    x = x[part].requires_grad_()
    for _ in range(2):
        y = model(x)
    y.backward(cotangent[part])
    torch.save((y.detach(), x.grad, model[0].weight.grad, model[0].bias.grad, model.state_dict()),
               sys.argv[2] + str(processes.rank))
"""


@pytest.mark.parametrize("momentum", ["moving", "cumulative"])
def test_two_processes_normalise_by_the_batch_of_both(tmp_path: Path, momentum: str) -> None:
    torch.manual_seed(0)
    x = (torch.randn(6, 5, 4, 3, dtype=torch.float64) * 3 + 100).requires_grad_()
    cotangent = torch.randn(6, 5, 4, 3, dtype=torch.float64)
    plain = nn.Sequential(nn.BatchNorm2d(5, momentum=None if momentum == "cumulative" else 0.1)).double()
    with torch.no_grad():
        plain[0].weight.uniform_(0.5, 2)
    torch.save((x.detach(), cotangent, plain.state_dict()), tmp_path / "input.pt")
    run_processes(2, "-c", TWO, str(tmp_path / "input.pt"), str(tmp_path / "out"), momentum)
    for _ in range(2):
        y = plain(x)
    y.backward(cotangent)
    assert x.grad is not None
    ranks = [torch.load(tmp_path / f"out{rank}", weights_only=True) for rank in (0, 1)]
    # Float64; a mean of 100 with a deviation of 3 costs a few digits.
    close = {"rtol": 1e-10, "atol": 1e-10}
    for index, expected in ((0, y.detach()), (1, x.grad)):
        torch.testing.assert_close(torch.cat([rank[index] for rank in ranks]), expected, **close)
    for index, expected in ((2, plain[0].weight.grad), (3, plain[0].bias.grad)):
        torch.testing.assert_close(ranks[0][index] + ranks[1][index], expected, **close)
    for rank in ranks:
        for name, value in plain.state_dict().items():
            torch.testing.assert_close(rank[4][name], value, **close)


def test_parameters_keep_names_and_identity_and_blocks_see_no_plain_norms() -> None:
    model = create_model("litehrnet_18")
    before = dict(model.named_parameters())
    buffers = dict(model.named_buffers())
    synchronize_batch_norm(model)
    assert {name: id(value) for name, value in model.named_parameters()} == {n: id(v) for n, v in before.items()}
    assert {name: id(value) for name, value in model.named_buffers()} == {n: id(v) for n, v in buffers.items()}
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert {type(norm) for norm in norms} == {CpuSyncBatchNorm2d}
    assert NormGroup.of(norms[:1]) is None


def test_in_evaluation_it_is_a_plain_one() -> None:
    plain = nn.BatchNorm2d(3).eval()
    model = nn.Sequential(nn.BatchNorm2d(3)).eval()
    synchronize_batch_norm(model)
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(model(x), plain(x))
