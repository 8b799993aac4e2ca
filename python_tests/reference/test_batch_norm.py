from __future__ import annotations

import pytest
import torch
from torch import nn

from litehrnet_cuda.reference.batch_norm import batch_norm


@pytest.mark.parametrize("training", [True, False], ids=["batch", "frozen"])
def test_equals_the_module(training: bool) -> None:
    torch.manual_seed(0)
    modules = [nn.BatchNorm2d(c, momentum=1.0).double().train(training) for c in (4, 6)]
    for module in modules:
        nn.init.normal_(module.weight)
        nn.init.normal_(module.bias)
        nn.init.normal_(module.running_mean)
        nn.init.uniform_(module.running_var, 0.5, 2)
    names = ("weight", "bias", "running_mean", "running_var")
    lists = [[getattr(module, name).clone() for module in modules] for name in names]
    x = torch.randn(3, 6, 5, 4, dtype=torch.float64)
    y, statistics = batch_norm(x, 1, *lists, training, modules[1].eps)
    torch.testing.assert_close(y, modules[1](x), rtol=1e-12, atol=1e-12)
    assert not statistics.requires_grad
    if not training:
        assert statistics.shape == (3, 0)
        return
    # With a momentum of one, running statistics are those of the batch.
    torch.testing.assert_close(statistics[0], modules[1].running_mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(statistics[2], modules[1].running_var, rtol=1e-12, atol=1e-12)
    values = 3 * 5 * 4
    torch.testing.assert_close(statistics[1] * values, statistics[2] * (values - 1), rtol=1e-12, atol=1e-12)


def test_statistics_have_the_parameters_dtype() -> None:
    x = torch.randn(2, 4, 3, 3).half()
    y, statistics = batch_norm(x, 0, [torch.ones(4)], [torch.zeros(4)], [], [], True, 1e-5)
    assert y.dtype == torch.float16
    assert statistics.dtype == torch.float32
