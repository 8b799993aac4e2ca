"""A sum of maps of several sizes, and its positive part, in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from litehrnet_cuda.ops.registration import (
    empty_like_map,
    register,
    register_autograd,
    register_backward,
    with_eager_autograd,
)


def weighted_sum(x: Sequence[Tensor], counts: Sequence[int], sum: bool = True, relu: bool = False) -> list[Tensor]:
    """``sum_j counts[j] upsample(x[j])``, maps of another size brought to the first one's (nearest), and its ReLU.

    Differentiable once; the backward pass keeps the positive part, if there is one, and no terms.

    Args:
        x: 1 to 8 terms ``[N, C, H_j, W_j]``; fp32, fp16, bf16 or fp64, one dtype.
        counts: how often each term counts.
        sum: whether the sum is returned.
        relu: whether its positive part is returned.

    Returns:
        what is asked for, in this order, each ``[N, C, H_0, W_0]`` of the dtype and memory format of ``x[0]``.

    Raises:
        RuntimeError: for arguments that do not fit, or if the native library or a kernel for the device is missing.
    """
    if not x:
        raise RuntimeError("weighted_sum: x: expected 1 to 8 terms, got 0")  # without a tensor there is nobody to ask
    y: list[Tensor] = _op(list(x), list(counts), sum, relu)
    return y


def _fake(x: list[Tensor], counts: list[int], sum: bool, relu: bool) -> list[Tensor]:
    return [empty_like_map(x[0], x[0].shape[1]) for _ in range(int(sum) + int(relu))]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    x, ctx.counts, ctx.sum, ctx.relu = inputs
    ctx.set_materialize_grads(False)
    ctx.sizes = [size for s in x for size in s.shape[-2:]]
    if ctx.relu:
        ctx.save_for_backward(output[-1])


def _backward(ctx: Any, grads: Sequence[Tensor | None]) -> Any:
    grad_sum = [g for g in grads[:1] if ctx.sum and g is not None]
    grad_y = [g for g in grads[-1:] if ctx.relu and g is not None]
    y = list(ctx.saved_tensors) if grad_y else []
    if not grad_sum and not grad_y:
        return [None] * len(ctx.counts), None, None, None
    return _backward_op(grad_sum, grad_y, y, ctx.sizes, ctx.counts), None, None, None


def _fake_backward(
    grad_sum: list[Tensor], grad_y: list[Tensor], y: list[Tensor], sizes: list[int], counts: list[int]
) -> list[Tensor]:
    first = (grad_sum or grad_y)[0]
    shapes = zip(sizes[::2], sizes[1::2], strict=True)
    return [first.new_empty((*first.shape[:2], height, width)) for height, width in shapes]


_op = register("weighted_sum", _fake)
_backward_op = register_backward("weighted_sum", _fake_backward)
register_autograd("weighted_sum", _setup_context, _backward)
_op = with_eager_autograd(_op, _setup_context, _backward)
