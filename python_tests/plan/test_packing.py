from __future__ import annotations

import pytest
import torch
from torch import nn

from litehrnet_cuda.nn.layers import ConvModule, separable_layers
from litehrnet_cuda.plan.packing import Folded, Packing, fold, fold_layers, fold_module


def randomised(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.5 if "var" in name else -1, 2)
    return module.double().eval()


@pytest.mark.parametrize("norm", [True, False])
def test_folding_changes_nothing(norm: bool) -> None:
    module = randomised(ConvModule(4, 6, 3, norm=norm, activation=None))
    x = torch.randn(1, 4, 5, 5, dtype=torch.float64)
    folded = fold_module(module)  # type: ignore[arg-type]
    torch.testing.assert_close(torch.conv2d(x, *folded, padding=1), module(x))


def test_layers_in_a_list() -> None:
    layers = randomised(nn.Sequential(*separable_layers(4, 6, 2)))
    depthwise, pointwise = fold_layers(layers)  # type: ignore[arg-type]
    x = torch.randn(1, 4, 5, 5, dtype=torch.float64)
    y = torch.conv2d(x, *depthwise, stride=2, padding=1, groups=4)
    torch.testing.assert_close(torch.conv2d(y, *pointwise).relu(), layers(x))


def test_folding_is_in_float64() -> None:
    module = ConvModule(2, 2).half()
    assert {tensor.dtype for tensor in fold(module.conv, module.bn)} == {torch.float64}


def test_rows_and_columns_in_the_order_of_planes() -> None:
    packing = Packing(torch.bfloat16)
    conv = Folded(torch.arange(6.0).view(2, 3, 1, 1), torch.tensor([10.0, 20.0]))
    matrix = packing.matrix("m", conv, [1, 0], [2, 0, 1])
    assert packing.tensors[matrix.weight].tolist() == [[5, 3, 4], [2, 0, 1]]
    assert packing.tensors[matrix.bias].tolist() == [20, 10]
    assert packing.tensors[matrix.weight].dtype == torch.bfloat16
    assert packing.tensors[matrix.bias].dtype == torch.float32
    taps = Folded(torch.arange(18.0).view(2, 1, 3, 3), torch.tensor([1.0, 2.0]))
    filter = packing.filter("f", taps, [1, 0])
    assert packing.tensors[filter.weight][:, 0, 0].tolist() == [9, 0]
    assert packing.tensors[filter.bias].tolist() == [2, 1]
