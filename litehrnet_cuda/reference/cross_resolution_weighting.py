"""Plain PyTorch definition of cross-resolution weighting: oracle, fallback and baseline."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_resolution_weighting(
    x: Sequence[Tensor], weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor
) -> list[Tensor]:
    """See :func:`litehrnet_cuda.ops.cross_resolution_weighting.cross_resolution_weighting`."""
    height, width = x[-1].shape[-2:]
    pooled = torch.cat([F.adaptive_avg_pool2d(s, (height, width)) for s in x], dim=1)
    hidden = F.conv2d(pooled, weight1[..., None, None], bias1).relu()
    weights = F.conv2d(hidden, weight2[..., None, None], bias2).sigmoid()
    channels = [s.shape[1] for s in x]
    return [
        s * F.interpolate(w, size=s.shape[-2:]) for s, w in zip(x, torch.split(weights, channels, dim=1), strict=True)
    ]
