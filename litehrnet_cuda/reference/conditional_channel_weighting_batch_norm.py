"""Plain PyTorch definition of the conditional channel weighting block in training: oracle, fallback and baseline."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from litehrnet_cuda.reference.cross_resolution_weighting_batch_norm import cross_resolution_weighting_batch_norm
from litehrnet_cuda.reference.depthwise_conv_batch_norm import depthwise_conv_batch_norm
from litehrnet_cuda.reference.spatial_weighting import spatial_weighting


def conditional_channel_weighting_batch_norm(
    x: Sequence[Tensor],
    weight1: Tensor,
    weight2: Tensor,
    depthwise_weight: Sequence[Tensor],
    gate_weight1: Sequence[Tensor],
    gate_bias1: Sequence[Tensor],
    gate_weight2: Sequence[Tensor],
    gate_bias2: Sequence[Tensor],
    norm_weight: Sequence[Tensor],
    norm_bias: Sequence[Tensor],
    running_mean: Sequence[Tensor] = (),
    running_var: Sequence[Tensor] = (),
    training: bool = True,
    eps: float = 1e-5,
) -> tuple[list[Tensor], Tensor]:
    """See the function of this name in :mod:`litehrnet_cuda.ops.conditional_channel_weighting_batch_norm`."""
    kept, changed = zip(*(s.chunk(2, dim=1) for s in x), strict=True)
    weighted, statistics1 = cross_resolution_weighting_batch_norm(
        *(changed, weight1, weight2, norm_weight[:2], norm_bias[:2], running_mean[:2], running_var[:2], training, eps)
    )
    filtered, statistics2 = depthwise_conv_batch_norm(
        *(weighted, depthwise_weight, norm_weight[2:], norm_bias[2:], running_mean[2:], running_var[2:], training, eps)
    )
    gates = (gate_weight1, gate_bias1, gate_weight2, gate_bias2)
    typed = ([p.to(x[0].dtype) for p in list_] for list_ in gates)
    return spatial_weighting(filtered, kept, *typed), torch.cat([statistics1, statistics2], dim=1)
