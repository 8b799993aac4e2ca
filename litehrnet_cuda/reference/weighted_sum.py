"""Plain PyTorch definition of a sum of maps of several sizes: oracle, fallback and baseline."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def weighted_sum(x: Sequence[Tensor], counts: Sequence[int], sum: bool = True, relu: bool = False) -> list[Tensor]:
    """See :func:`litehrnet_cuda.ops.weighted_sum.weighted_sum`."""
    size = x[0].shape[-2:]
    total = counts[0] * x[0]
    for s, count in zip(x[1:], counts[1:], strict=True):
        total = total + count * (s if s.shape[-2:] == size else F.interpolate(s, size=size))
    return [total] * sum + [total.relu()] * relu
