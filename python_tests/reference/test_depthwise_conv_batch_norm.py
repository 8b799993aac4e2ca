from __future__ import annotations

import pytest
import torch
from torch import nn
from training_cases import depthwise_arguments

from litehrnet_cuda.reference.depthwise_conv_batch_norm import depthwise_conv_batch_norm


@pytest.mark.parametrize("training", [True, False], ids=["batch", "frozen"])
def test_equals_the_modules(training: bool) -> None:
    torch.manual_seed(0)
    args = depthwise_arguments([(7, 5), (4, 3)], [4, 6], 3)
    y, statistics = depthwise_conv_batch_norm(*args, training=training)
    column = 0
    for result, x, w, weight, bias, mean, variance in zip(y, *args, strict=True):
        channels = x.shape[1]
        conv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False).double()
        norm = nn.BatchNorm2d(channels, momentum=1.0).double().train(training)
        conv.weight.data = w[:, None]
        norm.weight.data, norm.bias.data = weight, bias
        norm.running_mean, norm.running_var = mean.clone(), variance.clone()
        torch.testing.assert_close(result, norm(conv(x)), rtol=1e-12, atol=1e-12)
        if training:  # with a momentum of one, running statistics are those of the batch
            own = statistics[:, column : column + channels]
            torch.testing.assert_close(own[0], norm.running_mean, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(own[2], norm.running_var, rtol=1e-12, atol=1e-12)
            count = x.numel() / channels
            torch.testing.assert_close(own[1] * count, own[2] * (count - 1), rtol=1e-12, atol=1e-12)
            column += channels
    assert statistics.shape == (3, column)
