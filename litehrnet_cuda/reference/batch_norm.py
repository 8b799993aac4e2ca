"""A batch norm in plain PyTorch that also tells the batch's statistics: what the ops for training have in common."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def batch_norm(
    x: Tensor,
    index: int,
    norm_weight: Sequence[Tensor],
    norm_bias: Sequence[Tensor],
    running_mean: Sequence[Tensor],
    running_var: Sequence[Tensor],
    training: bool,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """Batch norm number ``index`` of an op.

    Args:
        x: ``[N, C, H, W]``.
        index: into the lists, which hold tensors ``[C]``.
        norm_weight, norm_bias: parameters, in the dtype that statistics get.
        running_mean, running_var: may be empty with ``training``.
        training: take the batch's statistics.
        eps: added to variances.

    Returns:
        ``[N, C, H, W]``, and detached statistics ``[3, C]``: mean, biased and unbiased variance; ``[3, 0]`` where not
        ``training``.
    """
    weight, bias = norm_weight[index], norm_bias[index]
    if not training:
        y = F.batch_norm(x, running_mean[index], running_var[index], weight, bias, False, 0.0, eps)
        return y, weight.detach().new_empty((3, 0))
    y = F.batch_norm(x, None, None, weight, bias, True, 0.0, eps)
    variance, mean = torch.var_mean(x.detach().to(weight.dtype), dim=(0, 2, 3), correction=0)
    count = x.numel() // x.shape[1]
    return y, torch.stack([mean, variance, variance * (count / (count - 1))])
