"""The two weightings inside a conditional channel weighting block, under the names of the official repository.

Source: Yu et al., "Lite-HRNet: A Lightweight High-Resolution Network" (CVPR 2021), section 3.2, and
``models/backbones/litehrnet.py`` of the official repository. Branches are ordered from high to low resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from litehrnet_cuda.nn.dispatch import has_kernels_for, training_dtype
from litehrnet_cuda.nn.layers import ConvModule, pool_to_size
from litehrnet_cuda.nn.norms import NormGroup


class SpatialWeighting(nn.Module):
    """Weights each channel by a gate computed from all channels' means (paper, section 3.2, "spatial weight").

    ``y = x * sigmoid(W2 relu(W1 mean_hw(x) + b1) + b2)``

    Shape:
        ``[N, channels, H, W]`` to the same shape.
    """

    def __init__(self, channels: int, ratio: int = 16) -> None:
        super().__init__()
        _check_hidden("SpatialWeighting", channels, ratio)
        self.global_avgpool = nn.AdaptiveAvgPool2d(1)
        self.conv1 = ConvModule(channels, int(channels / ratio), norm=False)
        self.conv2 = ConvModule(int(channels / ratio), channels, norm=False, activation=nn.Sigmoid)

    def forward(self, x: Tensor) -> Tensor:
        if has_kernels_for(self, [x], self.conv1.conv.weight):
            from litehrnet_cuda.functional import spatial_weighting

            y: Tensor = spatial_weighting([x], [], *([matrix] for matrix in gate_matrices(self, x.dtype)))[0]
            return y
        gate: Tensor = self.conv2(self.conv1(self.global_avgpool(x)))
        return x * gate


class CrossResolutionWeighting(nn.Module):
    """Weights every position of every branch by a gate computed across branches (paper, section 3.2).

    All branches are pooled to the smallest one's size and concatenated; two 1x1 convolutions with batch norm
    (ReLU between, sigmoid behind) give one weight per channel and position, which is upsampled
    (nearest) to each branch and multiplied in.

    Shape:
        a list of ``[N, channels[i], H_i, W_i]`` to a list of the same shapes.
    """

    def __init__(self, channels: Sequence[int], ratio: int = 16) -> None:
        super().__init__()
        _check_hidden("CrossResolutionWeighting", sum(channels), ratio)
        self.channels = list(channels)
        self.conv1 = ConvModule(sum(channels), int(sum(channels) / ratio))
        self.conv2 = ConvModule(int(sum(channels) / ratio), sum(channels), activation=nn.Sigmoid)

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        norms = None
        if has_kernels_for(self, x, self.conv1.conv.weight):
            norms = NormGroup.of([self.conv1.bn, self.conv2.bn])
        return self._forward_reference(x) if norms is None else self._forward_fused(x, norms)

    def _forward_fused(self, x: list[Tensor], norms: NormGroup) -> list[Tensor]:
        """Three launches, and one for running statistics; a block, which folds norms in evaluation, needs fewer."""
        from litehrnet_cuda.functional import cross_resolution_weighting_batch_norm

        dtype = training_dtype(self.conv1.conv.weight)
        y, statistics = cross_resolution_weighting_batch_norm(
            x, *weighting_matrices(self, dtype), *norms.parameters(dtype), training=norms.training, eps=norms.eps
        )
        norms.update(statistics)
        return y

    def _forward_reference(self, x: list[Tensor]) -> list[Tensor]:
        height, width = x[-1].shape[-2:]
        pooled = torch.cat([pool_to_size(s, (height, width)) for s in x[:-1]] + [x[-1]], dim=1)
        weights = self.conv2(self.conv1(pooled)).split(self.channels, dim=1)
        weighted = [s * F.interpolate(w, size=s.shape[-2:]) for s, w in zip(x[:-1], weights[:-1], strict=True)]
        return [*weighted, x[-1] * weights[-1]]


# Functions, not methods: blocks of other packages that `use_fused_modules` has made ours keep their own parts.


def gate_matrices(gate: Any, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weight and bias of both convolutions of a spatial weighting, ``[R, C]``, ``[R]``, ``[C, R]``, ``[C]``."""
    first, second = gate.conv1.conv, gate.conv2.conv
    return (
        *(first.weight.flatten(1).to(dtype), first.bias.to(dtype)),
        *(second.weight.flatten(1).to(dtype), second.bias.to(dtype)),
    )


def weighting_matrices(weighting: Any, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Weights of both convolutions of a cross-resolution weighting, ``[R, C]`` and ``[C, R]``."""
    return weighting.conv1.conv.weight.flatten(1).to(dtype), weighting.conv2.conv.weight.flatten(1).to(dtype)


def _check_hidden(name: str, channels: int, ratio: int) -> None:
    if int(channels / ratio) < 1:
        raise ValueError(f"{name}: expected at least ratio={ratio} channels, so that one remains, got {channels}")
