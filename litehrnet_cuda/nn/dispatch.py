"""When modules call fused ops rather than their parts.

``litehrnet_cuda.functional`` is imported where it is called: it loads the native library, which plain PyTorch does
without.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from litehrnet_cuda.backends import select_backend

MAX_BRANCHES = 4
# What kernels hold in a block's shared memory, in fp64: rows of a map; in training also the rows' gates; hidden values.
MAX_WIDTH = 1900
MAX_TRAINING_WIDTH = 900
MAX_HIDDEN = 500


def has_kernels_for(module: nn.Module, x: Sequence[Tensor], weight: Tensor) -> bool:
    """Whether a backend has kernels for these maps, and no hook on a part of the module wants to see what passes.

    Args:
        module: what would be fused.
        x: its input, branch by branch.
        weight: of its first convolution, whose rows are the hidden values.
    """
    if len(x) > MAX_BRANCHES or max(s.shape[-1] for s in x) > MAX_WIDTH or len(weight) > MAX_HIDDEN:
        return False
    device = x[0].device.type
    if x[0].dtype != weight.dtype and not torch.is_autocast_enabled(device):
        return False  # plain PyTorch says what is wrong
    return bool(_has_fused_backend(device)) and not any(
        part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks
        for part in module.modules()
        if part is not module
    )


def are_recorded(x: Sequence[Tensor], module: nn.Module) -> bool:
    """Whether autograd records what the module does with a list of tensors."""
    return torch.is_grad_enabled() and any(t.requires_grad for t in (*x, *module.parameters()))


def training_dtype(weight: Tensor) -> torch.dtype:
    """The dtype that ops for training take parameters in: fp32 for all but fp64."""
    return torch.promote_types(weight.dtype, torch.float32)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _has_fused_backend(device_type: str) -> bool:
    """What is compiled keeps the backend that was selected when it was compiled."""
    return select_backend(device_type) != "reference"
