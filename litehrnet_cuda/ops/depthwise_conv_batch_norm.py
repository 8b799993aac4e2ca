"""Depthwise 3x3 convolutions and batch norms of all branches for training: three launches forward, four backward."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from litehrnet_cuda.ops.registration import accumulate_dtype, empty_like_map, register_training


def depthwise_conv_batch_norm(
    x: Sequence[Tensor],
    weight: Sequence[Tensor],
    norm_weight: Sequence[Tensor],
    norm_bias: Sequence[Tensor],
    running_mean: Sequence[Tensor] = (),
    running_var: Sequence[Tensor] = (),
    training: bool = True,
    eps: float = 1e-5,
) -> tuple[list[Tensor], Tensor]:
    """Filters every channel with a 3x3 kernel of its own, padding 1, stride 1, and normalises it.

    Parameters are fp32 whatever the maps are, fp64 for fp64 maps; sums are taken in the same. Kept for the backward
    pass are, beside the arguments, the filtered maps. Twice differentiable it is not.

    Args:
        x: 1 to 4 branches ``[N, C_i, H_i, W_i]``; fp32, fp16, bf16 or fp64, one dtype.
        weight: for each branch ``[C_i, 3, 3]``.
        norm_weight, norm_bias: for each branch ``[C_i]``.
        running_mean, running_var: of the same shapes; read without ``training`` alone, never written: see
            :func:`update_running_statistics`.
        training: normalise by the batch's statistics, and pass gradients through them.
        eps: added to variances.

    Returns:
        A tensor of the shape, dtype and memory format of each branch; and the batch's statistics
        ``[3, sum of C_i]``, rows mean, biased and unbiased variance, without columns where not ``training``.

    Raises:
        RuntimeError: for arguments that do not fit, a batch with a single value a channel, or if the native library or
            a kernel for the device is missing.
    """
    y, statistics, _ = _op(
        *(list(x), list(weight), list(norm_weight), list(norm_bias), list(running_mean), list(running_var)),
        *(training, eps),
    )
    return y, statistics


def _fake(
    x: list[Tensor],
    weight: list[Tensor],
    norm_weight: list[Tensor],
    norm_bias: list[Tensor],
    running_mean: list[Tensor],
    running_var: list[Tensor],
    training: bool,
    eps: float,
) -> tuple[list[Tensor], Tensor, list[Tensor]]:
    channels = sum(s.shape[1] for s in x) if training else 0
    statistics = x[0].new_empty((3, channels), dtype=accumulate_dtype(x[0]))
    return [empty_like_map(s, s.shape[1]) for s in x], statistics, [s.new_empty(s.shape) for s in x]


_op = register_training("depthwise_conv_batch_norm", _fake)
