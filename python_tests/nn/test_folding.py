from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from litehrnet_cuda.benchmarking.contenders import with_statistics
from litehrnet_cuda.models.registry import create_model, list_models
from litehrnet_cuda.nn.folding import BlockWeights, FoldedCache, fold_batch_norm, folded_copy
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


def _weights(value: float, dtype: torch.dtype = torch.float64) -> BlockWeights:
    pair = (torch.full((1, 1, 1, 1), value), torch.full((1,), value))
    return BlockWeights.of(pair, pair, [pair], [pair], [pair], dtype)


def test_cache_folds_once_until_something_changes() -> None:
    module, cache = _module(kernel_size=1), FoldedCache()
    calls: list[None] = []

    def fold() -> BlockWeights:
        calls.append(None)
        return _weights(len(calls))

    first = cache.get(module, fold)
    assert cache.get(module, fold) is first
    assert len(calls) == 1
    changes = [
        lambda: module.bn.running_mean.add_(1),
        lambda: setattr(module.bn, "weight", nn.Parameter(module.bn.weight.detach().clone())),
        lambda: module.float(),
        lambda: cache.mark_stale(),
    ]
    for count, change in enumerate(changes, start=2):
        with torch.no_grad():
            change()
        again = cache.get(module, fold)
        assert len(calls) == count
        # In the same tensors, which a captured CUDA graph may read.
        assert again is first
        assert {t.item() for t in again.flat()} == {count}
        assert cache.get(module, fold) is first
    assert len(calls) == 5
    for twin in (copy.deepcopy(cache), pickle.loads(pickle.dumps(cache))):
        twin.get(module, fold)
    assert len(calls) == 7


def test_cache_takes_new_tensors_where_the_old_ones_do_not_fit() -> None:
    module, cache = _module(kernel_size=1), FoldedCache()
    first = cache.get(module, lambda: _weights(1))
    cache.mark_stale()
    second = cache.get(module, lambda: _weights(2, torch.float32))
    assert {t.item() for t in first.flat()} == {1}
    assert {t.dtype for t in second.flat()} == {torch.float32}


def test_nothing_is_kept_of_inference_tensors() -> None:
    with torch.inference_mode():
        module = _module(kernel_size=1)
        cache = FoldedCache()
        assert {t.item() for t in cache.get(module, lambda: _weights(1)).flat()} == {1}
        assert {t.item() for t in cache.get(module, lambda: _weights(2)).flat()} == {2}


@pytest.mark.parametrize("name", list_models())
def test_a_folded_copy_computes_the_same_without_batch_norms(name: str) -> None:
    torch.manual_seed(0)
    network = with_statistics(create_model(name, dtype=torch.float64), torch.randn(2, 3, 64, 64, dtype=torch.float64))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    folded = folded_copy(network.train())
    assert not any(isinstance(part, nn.BatchNorm2d) for part in folded.modules())
    assert not folded.training
    assert network.training
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    images = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        expected = network.eval()(images)
        # Some hundred layers, each of which rounds otherwise in the last of 16 digits.
        torch.testing.assert_close(folded(images), expected, rtol=0, atol=1e-11 * float(expected.abs().max()))


def test_convolutions_that_are_shared_are_folded_with_their_own_norms() -> None:
    torch.manual_seed(0)
    conv, first, second = nn.Conv2d(3, 3, 1, bias=False), nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    nn.init.uniform_(second.weight, 2, 3)
    network = nn.Sequential(nn.Sequential(conv, first), nn.Sequential(conv, second), nn.BatchNorm2d(3)).double().eval()
    folded, x = folded_copy(network), torch.randn(2, 3, 4, 4, dtype=torch.float64)
    assert sum(isinstance(part, nn.BatchNorm2d) for part in folded.modules()) == 1  # the one without a convolution
    torch.testing.assert_close(folded(x), network(x), rtol=1e-12, atol=1e-12)
