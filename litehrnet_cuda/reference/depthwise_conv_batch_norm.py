"""Plain PyTorch definition of the depthwise convolutions and batch norms in training: oracle, fallback and baseline."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from litehrnet_cuda.reference.batch_norm import batch_norm


def depthwise_conv_batch_norm(
    x: Sequence[Tensor],
    weight: Sequence[Tensor],
    norm_weight: Sequence[Tensor],
    norm_bias: Sequence[Tensor],
    running_mean: Sequence[Tensor] = (),
    running_var: Sequence[Tensor] = (),
    training: bool = True,
    eps: float = 1e-5,
) -> tuple[list[Tensor], Tensor]:
    """See the function of this name in :mod:`litehrnet_cuda.ops.depthwise_conv_batch_norm`."""
    norms = (norm_weight, norm_bias, running_mean, running_var)
    y, statistics = [], []
    for i, (s, w) in enumerate(zip(x, weight, strict=True)):
        filtered = F.conv2d(s, w[:, None].to(s.dtype), padding=1, groups=s.shape[1])
        normalised, of_branch = batch_norm(filtered, i, *norms, training, eps)
        y.append(normalised)
        statistics.append(of_branch)
    return y, torch.cat(statistics, dim=1)
