from __future__ import annotations

import torch
from torch import nn

from litehrnet_cuda.reference.batch_norm import batch_norm
from litehrnet_cuda.reference.update_running_statistics import update_running_statistics


def test_equals_what_modules_do() -> None:
    torch.manual_seed(0)
    modules = [nn.BatchNorm2d(c, momentum=0.3).double() for c in (4, 6)]
    running_mean, running_var, counts = (
        [getattr(module, name).clone() for module in modules]
        for name in ("running_mean", "running_var", "num_batches_tracked")
    )
    for _ in range(3):  # of which each begins where the last one ended
        maps = [torch.randn(2, c, 5, 4, dtype=torch.float64) for c in (4, 6)]
        parameters = [module.weight for module in modules], [module.bias for module in modules]
        statistics = [batch_norm(x, i, *parameters, [], [], True, modules[i].eps)[1] for i, x in enumerate(maps)]
        update_running_statistics(running_mean, running_var, counts, torch.cat(statistics, dim=1), 0.3)
        for module, x in zip(modules, maps, strict=True):
            module(x)
    for module, mean, variance, count in zip(modules, running_mean, running_var, counts, strict=True):
        torch.testing.assert_close(mean, module.running_mean, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(variance, module.running_var, rtol=1e-12, atol=1e-12)
        assert count == module.num_batches_tracked == 3


def test_counts_may_be_missing() -> None:
    mean, variance = torch.zeros(2), torch.ones(2)
    update_running_statistics([mean], [variance], [], torch.tensor([[1.0, 2], [3, 4], [5, 6]]), 0.5)
    torch.testing.assert_close(mean, torch.tensor([0.5, 1]))
    torch.testing.assert_close(variance, torch.tensor([3, 3.5]))
