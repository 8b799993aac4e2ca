"""Spatial weighting (paper, section 3.2) of all branches, with concatenation and channel shuffle, in one launch."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from litehrnet_cuda.ops.registration import empty_like_map, register


def spatial_weighting(
    x: Sequence[Tensor],
    kept: Sequence[Tensor],
    weight1: Sequence[Tensor],
    bias1: Sequence[Tensor],
    weight2: Sequence[Tensor],
    bias2: Sequence[Tensor],
) -> list[Tensor]:
    """Weights each channel by a gate computed from all channels' means: ``x * sigmoid(W2 relu(W1 mean(x) + b1) + b2)``.

    Args:
        x: 1 to 4 branches ``[N, C_i, H_i, W_i]``; fp32, fp16, bf16 or fp64, one dtype.
        kept: empty, or for each branch a tensor of its shape that is concatenated before the weighted channels
            and shuffled with them in two groups.
        weight1: for each branch ``[R_i, C_i]``.
        bias1: for each branch ``[R_i]``.
        weight2: for each branch ``[C_i, R_i]``.
        bias2: for each branch ``[C_i]``.

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


_op = register("spatial_weighting", _fake)
