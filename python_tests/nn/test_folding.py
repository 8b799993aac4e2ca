from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from litehrnet_cuda.nn.folding import FoldedCache, fold_batch_norm
from litehrnet_cuda.nn.layers import ConvModule


def _module(**options: object) -> ConvModule:
    torch.manual_seed(0)
    module = ConvModule(4, 4, activation=None, **options).double().eval()
    if module.with_norm:
        for tensor in (module.bn.weight, module.bn.bias, module.bn.running_mean):
            nn.init.normal_(tensor)
        nn.init.uniform_(module.bn.running_var, 0.1, 3)
    return module


@pytest.mark.parametrize(
    "options", [{"kernel_size": 1}, {"kernel_size": 3, "groups": 4}, {"kernel_size": 1, "norm": False}]
)
def test_folded_convolution_equals_convolution_and_norm(options: dict[str, object]) -> None:
    module = _module(**options)
    weight, bias = fold_batch_norm(module)
    x = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    folded = nn.functional.conv2d(x, weight, bias, padding=module.conv.padding, groups=module.conv.groups)
    torch.testing.assert_close(folded, module(x), rtol=1e-12, atol=1e-12)


def test_half_precision_is_folded_in_single() -> None:
    module = _module(kernel_size=1).half()
    weight, bias = fold_batch_norm(module)
    exact, exact_bias = fold_batch_norm(copy.deepcopy(module).double())
    assert weight.dtype == bias.dtype == torch.float16
    assert torch.equal(weight, exact.half())
    assert torch.equal(bias, exact_bias.half())


def test_cache_folds_once_until_something_changes() -> None:
    module, cache = _module(kernel_size=1), FoldedCache[object]()
    calls = []

    def fold() -> object:
        calls.append(None)
        return len(calls)

    assert cache.get(module, fold) == cache.get(module, fold) == 1
    with torch.no_grad():
        module.bn.running_mean.add_(1)
    assert cache.get(module, fold) == 2
    module.bn.weight = nn.Parameter(module.bn.weight.detach().clone())
    assert cache.get(module, fold) == 3
    module.float()
    assert cache.get(module, fold) == cache.get(module, fold) == 4
    for twin in (copy.deepcopy(cache), pickle.loads(pickle.dumps(cache))):
        assert twin.get(module, fold) == len(calls)
    assert len(calls) == 6
