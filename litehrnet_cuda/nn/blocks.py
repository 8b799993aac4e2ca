"""The building blocks of Lite-HRNet, under the names of the official repository.

Source: Yu et al., "Lite-HRNet: A Lightweight High-Resolution Network" (CVPR 2021), and
``models/backbones/litehrnet.py`` of the official repository. Branches are ordered from high to low resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from litehrnet_cuda.nn.dispatch import (
    MAX_TRAINING_WIDTH,
    are_recorded,
    has_fused_backend,
    has_kernels_for,
    training_dtype,
)
from litehrnet_cuda.nn.folding import BlockWeights, FoldedCache, fold_batch_norm
from litehrnet_cuda.nn.layers import ConvModule, concat_shuffle, depthwise_conv, run_block
from litehrnet_cuda.nn.norms import FourLists, NormGroup
from litehrnet_cuda.nn.separable import run_layers
from litehrnet_cuda.nn.weighting import CrossResolutionWeighting, SpatialWeighting, gate_matrices, weighting_matrices


class ConditionalChannelWeighting(nn.Module):
    """The block that replaces the shuffle unit's pointwise convolutions (paper, section 3.2, figure 2b).

    The second half of every branch's channels passes cross-resolution weighting, depthwise 3x3 and
    spatial weighting; the first half is kept; both are concatenated and shuffled.

    Where a backend has kernels (:func:`litehrnet_cuda.backends.select_backend`) the block is one fused op, in training
    as in evaluation; Triton's are for evaluation without gradients. It runs part by part where a part has hooks, so
    that these see what passes, and, but for spatial weighting, where its batch norms are not plain ones (SyncBatchNorm)
    or are frozen in part.

    Args:
        in_channels: channels of each branch, all even.
        stride: 1, as in every published network (others cannot be concatenated with the half that is kept).
        reduce_ratio: reduction inside cross-resolution weighting.
        with_cp: gradient checkpointing.

    Shape:
        a list of ``[N, in_channels[i], H_i, W_i]`` to a list of the same shapes.
    """

    def __init__(
        self, in_channels: Sequence[int], stride: int = 1, reduce_ratio: int = 8, with_cp: bool = False
    ) -> None:
        super().__init__()
        if stride != 1:
            raise ValueError(f"ConditionalChannelWeighting: expected stride 1, got {stride}")
        for channels in in_channels:
            _check_even("ConditionalChannelWeighting", channels)
        half = [channels // 2 for channels in in_channels]
        self.with_cp = with_cp
        self.cross_resolution_weighting = CrossResolutionWeighting(half, ratio=reduce_ratio)
        self.depthwise_convs = nn.ModuleList(depthwise_conv(c) for c in half)
        self.spatial_weighting = nn.ModuleList(SpatialWeighting(c, ratio=4) for c in half)
        self._folded: dict[torch.dtype, FoldedCache] = {}

    def train(self, mode: bool = True) -> ConditionalChannelWeighting:
        for cache in self._folded.values():
            cache.mark_stale()
        super().train(mode)
        return self

    def _replicate_for_data_parallel(self) -> ConditionalChannelWeighting:
        replica: ConditionalChannelWeighting = super()._replicate_for_data_parallel()  # type: ignore[no-untyped-call]
        replica._folded = {}  # its parameters are on another device
        return replica

    def folded(self, dtype: torch.dtype) -> BlockWeights:
        """The weights as :func:`litehrnet_cuda.functional.conditional_channel_weighting` takes them, after ``x``."""
        if torch.compiler.is_compiling():
            # The compiler folds as part of its graph: what it compiled must not depend on what was cached then.
            return self._fold(dtype)
        return self._folded.setdefault(dtype, FoldedCache()).get(self, lambda: self._fold(dtype))

    def _fold(self, dtype: torch.dtype) -> BlockWeights:
        weighting = self.cross_resolution_weighting
        gates: list[Any] = list(self.spatial_weighting)
        return BlockWeights.of(
            fold_batch_norm(weighting.conv1),
            fold_batch_norm(weighting.conv2),
            [fold_batch_norm(conv) for conv in self.depthwise_convs],
            [fold_batch_norm(gate.conv1) for gate in gates],
            [fold_batch_norm(gate.conv2) for gate in gates],
            dtype,
        )

    def _forward(self, x: list[Tensor]) -> list[Tensor]:
        weight = self.cross_resolution_weighting.conv1.conv.weight
        if not has_kernels_for(self, x, weight, in_inference=True):
            return self._forward_reference(x)
        weighting = self.cross_resolution_weighting
        convs: list[Any] = [weighting.conv1, weighting.conv2, *self.depthwise_convs]
        norms = NormGroup.of(part.bn for part in convs)
        if not (norms is None or norms.training or are_recorded(x, self)):
            return self._forward_folded(x)
        if not has_fused_backend(x[0].device.type):
            return self._forward_reference(x)
        if norms is None:
            return self._forward_by_parts(x)
        fits = max(s.shape[-1] for s in x) <= MAX_TRAINING_WIDTH
        return self._forward_training(x, norms) if fits else self._forward_by_parts(x)

    def _gate_parameters(self, dtype: torch.dtype) -> FourLists:
        """Weights and biases of both convolutions of every branch's spatial weighting, as matrices and vectors."""
        gates: list[Any] = list(self.spatial_weighting)
        weight1, bias1, weight2, bias2 = zip(*(gate_matrices(gate, dtype) for gate in gates), strict=True)
        return list(weight1), list(bias1), list(weight2), list(bias2)

    def _forward_folded(self, x: list[Tensor]) -> list[Tensor]:
        """Batch norms folded into the convolutions: three launches, no gradients."""
        if has_fused_backend(x[0].device.type):
            from litehrnet_cuda.functional import conditional_channel_weighting
        else:
            from litehrnet_cuda.triton import conditional_channel_weighting

        device = x[0].device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x[0].dtype
        return conditional_channel_weighting(x, *self.folded(dtype))

    def _forward_training(self, x: list[Tensor], norms: NormGroup) -> list[Tensor]:
        """Batch statistics, six launches with the update of the running ones; or running statistics with gradients."""
        from litehrnet_cuda.functional import conditional_channel_weighting_batch_norm

        dtype = training_dtype(self.cross_resolution_weighting.conv1.conv.weight)
        weight1, weight2 = weighting_matrices(self.cross_resolution_weighting, dtype)
        filters: list[Any] = list(self.depthwise_convs)
        y, statistics = conditional_channel_weighting_batch_norm(
            x,
            weight1,
            weight2,
            [part.conv.weight.squeeze(1).to(dtype) for part in filters],
            *self._gate_parameters(dtype),
            *norms.parameters(dtype),
            training=norms.training,
            eps=norms.eps,
        )
        norms.update(statistics)
        for cache in self._folded.values() if norms.training else ():
            cache.mark_stale()  # norms without a count have no version that tells
        return y

    def _forward_by_parts(self, x: list[Tensor]) -> list[Tensor]:
        """For norms that synchronise processes or differ among themselves: what is around them is fused."""
        from litehrnet_cuda.functional import spatial_weighting

        kept, filtered = self._filter(x)
        y: list[Tensor] = spatial_weighting(filtered, kept, *self._gate_parameters(filtered[0].dtype))
        return y

    def _forward_reference(self, x: list[Tensor]) -> list[Tensor]:
        kept, filtered = self._filter(x)
        gated = [gate(s) for gate, s in zip(self.spatial_weighting, filtered, strict=True)]
        return [concat_shuffle(a, b) for a, b in zip(kept, gated, strict=True)]

    def _filter(self, x: list[Tensor]) -> tuple[tuple[Tensor, ...], list[Tensor]]:
        """The halves that are kept, and the others after cross-resolution weighting and depthwise convolution."""
        kept, changed = zip(*(s.chunk(2, dim=1) for s in x), strict=True)
        weighted = self.cross_resolution_weighting(list(changed))
        return kept, [conv(s) for conv, s in zip(self.depthwise_convs, weighted, strict=True)]

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        out: list[Tensor] = run_block(self, self._forward, x, self.with_cp)
        return out

    def extra_repr(self) -> str:
        return f"with_cp={self.with_cp}" if self.with_cp else ""


