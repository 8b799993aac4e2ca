"""The heads: what reaches which output, how it is upsampled, and under which names."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from litehrnet_cuda.backends import can_run_cpu, use_backend
from litehrnet_cuda.models.heads import FCNHead, HeatmapHead, IterativeHead, ResizeConcatHead
from litehrnet_cuda.nn.layers import ConvModule, DepthwiseSeparableConvModule

CHANNELS = (4, 6, 8, 10)


def branches(*sizes: tuple[int, int], batch: int = 2, channels: tuple[int, ...] = CHANNELS) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(batch, c, h, w, generator=generator, requires_grad=True)
        for c, (h, w) in zip(channels, sizes, strict=True)
    ]


CPU = pytest.param("cpu", marks=pytest.mark.skipif(not can_run_cpu().ok, reason=can_run_cpu().reason))
BACKENDS = pytest.mark.parametrize("backend", [CPU, "reference"])
SIZES = ((16, 12), (8, 6), (4, 3), (2, 2))


def sums_only(count: int) -> IterativeHead:
    """A head whose convolutions pass on what they get, which leaves upsampling and sums."""
    head = IterativeHead([1] * count)
    head.projects = nn.ModuleList(nn.Identity() for _ in range(count))
    return head


@pytest.mark.parametrize("sizes", [SIZES, ((13, 18), (7, 9), (4, 5), (2, 3)), ((1, 1),) * 4])
def test_sizes_stay_and_channels_become_those_of_the_branch_above(sizes: tuple[tuple[int, int], ...]) -> None:
    out = IterativeHead(CHANNELS)(branches(*sizes))
    assert [tuple(y.shape) for y in out] == [(2, c, *size) for c, size in zip((4, 4, 6, 8), sizes, strict=True)]


def test_every_output_depends_on_its_branch_and_those_below_alone() -> None:
    torch.manual_seed(0)
    head = IterativeHead(CHANNELS)
    x = branches(*SIZES)
    for i, y in enumerate(head(x)):
        gradients = torch.autograd.grad(y.square().sum(), x, allow_unused=True, retain_graph=True)
        reached = [gradient is not None and bool(gradient.any()) for gradient in gradients]
        assert reached == [j >= i for j in range(4)], i


def test_the_lowest_branch_is_only_projected() -> None:
    torch.manual_seed(0)
    head = IterativeHead(CHANNELS).eval()
    x = branches(*SIZES)
    torch.testing.assert_close(head(x)[3], head.projects[0](x[3]))


def test_results_add_up_on_the_way_to_the_highest_resolution() -> None:
    out = sums_only(4)([torch.full((1, 1, *size), 10.0**i) for i, size in enumerate(SIZES)])
    for y, total in zip(out, (1111, 1110, 1100, 1000), strict=True):
        assert torch.allclose(y, torch.full_like(y, total))  # float32 interpolation of a constant


def test_upsampling_aligns_the_corners() -> None:
    # A ramp stays a ramp, and its corners stay where they are, at whole and other ratios.
    for high, low in (((8, 8), (4, 4)), ((7, 9), (3, 4))):
        ramp = torch.linspace(0, 1, low[1]).expand(1, 1, *low)
        top, _ = sums_only(2)([torch.zeros(1, 1, *high), ramp])
        assert torch.allclose(top, torch.linspace(0, 1, high[1]).expand(1, 1, *high), atol=1e-6)  # float32


def test_the_projections_are_separable_convolutions_from_low_to_high_resolution() -> None:
    head = IterativeHead(CHANNELS)
    assert head.in_channels == [10, 8, 6, 4]
    assert all(isinstance(project, DepthwiseSeparableConvModule) for project in head.projects)
    shapes = {name: tuple(value.shape) for name, value in head.state_dict().items()}
    for i, (before, after) in enumerate(pairwise((10, 8, 6, 4, 4))):
        assert shapes[f"projects.{i}.depthwise_conv.conv.weight"] == (before, 1, 3, 3)
        assert shapes[f"projects.{i}.pointwise_conv.conv.weight"] == (after, before, 1, 1)


def test_the_input_is_left_alone() -> None:
    x = [branch.detach() for branch in branches(*SIZES)]
    before = [branch.clone() for branch in x]
    IterativeHead(CHANNELS)(x)
    assert len(x) == 4
    for branch, copy in zip(x, before, strict=True):
        assert torch.equal(branch, copy)


def test_a_wrong_number_of_branches_is_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        sums_only(4)(branches(*SIZES[:3], channels=(1, 1, 1)))


def test_heat_maps_are_weighted_sums_of_the_channels() -> None:
    torch.manual_seed(0)
    head = HeatmapHead(6, 17)
    assert [name for name, _ in head.named_parameters()] == ["final_layer.weight", "final_layer.bias"]
    x = torch.randn(2, 6, 5, 7)
    expected = torch.einsum("kc,nchw->nkhw", head.final_layer.weight[..., 0, 0], x)
    expected = expected + head.final_layer.bias[:, None, None]
    # Sums of six float32 products of order one.
    torch.testing.assert_close(head(x), expected, rtol=0, atol=1e-6)


def norm_of(y: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """A batch norm by its formula: with the statistics of the batch in training, else with the running ones."""
    if norm.training:
        mean, variance = y.mean((0, 2, 3)), y.var((0, 2, 3), correction=0)
    else:
        mean, variance = norm.running_mean, norm.running_var  # type: ignore[assignment]
    scale = norm.weight / (variance + norm.eps).sqrt()
    return (y - mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]


def conv_of(x: Tensor, module: ConvModule) -> Tensor:
    """A convolution as sums of products over its windows, its norm and its ReLU."""
    size = module.conv.kernel_size[0]
    windows = F.unfold(x, size, padding=size // 2)
    y = (module.conv.weight.flatten(1) @ windows).unflatten(2, x.shape[2:])
    return norm_of(y, module.bn).clamp(min=0)


def class_scores(y: Tensor, layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return torch.einsum("kc,nchw->nkhw", layer.weight[..., 0, 0], y) + layer.bias[:, None, None]


def with_learnt_norms(head: nn.Module) -> Any:
    """A head in fp64 with norms and a classifier as after some training, so that nothing in it is a one or a zero."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in head.double().state_dict().items():
        if tensor.dim() == 1:
            drawn = torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype)
            tensor.copy_(drawn + 0.5 if name.endswith(("var", "bn.weight")) else drawn - 0.5)
    return head


