"""Batch norms folded into the convolutions before them, and kept until a parameter changes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from litehrnet_cuda.nn.changes import ModuleState
from litehrnet_cuda.nn.layers import ConvModule

Pair = tuple[Tensor, Tensor]  # weight and bias


def fold_batch_norm(module: Any) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution that does what a convolution and its batch norm do in evaluation mode.

    ``W' = W g / sqrt(v + eps)``, ``b' = (b - m) g / sqrt(v + eps) + beta``, computed in at least fp32.

    Args:
        module: a :class:`litehrnet_cuda.nn.layers.ConvModule`, or mmcv's: what has ``conv``, ``with_norm`` and ``bn``.

    Returns:
        weight in the convolution's shape and bias ``[out_channels]``, in the convolution's dtype, without gradient.
    """
    conv: nn.Conv2d = module.conv
    dtype = torch.promote_types(conv.weight.dtype, torch.float32)
    weight = conv.weight.detach().to(dtype)
    bias = weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias.detach().to(dtype)
    if module.with_norm:
        norm: nn.BatchNorm2d = module.bn
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight.detach().to(dtype) * torch.rsqrt(norm.running_var.to(dtype) + norm.eps)
        weight = weight * scale[:, None, None, None]
        bias = (bias - norm.running_mean.to(dtype)) * scale + norm.bias.detach().to(dtype)
    return weight.to(conv.weight.dtype), bias.to(conv.weight.dtype)


def folded_copy(network: nn.Module) -> nn.Module:
    """A copy in evaluation mode without the batch norms that follow a convolution: that does what both did.

    Those are found in the :class:`~litehrnet_cuda.nn.layers.ConvModule` and in ``nn.Sequential``; others stay.
    """
    folded = copy.deepcopy(network).eval().requires_grad_(False)
    for part in list(folded.modules()):
        if isinstance(part, nn.Sequential):
            for (name, conv), (norm_name, norm) in pairwise(list(part.named_children())):
                if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    pair = SimpleNamespace(conv=conv, bn=norm, with_norm=True)
                    setattr(part, name, _with_weights(conv, *fold_batch_norm(pair)))
                    setattr(part, norm_name, nn.Identity())
        elif isinstance(part, ConvModule) and part.with_norm:
            part.conv = _with_weights(part.conv, *fold_batch_norm(part))
            part.add_module("bn", nn.Identity())
    return folded


def _with_weights(conv: nn.Conv2d, weight: Tensor, bias: Tensor) -> nn.Conv2d:
    """The same convolution of other weights; a new one, because parts of a network may share the old one."""
    changed = copy.copy(conv)
    changed._parameters = {
        "weight": nn.Parameter(weight, requires_grad=False),
        "bias": nn.Parameter(bias, requires_grad=False),
    }
    return changed


class BlockWeights(NamedTuple):
    """What :func:`litehrnet_cuda.functional.conditional_channel_weighting` takes after ``x``, in that order."""

    weight1: Tensor
    bias1: Tensor
    weight2: Tensor
    bias2: Tensor
    depthwise_weight: list[Tensor]
    depthwise_bias: list[Tensor]
    gate_weight1: list[Tensor]
    gate_bias1: list[Tensor]
    gate_weight2: list[Tensor]
    gate_bias2: list[Tensor]

    def flat(self) -> list[Tensor]:
        """All tensors in one list."""
        return [t for entry in self for t in (entry if isinstance(entry, list) else [entry])]

    def fits(self, other: BlockWeights) -> bool:
        """Whether the values of another can be written into these tensors."""
        return all(
            a.shape == b.shape and a.dtype == b.dtype and a.device == b.device and not a.is_inference()
            for a, b in zip(self.flat(), other.flat(), strict=True)
        )

    def copy_(self, other: BlockWeights) -> None:
        """Writes the values of another into these tensors."""
        with torch.no_grad():
            for a, b in zip(self.flat(), other.flat(), strict=True):
                a.copy_(b)

    @classmethod
    def of(
        cls,
        conv1: Pair,
        conv2: Pair,
        depthwise: Sequence[Pair],
        gate1: Sequence[Pair],
        gate2: Sequence[Pair],
        dtype: torch.dtype,
    ) -> BlockWeights:
        """From pairs of convolution weight and bias: 1x1 convolutions become matrices, depthwise ones ``[C, 3, 3]``."""

        def typed(tensors: Iterable[Tensor]) -> list[Tensor]:
            return [tensor.to(dtype) for tensor in tensors]

        # The second matrix column by column, as the kernel reads it; then the op needs no copy.
        weight2 = conv2[0].flatten(1).t().contiguous().t()
        return cls(
            *(conv1[0].flatten(1).to(dtype), conv1[1].to(dtype), weight2.to(dtype), conv2[1].to(dtype)),
            *(typed(weight.squeeze(1) for weight, _ in depthwise), typed(bias for _, bias in depthwise)),
            *(typed(weight.flatten(1) for weight, _ in gate1), typed(bias for _, bias in gate1)),
            *(typed(weight.flatten(1) for weight, _ in gate2), typed(bias for _, bias in gate2)),
        )


class FoldedCache:
    """A block's folded weights, folded again only when one of its parameters or buffers has changed.

    :class:`~litehrnet_cuda.nn.changes.ModuleState` says what a change is. It misses writes through ``.data``: whoever
    makes them calls ``train()`` or ``eval()`` after it, which marks the weights as stale.

    New values are written into the old tensors where they fit, so that a CUDA graph that has captured these goes on to
    read what is current. While a graph is being captured nothing is stored: what is computed then has no value yet.
    """

    def __init__(self) -> None:
        self._state: tuple[BlockWeights, ModuleState] | None = None
        self._stale = False

    def get(self, module: nn.Module, fold: Callable[[], BlockWeights]) -> BlockWeights:
        """What ``fold()`` makes of the current tensors of a module."""
        state = self._state
        if state is not None and not self._stale and state[1].is_current():
            return state[0]
        with torch.no_grad():
            weights = fold()
        if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            return weights
        current = ModuleState(module)
        if not current.tensors:  # a replica of DataParallel, whose parameters are no parameters
            return weights
        if state is not None and state[0].fits(weights):
            state[0].copy_(weights)
            weights = state[0]
        self._state, self._stale = (weights, current), False
        return weights

    def mark_stale(self) -> None:
        """Has the weights folded again when they are next asked for."""
        self._stale = True

    def __reduce__(self) -> tuple[type[FoldedCache], tuple[()]]:
        return FoldedCache, ()  # a copy of the module has tensors of its own
