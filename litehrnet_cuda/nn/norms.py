"""The batch norms of a block as one group, which the fused ops for training take together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

# One list for each of four kinds of parameters.
FourLists = tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]


class NormGroup(NamedTuple):
    """Batch norms that normalise in the same way, each with parameters and running statistics of its own.

    Args:
        norms: the modules, in the order in which the op takes them.
        training: whether they normalise by the batch's statistics.
        eps: added to variances.
    """

    norms: Sequence[_BatchNorm]
    training: bool
    eps: float

    @classmethod
    def of(cls, norms: Iterable[nn.Module]) -> NormGroup | None:
        """The group, or None where a module is no plain batch norm or does something else than the others.

        SyncBatchNorm in training, whose statistics come from other processes, is none, nor is a subclass with a
        ``forward`` of its own, nor one that appears twice.
        """
        group: list[_BatchNorm] = []
        for norm in norms:
            plain = isinstance(norm, nn.BatchNorm2d) and type(norm).forward is _BatchNorm.forward
            if not plain and not (isinstance(norm, nn.SyncBatchNorm) and not norm.training):
                return None
            group.append(norm)  # type: ignore[arg-type]

        def takes_batch(norm: _BatchNorm) -> bool:
            return norm.training or norm.running_mean is None

        first = group[0]
        same = all(takes_batch(norm) == takes_batch(first) and norm.eps == first.eps and norm.affine for norm in group)
        if not same or len({id(norm) for norm in group}) < len(group):
            return None
        return cls(group, takes_batch(first), first.eps)

    def parameters(self, dtype: torch.dtype) -> FourLists:
        """Weights, biases, and running means and variances, these only where they are read."""
        means, variances = [], []
        if not self.training:
            means = [_present(norm.running_mean).to(dtype) for norm in self.norms]
            variances = [_present(norm.running_var).to(dtype) for norm in self.norms]
        return (
            [norm.weight.to(dtype) for norm in self.norms],
            [norm.bias.to(dtype) for norm in self.norms],
            means,
            variances,
        )

    def update(self, statistics: Tensor) -> None:
        """Moves the running statistics as the modules themselves would after a batch: one launch as a rule.

        Args:
            statistics: ``[3, channels of all norms]``, as the ops return them.
        """
        if not self.training:
            return
        from litehrnet_cuda.functional import update_running_statistics

        columns = torch.split(statistics.detach(), [norm.num_features for norm in self.norms], dim=1)
        alike: dict[tuple[float, bool], list[tuple[_BatchNorm, Tensor]]] = {}
        for norm, own in zip(self.norms, columns, strict=True):
            if norm.training and norm.track_running_stats and norm.running_mean is not None:
                counted = norm.num_batches_tracked is not None
                alike.setdefault((_momentum(norm), counted), []).append((norm, own))
        for (momentum, counted), members in alike.items():
            if momentum == 0 and not counted:
                continue
            moving = [norm for norm, _ in members]
            counts = [_present(norm.num_batches_tracked) for norm in moving] if counted else []
            rows = statistics.detach() if len(moving) == len(columns) else torch.cat([own for _, own in members], dim=1)
            means = [_present(norm.running_mean) for norm in moving]
            variances = [_present(norm.running_var) for norm in moving]
            update_running_statistics(means, variances, counts, rows, momentum)
            if not torch.compiler.is_compiling():
                # As PyTorch's own update does; by the version of a count folded weights notice that they are stale.
                torch.autograd.graph.increment_version(counts)


def _momentum(norm: _BatchNorm) -> float:
    if norm.momentum is not None:
        return norm.momentum
    # A cumulative average: PyTorch reads the count, too, and waits for the device.
    return 0.0 if norm.num_batches_tracked is None else 1.0 / (float(norm.num_batches_tracked) + 1.0)


def _present(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor
