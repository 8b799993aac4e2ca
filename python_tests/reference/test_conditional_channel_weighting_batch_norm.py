from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from litehrnet_cuda.nn.blocks import ConditionalChannelWeighting
from litehrnet_cuda.reference.conditional_channel_weighting_batch_norm import conditional_channel_weighting_batch_norm

SIZES = [(8, (13, 9)), (16, (7, 5)), (32, (4, 3))]


def block_and_arguments() -> tuple[ConditionalChannelWeighting, list[Tensor], list[Any]]:
    """The plain module, maps, and the same parameters as the function takes them."""
    torch.manual_seed(0)
    block = ConditionalChannelWeighting([c for c, _ in SIZES]).double()
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean):
                nn.init.normal_(tensor)
            nn.init.uniform_(module.running_var, 0.5, 2)
        elif isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.normal_(module.bias)
    weighting, filters, gates = block.cross_resolution_weighting, block.depthwise_convs, block.spatial_weighting
    norms = [part.bn for part in (weighting.conv1, weighting.conv2, *filters)]
    arguments = [
        *(part.conv.weight[..., 0, 0] for part in (weighting.conv1, weighting.conv2)),
        [part.conv.weight[:, 0] for part in filters],
        [gate.conv1.conv.weight[..., 0, 0] for gate in gates],
        [gate.conv1.conv.bias for gate in gates],
        [gate.conv2.conv.weight[..., 0, 0] for gate in gates],
        [gate.conv2.conv.bias for gate in gates],
        *(
            [getattr(norm, name).clone() for norm in norms]
            for name in ("weight", "bias", "running_mean", "running_var")
        ),
    ]
    return block, [torch.randn(2, c, *size, dtype=torch.float64) for c, size in SIZES], arguments


@pytest.mark.parametrize("training", [True, False], ids=["batch", "frozen"])
def test_equals_the_module(training: bool) -> None:
    block, x, arguments = block_and_arguments()
    norms = [module for module in block.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0  # running statistics are those of the batch
    y, statistics = conditional_channel_weighting_batch_norm(x, *arguments, training, norms[0].eps)
    for a, b in zip(y, block.train(training)(x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    if not training:
        assert statistics.shape == (3, 0)
        return
    means, variances = (torch.cat([getattr(norm, name) for norm in norms]) for name in ("running_mean", "running_var"))
    torch.testing.assert_close(statistics[0], means, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(statistics[2], variances, rtol=1e-12, atol=1e-12)
    assert bool((statistics[1] < statistics[2]).all())
