"""Networks for segmentation, optimised: the backbone as a plan and the head after it give what the network gives."""

from __future__ import annotations

import copy
import pickle
from functools import cache
from typing import Any

import official_modules as official
import pytest
import torch
from inference_cases import SMALL, TOLERANCE, assert_right, images
from official_reference import load_recipe, relative_error
from plain_executor import Executor
from torch import Tensor, nn

from litehrnet_cuda import create_model, optimize_for_inference, use_fused_modules
from litehrnet_cuda.backends import can_run_cpu, use_backend
from litehrnet_cuda.inference import Execution, LiveNetwork
from litehrnet_cuda.models.heads import FCNHead
from litehrnet_cuda.models.litehrnet import Variant
from litehrnet_cuda.models.segmentation import SegmentationNetwork

THREE_STAGES = Variant("three_stages", (1, 2, 1), (8, 16, 32, 64))
KINDS = [("fcn", True), ("fcn", False), ("resize_concat", True), ("resize_concat", False)]
# Sizes that divide by 32 and ones that do not; 33x97 leaves a lowest resolution of 2x4.
SIZES = [(64, 96), (50, 71), (33, 97)]
needs_cpu = pytest.mark.skipif(not can_run_cpu().ok, reason=can_run_cpu().reason)


@cache
def network(name: Any, head: Any, with_head: bool) -> SegmentationNetwork:
    """In evaluation mode, in fp64, with weights of which all matter; the tests share it, and none changes it."""
    model = create_model(name, "segmentation", num_outputs=5, head=head, with_head=with_head)
    return load_recipe(model, "w0").eval()  # type: ignore[return-value]


@needs_cpu
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("head", "with_head"), KINDS)
@pytest.mark.parametrize("name", ["litehrnet_18", "naive_litehrnet_18"])
def test_cpu_kernels(name: str, head: str, with_head: bool, size: tuple[int, int]) -> None:
    model = network(name, head, with_head)
    fast = optimize_for_inference(model, dtype=torch.float32)
    x = images(2, size)
    with use_backend("cpu"):
        assert fast.backend_for(x) == Execution("cpu", True)
        assert_right(fast(x), model, x)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("head", "with_head"), KINDS)
def test_the_definition_of_plans(
    head: str, with_head: bool, size: tuple[int, int], dtype: torch.dtype, plain: Executor
) -> None:
    model = network(SMALL, head, with_head)
    fast = optimize_for_inference(model, dtype=dtype)
    x = images(2, size)
    assert_right(fast(x), model, x.to(dtype), dtype)
    assert plain.batches == [1, 2]  # the first one to try


def test_without_kernels_the_network_itself_is_run() -> None:
    model = network(SMALL, "fcn", True)
    fast = optimize_for_inference(model, dtype=torch.float32)
    with use_backend("reference"):
        assert not fast.backend_for(images()).is_planned
        assert_right(fast(images()), model, images())


def change_head(model: SegmentationNetwork) -> None:
    model.decode_head.conv_seg = nn.Conv2d(8, 5, 3, padding=1).double()


def hook_head(model: SegmentationNetwork) -> None:
    model.decode_head.register_forward_hook(lambda _module, _inputs, output: output + 1)


def replace_convolution(model: SegmentationNetwork) -> None:
    model.decode_head.convs[0].activate = nn.Hardswish()


@pytest.mark.parametrize("change", [change_head, hook_head, replace_convolution])
def test_a_head_that_somebody_changed_is_run_as_it_is(change: Any, plain: Executor) -> None:
    model = copy.deepcopy(network(SMALL, "fcn", True))
    change(model)
    fast = optimize_for_inference(model, dtype=torch.float32)
    how = fast.backend_for(images())
    assert not how.is_planned
    assert "decode_head" in how.reason
    assert_right(fast(images()), model, images())
    assert plain.made == []


def test_live_networks_see_that_their_head_is_trained(plain: Executor) -> None:
    model = copy.deepcopy(network(SMALL, "resize_concat", True)).float()
    live, x = LiveNetwork(model), images()
    before = live(x)
    with torch.no_grad():
        model.decode_head.conv_seg.weight.mul_(2)
    after = live(x)
    assert not torch.equal(after, before)
    assert_right(after, model, x)


def test_a_copy_through_pickle_computes_the_same(plain: Executor) -> None:
    fast = optimize_for_inference(network(SMALL, "fcn", True), dtype=torch.float32)
    x = images()
    assert torch.equal(pickle.loads(pickle.dumps(fast))(x), fast(x))


class Twice:
    """What may be run around it."""

    def __call__(self, network: Any, x: Tensor) -> list[Tensor]:
        return [network(x)[0], network(x.flip(-1))[0]]


def test_what_is_run_around_it(plain: Executor) -> None:
    fast = optimize_for_inference(network(SMALL, "resize_concat", False), dtype=torch.float32)
    x = images()
    found, mirrored = fast(x, Twice())
    assert torch.equal(found, fast(x))
    assert torch.equal(mirrored, fast(x.flip(-1)))


class EncoderDecoder(nn.Module):
    """Backbone and head under mmsegmentation's names, the backbone of the official classes."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = official.LiteHRNet(THREE_STAGES)
        self.decode_head = FCNHead(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.decode_head(self.backbone(x))
        return logits


@needs_cpu
@pytest.mark.parametrize("training", [False, True])
def test_modules_of_another_projects_network_can_be_swapped(training: bool) -> None:
    theirs = load_recipe(EncoderDecoder(), "w0").train(training)
    theirs.decode_head.dropout.p = 0.0  # type: ignore[union-attr]
    swapped = use_fused_modules(copy.deepcopy(theirs))
    own = create_model(THREE_STAGES, "segmentation", num_outputs=5, dtype=torch.float64).train(training)
    own.decode_head.dropout.p = 0.0
    own.load_state_dict(theirs.state_dict())
    x = images(3, (64, 96)).double()
    expected = theirs(x)
    with use_backend("cpu"):
        # Both sides are fp64; batch statistics of few values amplify roundings, as in nn/test_replacement.py.
        assert relative_error(swapped(x), expected) < 1e-12
        assert relative_error(own(x), expected) < 1e-12
    for name, buffer in theirs.named_buffers():
        torch.testing.assert_close(swapped.get_buffer(name), buffer, rtol=1e-9, atol=1e-12)
