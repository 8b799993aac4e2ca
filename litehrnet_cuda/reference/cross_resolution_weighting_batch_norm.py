"""Plain PyTorch definition of cross-resolution weighting in training: oracle, fallback and baseline."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from litehrnet_cuda.reference.batch_norm import batch_norm


def cross_resolution_weighting_batch_norm(
    x: Sequence[Tensor],
    weight1: Tensor,
    weight2: Tensor,
    norm_weight: Sequence[Tensor],
    norm_bias: Sequence[Tensor],
    running_mean: Sequence[Tensor] = (),
    running_var: Sequence[Tensor] = (),
    training: bool = True,
    eps: float = 1e-5,
) -> tuple[list[Tensor], Tensor]:
    """See the function of this name in :mod:`litehrnet_cuda.ops.cross_resolution_weighting_batch_norm`."""
    norms = (norm_weight, norm_bias, running_mean, running_var, training, eps)
    height, width = x[-1].shape[-2:]
    pooled = torch.cat([F.adaptive_avg_pool2d(s, (height, width)) for s in x], dim=1)
    hidden, statistics1 = batch_norm(F.conv2d(pooled, weight1.to(pooled.dtype)[..., None, None]), 0, *norms)
    logits, statistics2 = batch_norm(F.conv2d(hidden.relu(), weight2.to(hidden.dtype)[..., None, None]), 1, *norms)
    channels = [s.shape[1] for s in x]
    weights = torch.split(logits.sigmoid(), channels, dim=1)
    y = [s * F.interpolate(w, size=s.shape[-2:]) for s, w in zip(x, weights, strict=True)]
    return y, torch.cat([statistics1, statistics2], dim=1)