class Stem(nn.Module):
    """Reduces an image to a quarter of its size: 3x3 with stride 2, then a shuffle unit with stride 2.

    Args:
        in_channels: channels of the image.
        stem_channels: channels after the first convolution, even.
        out_channels: channels of the output.
        expand_ratio: width of the second branch's depthwise convolution, relative to ``stem_channels``.
        with_cp: gradient checkpointing.

    Shape:
        ``[N, in_channels, H, W]`` to ``[N, out_channels, ceil(H / 4), ceil(W / 4)]``
    """

    def __init__(
        self, in_channels: int, stem_channels: int, out_channels: int, expand_ratio: float = 1, with_cp: bool = False
    ) -> None:
        super().__init__()
        _check_even("Stem", stem_channels)
        _check_even("Stem", out_channels)
        half = stem_channels // 2
        mid_channels = round(stem_channels * expand_ratio)
        if stem_channels == out_channels:
            first, second = out_channels - half, half
        else:
            first, second = out_channels - stem_channels, stem_channels
        self.with_cp = with_cp
        self.conv1 = ConvModule(in_channels, stem_channels, 3, stride=2)
        self.branch1 = nn.Sequential(depthwise_conv(half, stride=2), ConvModule(half, first))
        self.expand_conv = ConvModule(half, mid_channels)
        self.depthwise_conv = depthwise_conv(mid_channels, stride=2)
        self.linear_conv = ConvModule(mid_channels, second)

    def _forward(self, x: Tensor) -> Tensor:
        x1, x2 = run_layers([self.conv1], x).chunk(2, dim=1)
        x2 = run_layers([self.expand_conv, self.depthwise_conv, self.linear_conv], x2)
        return concat_shuffle(run_layers([self.branch1], x1), x2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = run_block(self, self._forward, x, self.with_cp)
        return out


class ShuffleUnit(nn.Module):
    """The shuffle unit of ShuffleNet V2, the block of the naive networks.

    At stride 1 half of the channels pass and half are filtered; at stride 2 both branches see all channels.

    Args:
        in_channels: input channels; at stride 1 equal to ``out_channels``.
        out_channels: output channels, even.
        stride: 1 or 2.
        with_cp: gradient checkpointing.

    Shape:
        ``[N, in_channels, H, W]`` to ``[N, out_channels, ceil(H / stride), ceil(W / stride)]``
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, with_cp: bool = False) -> None:
        super().__init__()
        _check_even("ShuffleUnit", out_channels)
        if stride not in (1, 2):
            raise ValueError(f"ShuffleUnit: expected stride 1 or 2, got {stride}")
        if stride == 1 and in_channels != out_channels:
            raise ValueError(f"ShuffleUnit: expected out_channels={in_channels} at stride 1, got {out_channels}")
        half = out_channels // 2
        self.stride = stride
        self.with_cp = with_cp
        if stride > 1:
            self.branch1 = nn.Sequential(depthwise_conv(in_channels, stride), ConvModule(in_channels, half))
        self.branch2 = nn.Sequential(
            ConvModule(in_channels if stride > 1 else half, half), depthwise_conv(half, stride), ConvModule(half, half)
        )

    def _forward(self, x: Tensor) -> Tensor:
        if self.stride > 1:
            return concat_shuffle(run_layers([self.branch1], x), run_layers([self.branch2], x))
        x1, x2 = x.chunk(2, dim=1)
        return concat_shuffle(x1, run_layers([self.branch2], x2))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = run_block(self, self._forward, x, self.with_cp)
        return out

    def extra_repr(self) -> str:
        return f"stride={self.stride}"


def _check_even(name: str, channels: int) -> None:
    if channels % 2:
        raise ValueError(
            f"{name}: expected an even number of channels, because they are split in halves, got {channels}"
        )
