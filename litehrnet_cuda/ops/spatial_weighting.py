"""Spatial weighting (paper, section 3.2) of all branches, with concatenation and channel shuffle, in one launch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from litehrnet_cuda.ops.registration import empty_like_map, register, register_autograd, register_backward


def spatial_weighting(
    x: Sequence[Tensor],
    kept: Sequence[Tensor],
    weight1: Sequence[Tensor],
    bias1: Sequence[Tensor],
    weight2: Sequence[Tensor],
    bias2: Sequence[Tensor],
) -> list[Tensor]:
    """Weights each channel by a gate computed from all channels' means: ``x * sigmoid(W2 relu(W1 mean(x) + b1) + b2)``.

    Differentiable once, with respect to all arguments. The backward pass needs ``x`` and the weights, and keeps nothing
    else: it computes the gates again.

    Args:
        x: 1 to 4 branches ``[N, C_i, H_i, W_i]``; fp32, fp16, bf16 or fp64, one dtype.
        kept: empty, or for each branch a tensor of its shape that is concatenated before the weighted channels
            and shuffled with them in two groups.
        weight1: for each branch ``[R_i, C_i]``.
        bias1: for each branch ``[R_i]``.
        weight2: for each branch ``[C_i, R_i]``.
        bias2: for each branch ``[C_i]``. These four have the dtype of ``x``, or fp32 beside fp16 and bf16; gradients
            are summed in fp32 (fp64 for fp64) and have each weight's own dtype.

    Returns:
        for each branch ``[N, C_i, H_i, W_i]``, or with ``kept`` ``[N, 2 C_i, H_i, W_i]``: channel 2c is channel c of
        ``kept``, channel 2c + 1 is weighted channel c. Dtype and memory format are those of ``x``.

    Raises:
        RuntimeError: for arguments that do not fit, or if the native library or a kernel for the device is missing.
    """
    y: list[Tensor] = _op(list(x), list(kept), list(weight1), list(bias1), list(weight2), list(bias2))
    return y


def _fake(
    x: list[Tensor],
    kept: list[Tensor],
    weight1: list[Tensor],
    bias1: list[Tensor],
    weight2: list[Tensor],
    bias2: list[Tensor],
) -> list[Tensor]:
    return [empty_like_map(s, s.shape[1] * (2 if kept else 1)) for s in x]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, kept, *weights = inputs
    ctx.set_materialize_grads(False)
    ctx.branches, ctx.has_kept = len(x), len(kept) > 0
    ctx.save_for_backward(*x, *(w for group in weights for w in group))


def _backward(ctx: Any, grad_y: Sequence[Tensor | None]) -> Any:
    count, saved = ctx.branches, ctx.saved_tensors  # once: under checkpointing, asking computes them
    x, *weights = (list(saved[i * count : (i + 1) * count]) for i in range(5))
    channels = 2 if ctx.has_kept else 1
    grad_y = [
        s.new_zeros(s.shape[0], s.shape[1] * channels, *s.shape[2:]) if g is None else g
        for g, s in zip(grad_y, x, strict=True)
    ]
    grads = _backward_op(grad_y, x, ctx.has_kept, *weights)
    groups = [grads[i : i + count] for i in range(0, len(grads), count)]
    return (*groups,) if ctx.has_kept else (groups[0], [], *groups[1:])


def _fake_backward(_grad_y: list[Tensor], x: list[Tensor], has_kept: bool, *weights: list[Tensor]) -> list[Tensor]:
    maps = [empty_like_map(s, s.shape[1]) for _ in range(2 if has_kept else 1) for s in x]
    return maps + [w.new_empty(w.shape) for group in weights for w in group]


_op = register("spatial_weighting", _fake)
_backward_op = register_backward("spatial_weighting", _fake_backward)
register_autograd("spatial_weighting", _setup_context, _backward)
