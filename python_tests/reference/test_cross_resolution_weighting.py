from __future__ import annotations

import torch
import torch.nn.functional as F
from op_cases import cross_resolution_weights

from litehrnet_cuda.nn.weighting import CrossResolutionWeighting
from litehrnet_cuda.reference.cross_resolution_weighting import cross_resolution_weighting


def test_equals_the_module_without_batch_norm() -> None:
    torch.manual_seed(0)
    channels = [4, 6, 8]
    module = CrossResolutionWeighting(channels, ratio=4).double().eval()
    w1, b1, w2, b2 = cross_resolution_weights(channels, hidden=4)
    for conv, weight, bias in ((module.conv1, w1, b1), (module.conv2, w2, b2)):
        torch.nn.init.constant_(conv.bn.running_var, 1 - conv.bn.eps)
        conv.conv.weight.data = weight[..., None, None]
        conv.bn.bias.data = bias
    x = [
        torch.randn(2, c, *size, dtype=torch.float64)
        for c, size in zip(channels, [(13, 9), (7, 5), (3, 4)], strict=True)
    ]
    for a, b in zip(cross_resolution_weighting(x, w1, b1, w2, b2), module(x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_a_gate_of_one_half_halves() -> None:
    x = [torch.randn(1, 2, 4, 4), torch.randn(1, 3, 2, 2)]
    zero = (torch.zeros(2, 5), torch.zeros(2), torch.zeros(5, 2), torch.zeros(5))
    for a, b in zip(cross_resolution_weighting(x, *zero), x, strict=True):
        torch.testing.assert_close(a, b / 2)
        assert F.mse_loss(a, b) > 0
