"""A depthwise and a 1x1 convolution, or the latter alone, each with its batch norm, for training on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from litehrnet_cuda.ops.registration import (
    accumulate_dtype,
    cast_maps,
    empty_like_map,
    register,
    register_autograd,
    register_backward,
    with_eager_autograd,
)

_NAME = "separable_conv_batch_norm"


def separable_conv_batch_norm(
    x: Tensor,
    depthwise_weight: Sequence[Tensor],
    weight: Sequence[Tensor],
    norm_weight: Sequence[Tensor],
    norm_bias: Sequence[Tensor],
    running_mean: Sequence[Tensor] = (),
    running_var: Sequence[Tensor] = (),
    stride: int = 1,
    relu: bool = False,
    training: bool = True,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor]:
    """``norm2(weight norm1(depthwise(x)))``, or its positive part; one convolution or both may be left out.

    Parameters are fp32 whatever the maps are, fp64 for fp64 maps; sums are taken in the same. Kept for the backward
    pass are, beside the arguments, what the convolutions return. Twice differentiable it is not.

    Args:
        x: ``[N, C, H, W]``; fp32, fp16, bf16 or fp64.
        depthwise_weight: empty, or one ``[C, 3, 3]``, padding 1.
        weight: one ``[K, C]``; or empty, then ``depthwise_weight`` is too: a batch norm alone.
        norm_weight, norm_bias: ``[C]``, unless there is no depthwise convolution, then ``[K]``; ``[C]`` where nothing
            is mixed.
        running_mean, running_var: of the same shapes; read without ``training`` alone, never written: see
            :func:`update_running_statistics`.
        stride: of the depthwise convolution, 1 or 2.
        relu: whether the positive part is returned.
        training: normalise by the batch's statistics, and pass gradients through them.
        eps: added to variances.

    Returns:
        ``[N, K, ceil(H / stride), ceil(W / stride)]`` of the dtype and memory format of ``x``; and the batch's
        statistics ``[3, channels of the norms]``, rows mean, biased and unbiased variance, without columns where not
        ``training``.

    Raises:
        RuntimeError: for arguments that do not fit, a batch with a single value a channel, or if the native library or
            a kernel for the device is missing.
    """
    norms = (list(norm_weight), list(norm_bias), list(running_mean), list(running_var))
    y, statistics, _ = _op(x, list(depthwise_weight), list(weight), *norms, stride, relu, training, eps)
    return y, statistics


def _fake(
    x: Tensor,
    depthwise_weight: list[Tensor],
    weight: list[Tensor],
    norm_weight: list[Tensor],
    norm_bias: list[Tensor],
    running_mean: list[Tensor],
    running_var: list[Tensor],
    stride: int,
    relu: bool,
    training: bool,
    eps: float,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    n, channels, height, width = x.shape
    size = (-(-height // stride), -(-width // stride))
    saved = [x.new_empty((n, channels, *size)) for _ in depthwise_weight]
    outputs = len(weight[0]) if weight else channels
    saved.extend(x.new_empty((n, outputs, *size)) for _ in weight)
    columns = outputs + sum(len(w) for w in depthwise_weight)
    statistics = x.new_empty((3, columns if training else 0), dtype=accumulate_dtype(x))
    y = x.new_empty((n, outputs, *size))
    if empty_like_map(x, channels).is_contiguous():
        return y, statistics, saved
    return y.contiguous(memory_format=torch.channels_last), statistics, saved


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, depthwise_weight, weight, norm_weight, norm_bias, running_mean, running_var, *ctx.options = inputs
    _, statistics, saved = output
    ctx.mark_non_differentiable(statistics, *saved)
    ctx.set_materialize_grads(False)
    ctx.filters, ctx.mixes = len(depthwise_weight), len(weight)
    ctx.no_gradients = [None] * len(running_mean), [None] * len(running_var)
    ctx.running = 0 if ctx.options[2] else len(norm_weight)
    running = () if ctx.options[2] else (*running_mean, *running_var)
    ctx.save_for_backward(x, statistics, *depthwise_weight, *weight, *norm_weight, *norm_bias, *saved, *running)


def _backward(ctx: Any, grad_y: Tensor | None, *_unused: Any) -> Any:
    x, statistics, *rest = ctx.saved_tensors
    norms = ctx.filters + 1

    def take(count: int) -> list[Tensor]:
        taken: list[Tensor] = rest[:count]
        del rest[:count]
        return taken

    depthwise_weight, weight = take(ctx.filters), take(ctx.mixes)
    norm_weight, norm_bias, saved = take(norms), take(norms), take(ctx.filters + ctx.mixes)
    running = take(ctx.running), take(ctx.running)
    if grad_y is None:
        return (
            None,
            [None] * ctx.filters,
            [None] * ctx.mixes,
            [None] * norms,
            [None] * norms,
            *ctx.no_gradients,
            *[None] * 4,
        )
    grads = _backward_op(
        *(grad_y, x, depthwise_weight, weight, norm_weight, norm_bias, *running, statistics, saved, *ctx.options)
    )
    mixed, first = 1 + ctx.filters, 1 + ctx.filters + ctx.mixes
    return (
        *(grads[0], grads[1:mixed], grads[mixed:first], grads[first : first + norms], grads[first + norms :]),
        *(*ctx.no_gradients, None, None, None, None),
    )


def _fake_backward(
    grad_y: Tensor,
    x: Tensor,
    depthwise_weight: list[Tensor],
    weight: list[Tensor],
    norm_weight: list[Tensor],
    norm_bias: list[Tensor],
    *_rest: Any,
) -> list[Tensor]:
    parameters = [*depthwise_weight, *weight, *norm_weight, *norm_bias]
    return [empty_like_map(x, x.shape[1]), *(p.new_empty(p.shape) for p in parameters)]


_op = register(_NAME, _fake, cast=cast_maps)
_backward_op = register_backward(_NAME, _fake_backward)
register_autograd(_NAME, _setup_context, _backward)
_op = with_eager_autograd(_op, _setup_context, _backward)
