"""Control over how often a forward pass updates the running statistics of batch norm.

Two places need it: the fuse step, whose official form evaluates one path twice, and gradient
checkpointing, which evaluates a block again during the backward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def _updating(module: nn.Module) -> list[_BatchNorm]:
    return [m for m in module.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]


@contextmanager
def repeated_statistics(module: nn.Module, repeats: int) -> Iterator[None]:
    """Lets one forward pass update the running statistics as ``repeats`` equal passes would.

    A pass with batch statistic s moves a running statistic r to (1 - m) r + m s; n passes with the same s
    move it to (1 - m)^n r + (1 - (1 - m)^n) s, which is one pass with momentum 1 - (1 - m)^n: 0.19
    for n = 2 and m = 0.1. ``num_batches_tracked`` grows by n.

    Raises:
        ValueError: if a batch norm averages cumulatively (``momentum=None``).
    """
    norms = _updating(module)
    momenta = [norm.momentum for norm in norms]
    for norm, momentum in zip(norms, momenta, strict=True):
        if momentum is None:
            raise ValueError("repeated_statistics: expected batch norms with a momentum, got momentum=None")
        norm.momentum = 1 - (1 - momentum) ** repeats
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    for norm in norms:
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(repeats - 1)


class kept_statistics:
    """Lets a training-mode forward pass use batch statistics without updating the running ones.

    A momentum of 0 moves nothing but still hands the running statistics to the operator, so that autograd saves
    the same tensors as in the first evaluation, which checkpointing insists on. A class, not a generator, because
    checkpointing enters the same object again when the graph is kept for a second backward pass.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._kept: list[tuple[_BatchNorm, float | None, torch.Tensor | None]] = []

    def __enter__(self) -> None:
        norms = _updating(self.module)
        self._kept = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
        for norm in norms:
            norm.momentum = 0.0
            norm.num_batches_tracked = None

    def __exit__(self, *_exception: object) -> None:
        for norm, momentum, count in self._kept:
            norm.momentum = momentum
            norm.num_batches_tracked = count
