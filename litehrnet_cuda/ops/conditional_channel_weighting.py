"""The conditional channel weighting block (paper, figure 2b) in three launches."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from litehrnet_cuda.ops.registration import empty_like_map, register_folded


def conditional_channel_weighting(
    x: Sequence[Tensor],
    weight1: Tensor,
    bias1: Tensor,
    weight2: Tensor,
    bias2: Tensor,
    depthwise_weight: Sequence[Tensor],
    depthwise_bias: Sequence[Tensor],
    gate_weight1: Sequence[Tensor],
    gate_bias1: Sequence[Tensor],
    gate_weight2: Sequence[Tensor],
    gate_bias2: Sequence[Tensor],
) -> list[Tensor]:
    """The second half of every branch's channels is weighted across resolutions, filtered and gated; then shuffled.

    The same as ``cross_resolution_weighting``, ``depthwise_conv`` and ``spatial_weighting`` one after the other on the
    second halves, with the first halves as ``kept``, but the means that the last one needs come out of the second one.

    Args:
        x: 1 to 4 branches ``[N, 2 C_i, H_i, W_i]``, from high to low resolution; fp32, fp16, bf16 or fp64, one dtype.
        weight1, bias1, weight2, bias2: of
            :func:`~litehrnet_cuda.ops.cross_resolution_weighting.cross_resolution_weighting`.
        depthwise_weight, depthwise_bias: of :func:`~litehrnet_cuda.ops.depthwise_conv.depthwise_conv`.
        gate_weight1, gate_bias1, gate_weight2, gate_bias2: of
            :func:`~litehrnet_cuda.ops.spatial_weighting.spatial_weighting`.

    Returns:
        a tensor of the shape, dtype and memory format of each branch.

    Raises:
        RuntimeError: for arguments that do not fit, or if the native library or a kernel for the device is missing.
    """
    y: list[Tensor] = _op(
        *(list(x), weight1, bias1, weight2, bias2, list(depthwise_weight), list(depthwise_bias)),
        *(list(gate_weight1), list(gate_bias1), list(gate_weight2), list(gate_bias2)),
    )
    return y


def _fake(x: list[Tensor], *_weights: Tensor | list[Tensor]) -> list[Tensor]:
    return [empty_like_map(s, s.shape[1]) for s in x]


_op = register_folded(
    "conditional_channel_weighting",
    _fake,
    unfold=lambda weight1, bias1, weight2, bias2, filters, filter_biases, *gates: (
        [weight1, weight2, filters, *gates],
        [bias1, bias2, *filter_biases],
    ),
    fold=lambda parameters, biases: (
        *(parameters[0], biases[0], parameters[1], biases[1], parameters[2], biases[2:]),
        *parameters[3:],
    ),
)
