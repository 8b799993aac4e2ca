from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from litehrnet_cuda.nn.weighting import CrossResolutionWeighting
from litehrnet_cuda.reference.cross_resolution_weighting_batch_norm import cross_resolution_weighting_batch_norm

CHANNELS = [4, 6, 8]


def module_and_arguments() -> tuple[CrossResolutionWeighting, Sequence[Tensor], list[object]]:
    """The plain module, maps, and the same parameters as the function takes them."""
    torch.manual_seed(0)
    module = CrossResolutionWeighting(CHANNELS, ratio=4).double()
    convolutions = (module.conv1, module.conv2)
    for conv in convolutions:
        torch.nn.init.uniform_(conv.bn.weight, 0.5, 1.5)
        torch.nn.init.normal_(conv.bn.bias, std=0.3)
        torch.nn.init.uniform_(conv.bn.running_var, 0.5, 1.5)
        torch.nn.init.normal_(conv.bn.running_mean, std=0.3)
    x = [
        torch.randn(3, c, *size, dtype=torch.float64)
        for c, size in zip(CHANNELS, [(13, 9), (7, 5), (3, 4)], strict=True)
    ]
    matrices = [conv.conv.weight[..., 0, 0] for conv in convolutions]
    names = ("weight", "bias", "running_mean", "running_var")
    norms = [[getattr(conv.bn, name).clone() for conv in convolutions] for name in names]
    return module, x, [*matrices, *norms]


@pytest.mark.parametrize("training", [True, False], ids=["batch", "frozen"])
def test_equals_the_module(training: bool) -> None:
    module, x, args = module_and_arguments()
    y, statistics = cross_resolution_weighting_batch_norm(x, *args, training, module.conv1.bn.eps)  # type: ignore[arg-type]
    for a, b in zip(y, module.train(training)(x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert not statistics.requires_grad
    if not training:
        assert statistics.shape == (3, 0)
        return
    mean, _, unbiased = statistics.split([4, 18], dim=1)[0]
    bn = module.conv1.bn
    old_mean, old_var = args[4][0], args[5][0]  # type: ignore[index]
    torch.testing.assert_close(bn.running_mean, (1 - bn.momentum) * old_mean + bn.momentum * mean)
    torch.testing.assert_close(bn.running_var, (1 - bn.momentum) * old_var + bn.momentum * unbiased)


def test_biased_and_unbiased_variance() -> None:
    _, x, args = module_and_arguments()
    _, (_, biased, unbiased) = cross_resolution_weighting_batch_norm(x, *args)  # type: ignore[arg-type]
    values = 3 * 3 * 4
    torch.testing.assert_close(unbiased, biased * values / (values - 1))
