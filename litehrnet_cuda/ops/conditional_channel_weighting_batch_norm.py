"""The conditional channel weighting block (paper, figure 2b) for training: five launches forward, eight backward."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from litehrnet_cuda.ops.registration import accumulate_dtype, empty_like_map, register_training


def conditional_channel_weighting_batch_norm(
    x: Sequence[Tensor],
    weight1: Tensor,
    weight2: Tensor,
    depthwise_weight: Sequence[Tensor],
    gate_weight1: Sequence[Tensor],
    gate_bias1: Sequence[Tensor],
    gate_weight2: Sequence[Tensor],
    gate_bias2: Sequence[Tensor],
    norm_weight: Sequence[Tensor],
    norm_bias: Sequence[Tensor],
    running_mean: Sequence[Tensor] = (),
    running_var: Sequence[Tensor] = (),
    training: bool = True,
    eps: float = 1e-5,
) -> tuple[list[Tensor], Tensor]:
    """The block of :func:`conditional_channel_weighting`, with a batch norm behind each of its convolutions.

    The batch norms are those behind ``weight1``, behind ``weight2``, and behind each branch's ``depthwise_weight``, in
    this order. R and S are hidden widths, C is the sum of the branches' C_i, halves of the maps' channels. The weight
    of a ``Conv2d`` is passed as ``conv.weight.flatten(1)``, that of a depthwise one as ``conv.weight[:, 0]``.
    Parameters are fp32 whatever the maps are,
    fp64 for fp64 maps; sums are taken in the same. Kept for the backward pass are, beside the arguments, half of the
    size of ``x``, and what lies at the lowest resolution. A second derivative is refused.

    Args:
        x: 1 to 4 branches ``[N, 2 C_i, H_i, W_i]``, from high to low resolution; fp32, fp16, bf16 or fp64, one dtype.
        weight1: ``[R, C]``.
        weight2: ``[C, R]``.
        depthwise_weight: for each branch ``[C_i, 3, 3]``.
        gate_weight1: for each branch ``[S_i, C_i]``.
        gate_bias1: for each branch ``[S_i]``.
        gate_weight2: for each branch ``[C_i, S_i]``.
        gate_bias2: for each branch ``[C_i]``.
        norm_weight, norm_bias: ``[R]``, ``[C]``, then for each branch ``[C_i]``.
        running_mean, running_var: of the same shapes; read without ``training`` alone, never written: see
            :func:`update_running_statistics`.
        training: normalise by the batch's statistics, and pass gradients through them.
        eps: added to variances, the same for all norms.

    Returns:
        A tensor of the shape, dtype and memory format of each branch; and the batch's statistics
        ``[3, R + C + sum of C_i]``, rows mean, biased and unbiased variance, without gradient, and without columns
        where not ``training``. In training :func:`update_running_statistics` takes them afterwards.

    Raises:
        RuntimeError: for arguments that do not fit, a batch with a single value a channel, or if the native library or
            a kernel for the device is missing.
    """
    y, statistics, _ = _op(
        *(list(x), weight1, weight2, list(depthwise_weight), list(gate_weight1), list(gate_bias1), list(gate_weight2)),
        *(list(gate_bias2), list(norm_weight), list(norm_bias), list(running_mean), list(running_var), training, eps),
    )
    return y, statistics


def _fake(
    x: list[Tensor], weight1: Tensor, *rest: list[Tensor] | Tensor | float
) -> tuple[list[Tensor], Tensor, list[Tensor]]:
    training = rest[-2]
    n, _, height, width = x[-1].shape
    hidden, channels = weight1.shape
    accumulate = accumulate_dtype(x[0])
    saved = [
        x[0].new_empty((n, hidden, height, width), dtype=accumulate),
        x[0].new_empty((n, channels, height, width)),
        *(s.new_empty((n, s.shape[1] // 2, *s.shape[2:])) for s in x),
    ]
    statistics = x[0].new_empty((3, hidden + 2 * channels if training else 0), dtype=accumulate)
    return [empty_like_map(s, s.shape[1]) for s in x], statistics, saved


_op = register_training("conditional_channel_weighting_batch_norm", _fake)