ROUNDING = {"rtol": 1e-11, "atol": 1e-12}  # of fp64, in sums of some hundred products of order one


@BACKENDS
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", [(5, 7), (1, 1), (8, 6)])
def test_fcn_head(backend: str, training: bool, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    head = with_learnt_norms(FCNHead(6, 4, dropout=0.0)).train(training)
    x = torch.randn(2, 6, *size, dtype=torch.float64)
    y = conv_of(conv_of(x, head.convs[0]), head.convs[1])
    expected = class_scores(conv_of(torch.cat([x, y], dim=1), head.conv_cat), head.conv_seg)
    with use_backend(backend):
        torch.testing.assert_close(head(x), expected, **ROUNDING)


@BACKENDS
@pytest.mark.parametrize("training", [True, False])
def test_resize_concat_head(backend: str, training: bool) -> None:
    torch.manual_seed(0)
    head = with_learnt_norms(ResizeConcatHead(CHANNELS, 3)).train(training)
    x = [branch.detach().double() for branch in branches((13, 18), (7, 9), (4, 5), (2, 3))]
    resized = [x[0], *(half_pixel_bilinear(branch, (13, 18)) for branch in x[1:])]
    expected = class_scores(conv_of(torch.cat(resized, dim=1), head.convs[0]), head.conv_seg)
    with use_backend(backend):
        torch.testing.assert_close(head(x), expected, **ROUNDING)


def half_pixel_bilinear(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resizing whose pixels are areas: the centre of pixel i is at i + 1/2, in both images' units."""
    for dim, length in ((2, size[0]), (3, size[1])):
        old = x.shape[dim]
        position = ((torch.arange(length, dtype=x.dtype) + 0.5) * old / length - 0.5).clamp(min=0)
        low = position.floor().long()
        high = (low + 1).clamp(max=old - 1)
        share = (position - low).view(-1, *[1] * (3 - dim))
        x = x.index_select(dim, low) * (1 - share) + x.index_select(dim, high) * share
    return x


@BACKENDS
@pytest.mark.parametrize("training", [True, False])
def test_gradients_of_segmentation_heads(backend: str, training: bool) -> None:
    torch.manual_seed(0)
    fcn = with_learnt_norms(FCNHead(2, 2, dropout=0.0)).train(training)
    concat = with_learnt_norms(ResizeConcatHead((2, 4), 2)).train(training)
    x = [torch.randn(2, c, *size, dtype=torch.float64, requires_grad=True) for c, size in ((2, (4, 3)), (4, (2, 2)))]
    with use_backend(backend):
        assert torch.autograd.gradcheck(lambda top, *_: fcn(top), (x[0], *fcn.parameters()))
        assert torch.autograd.gradcheck(lambda top, low, *_: concat([top, low]), (*x, *concat.parameters()))


def test_dropout_takes_whole_channels_away_in_training() -> None:
    torch.manual_seed(0)
    assert FCNHead(6, 4).dropout.p == 0.1
    assert ResizeConcatHead(CHANNELS, 3).dropout.p == 0
    head = FCNHead(400, 1, dropout=0.25)
    seen: list[Tensor] = []
    head.conv_seg.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.randn(1, 400, 3, 3)
    head(x)
    head.eval()(x)
    dropped, kept = (y.flatten(2).abs().amax(2) == 0 for y in seen)
    # Of 400 channels a binomial number, 100 +- 9.
    assert 60 < dropped.sum() - kept.sum() < 140


def test_classifiers_start_small_and_the_rest_keeps_the_gradients_variance() -> None:
    torch.manual_seed(0)
    head = ResizeConcatHead((100, 200), 50)
    assert head.conv_seg.bias is not None
    assert not head.conv_seg.bias.any()
    # Of 15,000 and 90,000 draws: within some percent of the deviations that the formulas give.
    assert head.conv_seg.weight.std().item() == pytest.approx(0.01, rel=0.05)
    conv = head.convs[0]
    assert isinstance(conv, ConvModule)
    assert conv.conv.weight.std().item() == pytest.approx((2 / 300) ** 0.5, rel=0.05)
