"""Plain PyTorch definition of a separable convolution with batch norms in training: oracle, fallback and baseline."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from litehrnet_cuda.reference.batch_norm import batch_norm


def separable_conv_batch_norm(
    x: Tensor,
    depthwise_weight: Sequence[Tensor],
    weight: Sequence[Tensor],
    norm_weight: Sequence[Tensor],
    norm_bias: Sequence[Tensor],
    running_mean: Sequence[Tensor] = (),
    running_var: Sequence[Tensor] = (),
    stride: int = 1,
    relu: bool = False,
    training: bool = True,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor]:
    """See the function of this name in :mod:`litehrnet_cuda.ops.separable_conv_batch_norm`."""
    norms = (norm_weight, norm_bias, running_mean, running_var, training, eps)
    statistics = []
    for filters in depthwise_weight:
        x = F.conv2d(x, filters[:, None].to(x.dtype), stride=stride, padding=1, groups=x.shape[1])
        x, of_norm = batch_norm(x, 0, *norms)
        statistics.append(of_norm)
    for matrix in weight:
        x = F.conv2d(x, matrix.to(x.dtype)[..., None, None])
    y, of_norm = batch_norm(x, len(depthwise_weight), *norms)
    return y.relu() if relu else y, torch.cat([*statistics, of_norm], dim=1)
