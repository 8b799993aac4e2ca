from __future__ import annotations

import torch
from op_cases import gate_weights

from litehrnet_cuda.nn.layers import concat_shuffle
from litehrnet_cuda.nn.weighting import SpatialWeighting
from litehrnet_cuda.reference.spatial_weighting import spatial_weighting


def test_equals_the_module() -> None:
    torch.manual_seed(0)
    module = SpatialWeighting(8, ratio=4).double()
    weights = gate_weights([8])
    (w1,), (b1,), (w2,), (b2,) = weights
    module.conv1.conv.weight.data, module.conv1.conv.bias.data = w1[..., None, None], b1
    module.conv2.conv.weight.data, module.conv2.conv.bias.data = w2[..., None, None], b2
    x, kept = torch.randn(2, 8, 5, 7, dtype=torch.float64), torch.randn(2, 8, 5, 7, dtype=torch.float64)
    expected = module(x)
    torch.testing.assert_close(spatial_weighting([x], [], *weights)[0], expected, rtol=1e-12, atol=1e-12)
    shuffled = concat_shuffle(kept, expected)
    torch.testing.assert_close(spatial_weighting([x], [kept], *weights)[0], shuffled, rtol=1e-12, atol=1e-12)
