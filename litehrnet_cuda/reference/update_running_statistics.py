"""Plain PyTorch definition of the update of running statistics: oracle, fallback and baseline."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def update_running_statistics(
    running_mean: Sequence[Tensor],
    running_var: Sequence[Tensor],
    num_batches_tracked: Sequence[Tensor],
    statistics: Tensor,
    momentum: float,
) -> None:
    """See :func:`litehrnet_cuda.ops.update_running_statistics.update_running_statistics`."""
    channels = [len(mean) for mean in running_mean]
    with torch.no_grad():
        for running, row in ((running_mean, statistics[0]), (running_var, statistics[2])):
            for old, new in zip(running, torch.split(row, channels), strict=True):
                old.copy_(old.to(new.dtype).lerp(new, momentum))
        for count in num_batches_tracked:
            count.add_(1)
