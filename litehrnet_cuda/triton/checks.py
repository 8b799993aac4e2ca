"""Checks of arguments, in the words of the native library's adapters."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from litehrnet_cuda.backends import is_interpreted
from litehrnet_cuda.errors import InputError

_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_MAX_BRANCHES = 4
_MAX_SIZE = 2**15 - 1  # products of two sizes fit into 32 bits


def check_branches(op: str, x: Sequence[Tensor]) -> None:
    """Raises InputError unless ``x`` is 1 to 4 maps ``[N, C_i, H_i, W_i]`` of one batch size, dtype and device."""
    if not 1 <= len(x) <= _MAX_BRANCHES:
        raise InputError(f"{op}: x: expected 1 to {_MAX_BRANCHES} branches, got {len(x)}")
    if x[0].dtype not in _DTYPES:
        raise InputError(f"{op}: x: expected float32, float16, bfloat16 or float64, got {x[0].dtype}")
    device = "cpu" if is_interpreted() else "cuda"
    if x[0].device.type != device:
        raise InputError(f"{op}: x: expected tensors on {device}, got one on {x[0].device}")
    for i, branch in enumerate(x):
        name, shape = f"x[{i}]", list(branch.shape)
        if branch.dim() != 4:
            raise InputError(f"{op}: {name}: expected shape [N, C, H, W], got {shape}")
        _check_like(op, name, branch, x[0])
        if shape[0] != x[0].shape[0]:
            raise InputError(f"{op}: {name}: expected batch size {x[0].shape[0]} as x[0] has, got {shape[0]}")
        if min(shape[1:]) < 1:
            raise InputError(f"{op}: {name}: expected C, H and W of at least 1, got {shape}")
        if max(shape[1:]) > _MAX_SIZE:
            raise InputError(f"{op}: {name}: expected C, H and W of at most {_MAX_SIZE}, got {shape}")


def check_inference(op: str, tensors: Sequence[Tensor]) -> None:
    """Raises InputError if autograd would record what is done with these tensors."""
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        raise InputError(
            f"{op}: expected no tensor that requires a gradient, because the Triton kernels are for inference; "
            f"call it under torch.no_grad(), or take litehrnet_cuda.reference, which has gradients"
        )


def check_weighting(
    op: str,
    x: Sequence[Tensor],
    channels: Sequence[int],
    matrices: Sequence[Tensor],
) -> None:
    """Raises InputError unless both matrices and their biases fit branches of these channels."""
    total = sum(channels)
    hidden = hidden_channels(op, "weight1", matrices[0], total)
    shapes = {"weight1": [hidden, total], "bias1": [hidden], "weight2": [total, hidden], "bias2": [total]}
    for (name, shape), tensor in zip(shapes.items(), matrices, strict=True):
        check_parameter(op, name, tensor, shape, x[0])


def hidden_channels(op: str, name: str, weight: Tensor, channels: int) -> int:
    """Rows of a first matrix ``[R, channels]``; raises InputError if it is none."""
    if weight.dim() != 2 or len(weight) == 0:
        raise InputError(f"{op}: {name}: expected shape [R, {channels}], got {list(weight.shape)}")
    return len(weight)


def check_parameter(op: str, name: str, tensor: Tensor, shape: Sequence[int], first: Tensor) -> None:
    """Raises InputError unless a tensor has a shape, and the device and dtype of the first branch."""
    _check_like(op, name, tensor, first)
    if list(tensor.shape) != list(shape):
        raise InputError(f"{op}: {name}: expected shape {list(shape)}, got {list(tensor.shape)}")


def check_count(op: str, name: str, tensors: Sequence[Tensor], branches: int) -> None:
    """Raises InputError unless there is a tensor for each branch."""
    if len(tensors) != branches:
        raise InputError(f"{op}: {name}: expected {branches} tensors, one per branch, got {len(tensors)}")


def _check_like(op: str, name: str, tensor: Tensor, first: Tensor) -> None:
    if tensor.device != first.device:
        raise InputError(f"{op}: {name}: expected the device of x[0], {first.device}, got {tensor.device}")
    if tensor.dtype != first.dtype:
        raise InputError(f"{op}: {name}: expected the dtype of x[0], {first.dtype}, got {tensor.dtype}")
