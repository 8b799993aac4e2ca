"""Batch norm over the batches of several processes: PyTorch's own on GPUs, and one for CPUs, which it lacks."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _Gather(torch.autograd.Function):
    """A vector of every process, in all of them. What they make of it is in their losses, whose gradients add up."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        rows = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(rows, own.contiguous())
        return torch.stack(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous()
        dist.all_reduce(total)
        return total[dist.get_rank()]


class CpuSyncBatchNorm2d(nn.BatchNorm2d):
    """A batch norm whose batch is that of all processes, in training; in evaluation it is a plain one.

    Shape:
        ``[N, C, H, W]`` to the same, with equal N, H and W in all processes.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        with torch.autocast(input.device.type, enabled=False):
            return self._normalize(input)

    def _normalize(self, input: Tensor) -> Tensor:
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        own = x.numel() // x.shape[1]
        count = own * dist.get_world_size()
        mean = x.mean(dim=(0, 2, 3))
        squares = (x - mean[:, None, None]).square().sum(dim=(0, 2, 3))
        # One message, of means and of squares about them: squares alone would lose digits (Chan et al. 1979).
        means, all_squares = _gather(torch.cat([mean, squares])).chunk(2, dim=1)
        mean = means.mean(dim=0)
        variance = (all_squares + own * (means - mean).square()).sum(dim=0) / count
        scale = torch.rsqrt(variance + self.eps) * self.weight
        self._update(mean.detach(), variance.detach() * (count / max(1, count - 1)))
        y = (x - mean[:, None, None]) * scale[:, None, None] + self.bias[:, None, None]
        return y.to(input.dtype)

    def _update(self, mean: Tensor, variance: Tensor) -> None:
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        momentum = self.momentum
        if momentum is None:
            assert self.num_batches_tracked is not None
            momentum = 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), momentum)


def _gather(own: Tensor) -> Tensor:
    rows: Tensor = _Gather.apply(own)  # type: ignore[no-untyped-call]
    return rows


def synchronize_batch_norm(model: nn.Module) -> None:
    """Lets all batch norms of a network normalise by the batch of all processes; parameters keep their names.

    With these a block's batch norms are no plain ones any more, and it runs part by part instead of as one fused op.
    """
    on_cpu = next(model.parameters()).device.type == "cpu"
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(module, name, _on_cpu(child) if on_cpu else _on_gpu(child))


def _on_gpu(norm: nn.BatchNorm2d) -> nn.Module:
    synced: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(norm)  # type: ignore[no-untyped-call]
    return synced


def _on_cpu(norm: nn.BatchNorm2d) -> CpuSyncBatchNorm2d:
    synced = CpuSyncBatchNorm2d.__new__(CpuSyncBatchNorm2d)
    synced.__dict__ = norm.__dict__  # the same parameters, buffers and settings
    return synced
