from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from litehrnet_cuda.nn.layers import ConvModule, concat_shuffle, pool_to_size


@pytest.mark.parametrize("channels", [(4, 4), (2, 4), (5, 3)])
def test_concat_shuffle_is_the_shuffle_of_the_concatenation(channels: tuple[int, int]) -> None:
    x1, x2 = (torch.randn(2, c, 3, 5) for c in channels)
    joined = torch.cat((x1, x2), dim=1)
    shuffled = joined.view(2, 2, sum(channels) // 2, 3, 5).transpose(1, 2).reshape(2, -1, 3, 5)
    assert torch.equal(concat_shuffle(x1, x2), shuffled)


@pytest.mark.parametrize("size", [(4, 3), (8, 6), (5, 4), (3, 5), (1, 1)])
def test_pool_to_size_is_adaptive_average(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, 8, 6, dtype=torch.float64)
    torch.testing.assert_close(pool_to_size(x, size), F.adaptive_avg_pool2d(x, size))


def test_conv_module_has_a_bias_only_without_norm() -> None:
    assert list(ConvModule(2, 4).state_dict())[:2] == ["conv.weight", "bn.weight"]
    assert list(ConvModule(2, 4, norm=False).state_dict()) == ["conv.weight", "conv.bias"]
