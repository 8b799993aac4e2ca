"""Depthwise 3x3 convolution of all branches in one launch."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from litehrnet_cuda.ops.registration import empty_like_map, register_folded


def depthwise_conv(x: Sequence[Tensor], weight: Sequence[Tensor], bias: Sequence[Tensor]) -> list[Tensor]:
    """Filters every channel with a 3x3 kernel of its own, padding 1, stride 1.

    Args:
        x: 1 to 4 branches ``[N, C_i, H_i, W_i]``; fp32, fp16, bf16 or fp64, one dtype.
        weight: for each branch ``[C_i, 3, 3]``, batch norm folded.
        bias: for each branch ``[C_i]``.

    Returns:
        a tensor of the shape, dtype and memory format of each branch.

    Raises:
        RuntimeError: for arguments that do not fit, or if the native library or a kernel for the device is missing.
    """
    y: list[Tensor] = _op(list(x), list(weight), list(bias))
    return y


def _fake(x: list[Tensor], weight: list[Tensor], bias: list[Tensor]) -> list[Tensor]:
    return [empty_like_map(s, s.shape[1]) for s in x]


_op = register_folded(
    "depthwise_conv",
    _fake,
    unfold=lambda weight, bias: ([weight], bias),
    fold=lambda parameters, biases: (parameters[0], biases),
)
