"""Sequences of convolutions and batch norms as fused ops: what stem, transitions, fuse paths and head consist of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from litehrnet_cuda.backends import select_backend
from litehrnet_cuda.nn.dispatch import has_plain_parts, is_transformed, training_dtype
from litehrnet_cuda.nn.layers import ConvModule, DepthwiseSeparableConvModule
from litehrnet_cuda.nn.norms import NormGroup


def run_layers(modules: Sequence[nn.Module], x: Tensor) -> Tensor:
    """Runs modules one after the other, on a CPU convolutions with their batch norms as fused ops.

    Fused are a depthwise 3x3 and the 1x1 convolution behind it, or a 1x1 convolution by itself, each with its batch
    norm, or a batch norm behind another convolution, and a ReLU behind the last. All else runs as it is.
    """
    if not fuses_layers(modules, [x]):
        for module in modules:
            x = module(x)
        return x
    return run_fused_layers(modules, x)


def run_fused_layers(modules: Sequence[nn.Module], x: Tensor) -> Tensor:
    """The same, where :func:`fuses_layers` has said that it can be done."""
    layers = list(_leaves(modules))
    while layers:
        if _is_depthwise(layers) and _is_pointwise(layers[2:]):
            count = 4
        elif _is_pointwise(layers):
            count = 2
        elif isinstance(layers[0], nn.BatchNorm2d):
            count = 1
        else:
            x = layers.pop(0)(x)
            continue
        relu = len(layers) > count and isinstance(layers[count], nn.ReLU)
        x = _run_fused(layers[:count], relu, x)
        layers = layers[count + relu :]
    return x


def fuses_layers(modules: Iterable[nn.Module], x: Sequence[Tensor]) -> bool:
    """Whether there are fused ops for these maps, and nothing in these modules wants to see what passes."""
    if torch.compiler.is_compiling() or is_transformed():
        return False
    if any(s.device.type != "cpu" or s.dim() != 4 or s.numel() == 0 for s in x):
        return False
    if torch.is_autocast_enabled("cpu") or select_backend("cpu") != "cpu":
        return False
    whole = nn.ModuleList(modules)
    weight = next(whole.parameters(), None)
    return weight is not None and all(s.dtype == weight.dtype for s in x) and has_plain_parts(whole)


def _leaves(modules: Iterable[nn.Module | None]) -> Iterator[nn.Module]:
    """The layers in the order in which they are called, which is not always that of ``children()``."""
    for module in modules:
        if type(module) is nn.Sequential:
            yield from _leaves(module._modules.values())
        elif type(module) is ConvModule:
            norm = [module.bn] if module.with_norm else []
            yield from _leaves([module.conv, *norm, *([module.activate] if module.with_activation else [])])
        elif type(module) is DepthwiseSeparableConvModule:
            yield from _leaves([module.depthwise_conv, module.pointwise_conv])
        elif module is not None and type(module) is not nn.Identity:
            yield module


def _is_convolution(layers: Sequence[nn.Module], size: int, strides: tuple[int, ...]) -> bool:
    if len(layers) < 2 or not isinstance(layers[0], nn.Conv2d) or not isinstance(layers[1], nn.BatchNorm2d):
        return False
    conv = layers[0]
    return (
        conv.kernel_size == (size, size)
        and conv.padding == (size // 2, size // 2)
        and conv.stride in [(stride, stride) for stride in strides]
        and conv.dilation == (1, 1)
        and conv.padding_mode == "zeros"
        and conv.bias is None
    )


def _is_depthwise(layers: Sequence[Any]) -> bool:
    conv = layers[0]
    return _is_convolution(layers, 3, (1, 2)) and bool(conv.groups == conv.in_channels == conv.out_channels)


def _is_pointwise(layers: Sequence[Any]) -> bool:
    return _is_convolution(layers, 1, (1,)) and bool(layers[0].groups == 1)


def _run_fused(layers: Sequence[Any], relu: bool, x: Tensor) -> Tensor:
    convs = layers[:-1:2]
    norms = NormGroup.of(layer for layer in layers if layer not in convs)
    if norms is None:
        for layer in layers:
            x = layer(x)
        return x.relu() if relu else x
    from litehrnet_cuda.functional import separable_conv_batch_norm

    weights = [conv.weight for conv in convs]
    dtype = training_dtype(norms.norms[0].weight)
    y: Tensor
    y, statistics = separable_conv_batch_norm(
        *(x, [weight.squeeze(1).to(dtype) for weight in weights[:-1]]),
        *([weight.flatten(1).to(dtype) for weight in weights[-1:]], *norms.parameters(dtype)),
        stride=convs[0].stride[0] if convs else 1,
        relu=relu,
        training=norms.training,
        eps=norms.eps,
    )
    norms.update(statistics)
    return y
