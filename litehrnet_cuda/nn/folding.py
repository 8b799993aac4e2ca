"""Batch norms folded into the convolutions before them, and kept until a parameter changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from litehrnet_cuda.nn.layers import ConvModule

Folded = TypeVar("Folded")
Pair = tuple[Tensor, Tensor]  # weight and bias


def fold_batch_norm(module: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution that does what a convolution and its batch norm do in evaluation mode.

    ``W' = W g / sqrt(v + eps)``, ``b' = (b - m) g / sqrt(v + eps) + beta``, computed in at least fp32.

    Returns:
        weight in the convolution's shape and bias ``[out_channels]``, in the convolution's dtype, without gradient.
    """
    assert isinstance(module, ConvModule)
    conv = module.conv
    dtype = torch.promote_types(conv.weight.dtype, torch.float32)
    weight = conv.weight.detach().to(dtype)
    bias = weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias.detach().to(dtype)
    if module.with_norm:
        norm = module.bn
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight.detach().to(dtype) * torch.rsqrt(norm.running_var.to(dtype) + norm.eps)
        weight = weight * scale[:, None, None, None]
        bias = (bias - norm.running_mean.to(dtype)) * scale + norm.bias.detach().to(dtype)
    return weight.to(conv.weight.dtype), bias.to(conv.weight.dtype)


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


class FoldedCache(Generic[Folded]):
    """What a function makes of a module's parameters and buffers, made again only when one of them has changed.

    A change is another tensor in the place of one (``load_state_dict(assign=True)``, ``to`` another device or dtype),
    or one written to in place (an optimizer's step, ``load_state_dict``), which PyTorch counts in ``_version``. Writes
    through ``.data`` are not counted: whoever makes them calls ``train()`` or ``eval()`` after it, which forgets.
    """

    def __init__(self) -> None:
        self._sources: list[tuple[Mapping[str, Tensor | None], str, Tensor, int, object]] = []
        self._value: Folded | None = None

    def get(self, module: nn.Module, fold: Callable[[], Folded]) -> Folded:
        """What ``fold()`` makes of the current tensors of a module."""
        if self._value is None or not self._sources or not self._is_current():
            self._sources = [
                (tensors, name, tensor, tensor.data_ptr(), _version(tensor))
                for part in module.modules()
                for tensors in (part._parameters, part._buffers)
                for name, tensor in tensors.items()
                if tensor is not None
            ]
            with torch.no_grad():
                self._value = fold()
        return self._value

    def _is_current(self) -> bool:
        return all(
            tensors.get(name) is tensor and tensor.data_ptr() == pointer and _version(tensor) == version
            for tensors, name, tensor, pointer, version in self._sources
        )

    def __reduce__(self) -> tuple[type[FoldedCache[Folded]], tuple[()]]:
        return FoldedCache, ()  # a copy of the module has tensors of its own


def _version(tensor: Tensor) -> object:
    """Equal while a tensor is not written to; for an inference tensor, which has no count, never."""
    return object() if tensor.is_inference() else tensor._version
