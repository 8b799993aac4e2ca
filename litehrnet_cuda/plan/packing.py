"""Weights as steps read them: batch norms folded, rows and columns in the order of planes, stacked, added up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from litehrnet_cuda.nn.layers import ConvModule
from litehrnet_cuda.plan.operands import Filter, Matrix

ACCUMULATE = {
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float32: torch.float32,
    torch.float64: torch.float64,
}


class Folded(NamedTuple):
    """Weight, in the convolution's shape, and bias in fp64, so that packing rounds once, at its end."""

    weight: Tensor
    bias: Tensor

    @property
    def matrix(self) -> Tensor:
        """The weight of a 1x1 convolution as ``[rows, columns]``."""
        return self.weight.flatten(1)


def fold(conv: Any, norm: Any = None) -> Folded:
    """``W' = W g / sqrt(v + eps)``, ``b' = (b - m) g / sqrt(v + eps) + beta``: a convolution and its batch norm."""
    weight = conv.weight.detach().cpu().double()
    bias = weight.new_zeros(len(weight)) if conv.bias is None else conv.bias.detach().cpu().double()
    if norm is not None:
        mean, variance, gain, shift = (
            t.detach().cpu().double() for t in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
        )
        scale = gain * torch.rsqrt(variance + norm.eps)
        weight, bias = weight * scale[:, None, None, None], (bias - mean) * scale + shift
    return Folded(weight, bias)


def fold_module(module: ConvModule) -> Folded:
    """A convolution with the batch norm that it may have."""
    return fold(module.conv, module.bn if module.with_norm else None)


def fold_layers(layers: nn.Sequential) -> list[Folded]:
    """The convolutions in a plain list of convolutions, batch norms and ReLUs, every one with its batch norm."""
    parts = list(layers)
    return [fold(part, parts[i + 1]) for i, part in enumerate(parts) if isinstance(part, nn.Conv2d)]


class Packing:
    """The weights of a plan by name, as they accumulate.

    Weights are in the plan's type. Biases, which are few, are in its accumulation type, as are the sums that they are
    added to.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.tensors: dict[str, Tensor] = {}

    def weight(self, name: str, value: Tensor) -> str:
        """Stores a weight and returns its name."""
        return self._store(name, value, self.dtype)

    def bias(self, name: str, value: Tensor) -> str:
        """Stores a bias and returns its name."""
        return self._store(name, value, ACCUMULATE[self.dtype])

    def matrix(self, name: str, conv: Folded, rows: Sequence[int], columns: Sequence[int]) -> Matrix:
        """A 1x1 convolution with its rows and columns in the given orders of channels."""
        return self.stacked_matrix(name, conv.matrix[rows][:, columns], conv.bias[rows])

    def stacked_matrix(self, name: str, weight: Tensor, bias: Tensor) -> Matrix:
        """Rows, columns and bias as they are."""
        return Matrix(self.weight(f"{name}.weight", weight), self.bias(f"{name}.bias", bias))

    def filter(self, name: str, conv: Folded, channels: Sequence[int]) -> Filter:
        """A depthwise convolution with its channels in the given order."""
        weight = self.weight(f"{name}.weight", conv.weight.squeeze(1)[channels])
        return Filter(weight, self.bias(f"{name}.bias", conv.bias[channels]))

    def _store(self, name: str, value: Tensor, dtype: torch.dtype) -> str:
        assert name not in self.tensors, name
        self.tensors[name] = value.to(dtype).contiguous()
        return name
