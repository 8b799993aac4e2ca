"""The convolution layers that all blocks of Lite-HRNet are made of.

Attribute names are those of the official repository (mmcv's ``ConvModule``), because the names of the
parameters in published checkpoints follow from them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from litehrnet_cuda.backends import select_backend, use_backend
from litehrnet_cuda.nn.statistics import kept_statistics


class ConvModule(nn.Module):
    """Convolution, then batch norm, then activation; the last two are optional.

    ``padding`` keeps the size at stride 1. The convolution has a bias only where no batch norm follows.

    Shape:
        ``[N, in_channels, H, W]`` to ``[N, out_channels, ceil(H / stride), ceil(W / stride)]``
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        norm: bool = True,
        activation: type[nn.Module] | None = nn.ReLU,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=not norm
        )
        if norm:
            self.bn = nn.BatchNorm2d(out_channels)
        self.with_norm = norm
        if activation is not None:
            self.activate = activation()
        self.with_activation = activation is not None

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.with_norm:
            x = self.bn(x)
        if self.with_activation:
            x = self.activate(x)
        return x


def depthwise_conv(channels: int, stride: int = 1) -> ConvModule:
    """Depthwise 3x3 convolution with batch norm and no activation, the only spatial filter of Lite-HRNet."""
    return ConvModule(channels, channels, 3, stride=stride, groups=channels, activation=None)


class DepthwiseSeparableConvModule(nn.Module):
    """Depthwise 3x3 with batch norm, then pointwise with batch norm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.depthwise_conv = depthwise_conv(in_channels)
        self.pointwise_conv = ConvModule(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.pointwise_conv(self.depthwise_conv(x))
        return y


def separable_layers(in_channels: int, out_channels: int, stride: int = 1, *, relu: bool = True) -> list[nn.Module]:
    """The same as a plain list of layers, as transitions and fuse paths hold it."""
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, in_channels, 3, stride, 1, groups=in_channels, bias=False),
        nn.BatchNorm2d(in_channels),
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        nn.BatchNorm2d(out_channels),
    ]
    return [*layers, nn.ReLU()] if relu else layers


def concat_shuffle(x1: Tensor, x2: Tensor) -> Tensor:
    """Concatenates along the channels and shuffles into two groups.

    Args:
        x1: ``[N, C1, H, W]``.
        x2: ``[N, C2, H, W]``, with C1 + C2 even.

    Returns:
        ``[N, C1 + C2, H, W]``; for C1 = C2, channel 2c is channel c of ``x1``, channel 2c + 1 is channel c of ``x2``.
    """
    if x1.shape[1] == x2.shape[1]:  # then shuffling means interleaving, which takes one copy instead of two
        return torch.stack((x1, x2), dim=2).flatten(1, 2)
    n, _, height, width = x1.shape
    return torch.cat((x1, x2), dim=1).view(n, 2, -1, height, width).transpose(1, 2).flatten(1, 2)


def pool_to_size(x: Tensor, size: tuple[int, int]) -> Tensor:
    """``adaptive_avg_pool2d`` to ``size``; where the windows are equal, through ``avg_pool2d``.

    The two agree, but only ``avg_pool2d`` is fast on a CPU, has a deterministic backward pass on a GPU, and exports.
    """
    height, width = x.shape[-2:]
    if height % size[0] == 0 and width % size[1] == 0:
        return F.avg_pool2d(x, (height // size[0], width // size[1]))
    return F.adaptive_avg_pool2d(x, size)


def run_block(block: nn.Module, forward: Callable[..., Any], x: Any, with_cp: bool) -> Any:
    """Runs ``forward(x)``, keeping only its input for the backward pass if ``with_cp``.

    Both evaluations take the same backend, whatever is selected where and in which thread the backward pass runs.
    The second one leaves running statistics alone, so that training with and without checkpointing gives the same
    model.

    Args:
        block: the module that ``forward`` belongs to.
        forward: the computation.
        x: its input, a tensor or a list of tensors.
        with_cp: checkpoint, provided that gradients are recorded.
    """
    if not (with_cp and torch.is_grad_enabled()):
        return forward(x)
    backend = select_backend((x if isinstance(x, Tensor) else x[0]).device.type)

    def evaluate(x: Any) -> Any:
        with use_backend(backend):
            return forward(x)

    return checkpoint(evaluate, x, use_reentrant=False, context_fn=lambda: (nullcontext(), kept_statistics(block)))
