"""Plain PyTorch definition of the conditional channel weighting block: oracle, fallback and baseline."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from litehrnet_cuda.reference.cross_resolution_weighting import cross_resolution_weighting
from litehrnet_cuda.reference.depthwise_conv import depthwise_conv
from litehrnet_cuda.reference.spatial_weighting import spatial_weighting


def conditional_channel_weighting(
    x: Sequence[Tensor],
    weight1: Tensor,
    bias1: Tensor,
    weight2: Tensor,
    bias2: Tensor,
    depthwise_weight: Sequence[Tensor],
    depthwise_bias: Sequence[Tensor],
    gate_weight1: Sequence[Tensor],
    gate_bias1: Sequence[Tensor],
    gate_weight2: Sequence[Tensor],
    gate_bias2: Sequence[Tensor],
) -> list[Tensor]:
    """See :func:`litehrnet_cuda.ops.conditional_channel_weighting.conditional_channel_weighting`."""
    kept, changed = zip(*(s.chunk(2, dim=1) for s in x), strict=True)
    weighted = cross_resolution_weighting(changed, weight1, bias1, weight2, bias2)
    filtered = depthwise_conv(weighted, depthwise_weight, depthwise_bias)
    return spatial_weighting(filtered, kept, gate_weight1, gate_bias1, gate_weight2, gate_bias2)
