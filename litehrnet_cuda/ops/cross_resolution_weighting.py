"""Cross-resolution weighting (paper, section 3.2) in one launch."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from litehrnet_cuda.ops.registration import empty_like_map, register_folded


def cross_resolution_weighting(
    x: Sequence[Tensor], weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor
) -> list[Tensor]:
    """Weights every position of every branch by a gate computed across branches.

    ``y_i = x_i * upsample(sigmoid(W2 relu(W1 pool(x) + b1) + b2))_i``, where ``pool`` brings all branches to the last
    one's size (adaptive average) and concatenates them, and ``upsample`` takes the nearest position.

    Args:
        x: 1 to 4 branches ``[N, C_i, H_i, W_i]``, from high to low resolution; fp32, fp16, bf16 or fp64, one dtype.
        weight1: ``[R, C]`` with C the sum of the branches' channels, batch norm folded.
        bias1: ``[R]``.
        weight2: ``[C, R]``; a transposed view of a contiguous ``[R, C]`` is used without a copy.
        bias2: ``[C]``.

    Returns:
        a tensor of the shape, dtype and memory format of each branch.

    Raises:
        RuntimeError: for arguments that do not fit, or if the native library or a kernel for the device is missing.
    """
    y: list[Tensor] = _op(list(x), weight1, bias1, weight2, bias2)
    return y


def _fake(x: list[Tensor], weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> list[Tensor]:
    return [empty_like_map(s, s.shape[1]) for s in x]


_op = register_folded(
    "cross_resolution_weighting",
    _fake,
    unfold=lambda weight1, bias1, weight2, bias2: ([weight1, weight2], [bias1, bias2]),
    fold=lambda weights, biases: (weights[0], biases[0], weights[1], biases[1]),
)
