"""Cross-resolution weighting (paper, section 3.2) for training: three launches forward, four backward."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from litehrnet_cuda.ops.registration import accumulate_dtype, empty_like_map, register_training


def cross_resolution_weighting_batch_norm(
    x: Sequence[Tensor],
    weight1: Tensor,
    weight2: Tensor,
    norm_weight: Sequence[Tensor],
    norm_bias: Sequence[Tensor],
    running_mean: Sequence[Tensor] = (),
    running_var: Sequence[Tensor] = (),
    training: bool = True,
    eps: float = 1e-5,
) -> tuple[list[Tensor], Tensor]:
    """Weights every position of every branch by a gate computed across branches, with a batch norm behind each matrix.

    ``y_i = x_i * upsample(sigmoid(norm2(W2 relu(norm1(W1 pool(x))))))_i``, with ``pool`` and ``upsample`` of
    :func:`cross_resolution_weighting`. R is the hidden width, C the sum of the branches' C_i. Parameters are fp32
    whatever the maps are, fp64 for fp64 maps; sums are taken in the same. Twice differentiable it is not.

    Args:
        x: 1 to 4 branches ``[N, C_i, H_i, W_i]``, from high to low resolution; fp32, fp16, bf16 or fp64, one dtype.
        weight1: ``[R, C]``.
        weight2: ``[C, R]``.
        norm_weight, norm_bias: ``[R]``, ``[C]``.
        running_mean, running_var: of the same shapes; read without ``training`` alone, never written: see
            :func:`update_running_statistics`.
        training: normalise by the batch's statistics, and pass gradients through them.
        eps: added to variances.

    Returns:
        A tensor of the shape, dtype and memory format of each branch; and the batch's statistics ``[3, R + C]``, rows
        mean, biased and unbiased variance, without columns where not ``training``.

    Raises:
        RuntimeError: for arguments that do not fit, a batch with a single value a channel, or if the native library or
            a kernel for the device is missing.
    """
    norms = (list(norm_weight), list(norm_bias), list(running_mean), list(running_var))
    y, statistics, _ = _op(list(x), weight1, weight2, *norms, training, eps)
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
    ]
    statistics = x[0].new_empty((3, hidden + channels if training else 0), dtype=accumulate)
    return [empty_like_map(s, s.shape[1]) for s in x], statistics, saved


_op = register_training("cross_resolution_weighting_batch_norm", _fake)
