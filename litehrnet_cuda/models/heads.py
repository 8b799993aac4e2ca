"""What turns the backbone's branches into an answer.

Source: ``IterativeHead`` in ``models/backbones/litehrnet.py`` of the official repository; the heat-map
head is mmpose's ``TopDownSimpleHead`` without deconvolutions. The heads for segmentation are the two settings of
mmsegmentation's ``FCNHead`` with which Lite-HRNet was published for segmentation
(``configs/_base_/models/fcn_litehr18-with-head.py`` and ``fcn-resize-concat_litehr18-with-head.py`` of
Junjun2016/LiteHRNet), under its parameter names.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from litehrnet_cuda.nn.layers import ConvModule, DepthwiseSeparableConvModule
from litehrnet_cuda.nn.separable import run_layers


class IterativeHead(nn.Module):
    """Carries the low resolutions up: add the upsampled result of the branch below, then a separable convolution.

    Args:
        in_channels: channels of each branch, from high to low resolution. The result of a branch has the channels of
            the next higher one; the highest keeps its own.

    Shape:
        a list of ``[N, in_channels[i], H_i, W_i]`` to a list of the same sizes with
        ``in_channels[max(i - 1, 0)]`` channels.
    """

    def __init__(self, in_channels: Sequence[int]) -> None:
        super().__init__()
        upward = list(in_channels)[::-1]
        self.in_channels = upward
        self.projects = nn.ModuleList(
            DepthwiseSeparableConvModule(channels, target)
            for channels, target in zip(upward, [*upward[1:], upward[-1]], strict=True)
        )

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        results: list[Tensor] = []
        for branch, project in zip(reversed(x), self.projects, strict=True):
            if results:
                size = branch.shape[-2:]
                branch = branch + F.interpolate(results[-1], size=size, mode="bilinear", align_corners=True)
            results.append(run_layers([project], branch))
        return results[::-1]


class HeatmapHead(nn.Module):
    """A 1x1 convolution from the highest resolution to one heat map per joint.

    Shape:
        ``[N, in_channels, h, w]`` to ``[N, num_outputs, h, w]``
    """

    def __init__(self, in_channels: int, num_outputs: int) -> None:
        super().__init__()
        self.final_layer = nn.Conv2d(in_channels, num_outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.final_layer(x)
        return y


class FCNHead(nn.Module):
    """Two 3x3 convolutions on the top branch, a third on their result beside its input, and a class for each pixel.

    ``convs`` are two 3x3 convolutions with norm and ReLU, ``conv_cat`` is one more on the concatenation of the branch
    and their result, ``conv_seg`` the classifier, a 1x1 convolution.

    Args:
        in_channels: channels of the branch, and of everything between.
        num_outputs: number of classes.
        dropout: share of the channels that are dropped before the classifier in training.

    Shape:
        ``[N, in_channels, h, w]`` to logits ``[N, num_outputs, h, w]``
    """

    def __init__(self, in_channels: int, num_outputs: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.conv_seg = nn.Conv2d(in_channels, num_outputs, 1)
        self.dropout = nn.Dropout2d(dropout)
        self.convs = nn.Sequential(*(ConvModule(in_channels, in_channels, 3) for _ in range(2)))
        self.conv_cat = ConvModule(2 * in_channels, in_channels, 3)
        _init_decode_head(self)

    def forward(self, x: Tensor) -> Tensor:
        y = run_layers([self.convs], x)
        y = run_layers([self.conv_cat], torch.cat([x, y], dim=1))
        logits: Tensor = self.conv_seg(self.dropout(y))
        return logits


class ResizeConcatHead(nn.Module):
    """All branches at the highest resolution, a 1x1 convolution over all of their channels, and a class for each pixel.

    ``convs`` is one 1x1 convolution with norm and ReLU, ``conv_seg`` the classifier. This is the head of HRNetV2.

    Args:
        in_channels: channels of each branch, from high to low resolution.
        num_outputs: number of classes.
        dropout: share of the channels that are dropped before the classifier in training; none as published.

    Shape:
        a list of ``[N, in_channels[i], h_i, w_i]`` to logits ``[N, num_outputs, h_0, w_0]``
    """

    def __init__(self, in_channels: Sequence[int], num_outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        channels = sum(in_channels)
        self.in_channels = list(in_channels)
        self.conv_seg = nn.Conv2d(channels, num_outputs, 1)
        self.dropout = nn.Dropout2d(dropout)
        self.convs = nn.Sequential(ConvModule(channels, channels))
        _init_decode_head(self)

    def forward(self, x: list[Tensor]) -> Tensor:
        size = x[0].shape[-2:]
        resized = [F.interpolate(branch, size=size, mode="bilinear", align_corners=False) for branch in x[1:]]
        y = run_layers([self.convs], torch.cat([x[0], *resized], dim=1))
        logits: Tensor = self.conv_seg(self.dropout(y))
        return logits


def _init_decode_head(head: FCNHead | ResizeConcatHead) -> None:
    """As mmsegmentation: convolutions by He et al. for the gradients' variance, the classifier from N(0, 0.01)."""
    for module in head.modules():
        if isinstance(module, ConvModule):
            nn.init.kaiming_normal_(module.conv.weight, mode="fan_out", nonlinearity="relu")
    nn.init.normal_(head.conv_seg.weight, std=0.01)
    assert head.conv_seg.bias is not None
    nn.init.zeros_(head.conv_seg.bias)
