from __future__ import annotations

import pytest
import torch
from torch import nn
from training_cases import norm_parameters

from litehrnet_cuda.reference.separable_conv_batch_norm import separable_conv_batch_norm


@pytest.mark.parametrize("training", [True, False], ids=["batch", "frozen"])
@pytest.mark.parametrize(("stride", "relu"), [(1, True), (2, False)])
def test_equals_the_modules(stride: int, relu: bool, training: bool) -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(4, 4, 3, stride=stride, padding=1, groups=4, bias=False),
        nn.BatchNorm2d(4, momentum=1.0),
        nn.Conv2d(4, 6, 1, bias=False),
        nn.BatchNorm2d(6, momentum=1.0),
    ).double()
    norms = norm_parameters([4, 6])
    for layer, weight, bias, mean, variance in zip(layers[1::2], *norms, strict=True):
        layer.weight.data, layer.bias.data = weight, bias
        layer.running_mean, layer.running_var = mean.clone(), variance.clone()
    layers.train(training)
    x = torch.randn(3, 4, 7, 5, dtype=torch.float64)
    weights = [layers[0].weight.squeeze(1)], [layers[2].weight.flatten(1)]
    y, statistics = separable_conv_batch_norm(x, *weights, *norms, stride, relu, training)
    expected = layers(x)
    torch.testing.assert_close(y, expected.relu() if relu else expected, rtol=1e-12, atol=1e-12)
    if training:  # with a momentum of one, running statistics are those of the batch
        for row, name in ((0, "running_mean"), (2, "running_var")):
            own = torch.cat([getattr(layer, name) for layer in layers[1::2]])
            torch.testing.assert_close(statistics[row], own, rtol=1e-12, atol=1e-12)


def test_one_convolution_or_none() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(3, 4, 7, 5), torch.randn(6, 4)
    y, _ = separable_conv_batch_norm(x, [], [weight], [torch.ones(6)], [torch.zeros(6)])
    mixed = torch.einsum("kc,nchw->nkhw", weight, x)
    torch.testing.assert_close(y, nn.functional.batch_norm(mixed, None, None, training=True), rtol=1e-5, atol=1e-5)
    y, _ = separable_conv_batch_norm(x, [], [], [torch.ones(4)], [torch.zeros(4)])
    torch.testing.assert_close(y, nn.functional.batch_norm(x, None, None, training=True))
