"""When modules call fused ops rather than their parts.

``litehrnet_cuda.functional`` is imported where it is called: it loads the native library, which plain PyTorch does
without.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.module import _has_any_global_hook

from litehrnet_cuda.backends import select_backend

_FUSED_BACKENDS = ("cuda", "cpu", "emulated")
_INFERENCE_BACKENDS = ("triton",)  # have blocks without gradients alone
MAX_BRANCHES = 4
# What kernels hold in a block's shared memory, in fp64: rows of a map; in training also the rows' gates; hidden
# values; means of channels.
MAX_WIDTH = 1900
MAX_TRAINING_WIDTH = 900
MAX_HIDDEN = 500
MAX_CHANNELS = 4000


def has_kernels_for(module: nn.Module, x: Sequence[Tensor], weight: Tensor, *, in_inference: bool = False) -> bool:
    """Whether a backend has kernels for these maps, and the module consists of what they replace and of nothing else.

    Args:
        module: what would be fused.
        x: its input, branch by branch.
        weight: of its first convolution, whose rows are the hidden values.
        in_inference: whether kernels without gradients would do.
    """
    if is_transformed() or not 1 <= len(x) <= MAX_BRANCHES or any(s.dim() != 4 or s.numel() == 0 for s in x):
        return False
    too_large = (
        max(s.shape[-1] for s in x) > MAX_WIDTH or sum(s.shape[1] for s in x) > MAX_CHANNELS or len(weight) > MAX_HIDDEN
    )
    device = x[0].device.type
    if too_large or (x[0].dtype != weight.dtype and not torch.is_autocast_enabled(device)):
        return False  # of another dtype plain PyTorch says what is wrong
    has_backend = has_fused_backend(device) or (in_inference and has_inference_backend(device))
    return bool(has_backend) and has_plain_parts(module)


# What kernels replace. Norms are looked at by NormGroup; parts with parts of their own are looked at through these.
_LAYERS = (nn.Conv2d, nn.ReLU, nn.Sigmoid, nn.AdaptiveAvgPool2d, nn.Identity)


def has_plain_parts(module: nn.Module) -> bool:
    """Whether no part has a hook, which wants to see what passes, or computes something of its own."""
    if _has_any_global_hook():  # type: ignore[no-untyped-call]
        return False
    for part in module.modules():
        if part is module:
            continue
        if part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks:
            return False
        if "forward" in vars(part):
            return False
        if part._modules or isinstance(part, _BatchNorm):
            continue
        if not any(isinstance(part, layer) and type(part).forward is layer.forward for layer in _LAYERS):
            return False
    return True


def is_transformed() -> bool:
    """Whether something else than autograd looks on, which knows nothing of our ops: it shall see plain PyTorch.

    That are exports and traces, whose results run elsewhere, forward-mode gradients, and ``torch.func``.
    """
    if torch.compiler.is_exporting():
        return True
    if torch.compiler.is_compiling():
        return False
    return bool(torch._C._is_tracing() or forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active())


def are_recorded(x: Sequence[Tensor], module: nn.Module) -> bool:
    """Whether autograd records what the module does with a list of tensors."""
    if not torch.is_grad_enabled():
        return False
    # Replicas of DataParallel keep what are no parameters any more by the names of those.
    parts = ((*m._parameters.values(), *vars(m).get("_former_parameters", {}).values()) for m in module.modules())
    return any(t is not None and t.requires_grad for t in chain(x, *parts))


def training_dtype(weight: Tensor) -> torch.dtype:
    """The dtype that ops for training take parameters in: fp32 for all but fp64."""
    return torch.promote_types(weight.dtype, torch.float32)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def has_fused_backend(device_type: str) -> bool:
    """Whether the selected backend has the fused ops; what is compiled keeps that of when it was compiled."""
    return select_backend(device_type) in _FUSED_BACKENDS


def has_inference_backend(device_type: str) -> bool:
    """Whether the selected backend has blocks without gradients alone; compilers write kernels for plain PyTorch."""
    return not torch.compiler.is_compiling() and select_backend(device_type) in _INFERENCE_BACKENDS
