"""The heads: what reaches which output, how it is upsampled, and under which names."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from litehrnet_cuda.models.heads import HeatmapHead, IterativeHead
from litehrnet_cuda.nn.layers import DepthwiseSeparableConvModule

CHANNELS = (4, 6, 8, 10)


def branches(*sizes: tuple[int, int], batch: int = 2, channels: tuple[int, ...] = CHANNELS) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(batch, c, h, w, generator=generator, requires_grad=True)
        for c, (h, w) in zip(channels, sizes, strict=True)
    ]


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
