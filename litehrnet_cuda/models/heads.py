"""What turns the backbone's branches into an answer.

Source: ``IterativeHead`` in ``models/backbones/litehrnet.py`` of the official repository; the heat-map
head is mmpose's ``TopDownSimpleHead`` without deconvolutions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from litehrnet_cuda.nn.layers import DepthwiseSeparableConvModule
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
