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
    """Batch norms that agree in all but their parameters.

    Args:
        norms: the modules, in the order in which the op takes them.
        training: whether they normalise by the batch's statistics.
        eps: added to variances.
        momentum: of the running statistics; None where these stay as they are.
    """

    norms: Sequence[_BatchNorm]
    training: bool
    eps: float
    momentum: float | None

    @classmethod
    def of(cls, norms: Iterable[nn.Module]) -> NormGroup | None:
        """The group, or None where a module is no plain batch norm or does something else than the others.

        SyncBatchNorm in training, whose statistics come from other processes, is none, nor is a subclass with a
        ``forward`` of its own, nor one that averages cumulatively.
        """
        group: list[_BatchNorm] = []
        for norm in norms:
            plain = isinstance(norm, nn.BatchNorm2d) and type(norm).forward is _BatchNorm.forward
            if not plain and not (isinstance(norm, nn.SyncBatchNorm) and not norm.training):
                return None
            group.append(norm)  # type: ignore[arg-type]
        first = group[0]
        tracked = first.running_mean is not None
        same = all(
            norm.training == first.training
            and norm.eps == first.eps
            and norm.momentum == first.momentum
            and norm.affine
            and (norm.running_mean is not None) == tracked
            and (norm.num_batches_tracked is None) == (first.num_batches_tracked is None)
            for norm in group
        )
        training = first.training or not tracked
        moving = first.training and tracked
        if not same or (moving and first.momentum is None):
            return None
        return cls(group, training, first.eps, first.momentum if moving else None)

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
        """Moves the running statistics as the modules themselves would after a batch.

        Args:
            statistics: ``[3, channels of all norms]``, as the ops return them.
        """
        counts = [norm.num_batches_tracked for norm in self.norms if norm.num_batches_tracked is not None]
        if self.momentum is None or (self.momentum == 0 and not counts):
            return
        from litehrnet_cuda.functional import update_running_statistics

        means = [_present(norm.running_mean) for norm in self.norms]
        variances = [_present(norm.running_var) for norm in self.norms]
        update_running_statistics(means, variances, counts, statistics.detach(), self.momentum)


def _present(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor
