"""Plain PyTorch definition of spatial weighting of all branches: oracle, fallback and baseline."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def spatial_weighting(
    x: Sequence[Tensor],
    kept: Sequence[Tensor],
    weight1: Sequence[Tensor],
    bias1: Sequence[Tensor],
    weight2: Sequence[Tensor],
    bias2: Sequence[Tensor],
) -> list[Tensor]:
    """See :func:`litehrnet_cuda.ops.spatial_weighting.spatial_weighting`."""
    weighted = []
    for s, w1, b1, w2, b2 in zip(x, weight1, bias1, weight2, bias2, strict=True):
        mean = s.mean(dim=(2, 3))
        gate = F.linear(F.linear(mean, w1, b1).relu(), w2, b2).sigmoid()
        weighted.append(s * gate[..., None, None])
    if not kept:
        return weighted
    return [torch.stack(pair, dim=2).flatten(1, 2) for pair in zip(kept, weighted, strict=True)]
