"""The references of the ops against the modules, which are equal to the official code."""

from __future__ import annotations

import torch
from torch import nn

from litehrnet_cuda.nn.blocks import ConditionalChannelWeighting
from litehrnet_cuda.reference.conditional_channel_weighting import conditional_channel_weighting


def test_equals_the_module_with_folded_batch_norms() -> None:
    torch.manual_seed(0)
    block = ConditionalChannelWeighting([8, 16, 32]).double()
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean):
                nn.init.normal_(tensor)
            nn.init.uniform_(module.running_var, 0.5, 2)
        elif isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight)
            if module.bias is not None:
                nn.init.normal_(module.bias)
    block.eval()
    x = [torch.randn(2, c, *size, dtype=torch.float64) for c, size in [(8, (13, 9)), (16, (7, 5)), (32, (4, 3))]]
    with torch.no_grad():
        for a, b in zip(conditional_channel_weighting(x, *block.folded(torch.float64)), block(list(x)), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
