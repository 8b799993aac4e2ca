"""The ops as tests on a GPU call them: on real shapes too, with one form for ops with and without batch norms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from op_cases import OPS, SIZES, cast, channels_for
from torch import Tensor
from training_cases import TRAINING_OPS, cast_arguments, require_grad, tensors_of

from litehrnet_cuda import functional

DEVICE = "cuda"
# Lite-HRNet's last stage at 256x192, which has tiles of every kind.
STAGE4 = [(64, 48), (32, 24), (16, 12), (8, 6)]
STAGE4_CHANNELS = [20, 40, 80, 160]
NAMES = [*OPS, *TRAINING_OPS]


def cast_all(args: Sequence[Any], dtype: torch.dtype) -> list[Any]:
    return [cast(value, dtype) for value in args]


@dataclass(frozen=True)
class GpuOp:
    """An op: its public function, its reference, what it is called with, and which arguments have gradients."""

    name: str
    reference: Callable[..., Any]
    cast: Callable[[Sequence[Any], torch.dtype], list[Any]]
    differentiable: int

    @property
    def op(self) -> Callable[..., Any]:
        op: Callable[..., Any] = getattr(functional, self.name)
        return op

    def arguments(self, sizes: str, dtype: torch.dtype = torch.float32, batch: int = 3, device: str = "") -> list[Any]:
        """Random arguments, the same each time; `sizes` is a name of `op_cases.SIZES`, or "stage4"."""
        shapes = STAGE4 if sizes == "stage4" else SIZES[sizes]
        channels = STAGE4_CHANNELS if sizes == "stage4" else channels_for(shapes)
        args = {**OPS, **TRAINING_OPS}[self.name].arguments(shapes, channels, batch)
        return to_device(self.cast(args, dtype), device or DEVICE)

    def outputs(self, args: Sequence[Any]) -> list[Tensor]:
        """All that the op returns, without gradients."""
        with torch.no_grad():
            return list(flat(self.op(*args)))

    def step(self, args: Sequence[Any], op: Callable[..., Any] | None = None) -> list[Tensor]:
        """Outputs and gradients of a forward and a backward pass, of half the sum of squared outputs."""
        args = require_grad(args, self.differentiable)
        outputs = [y for y in flat((op or self.op)(*args)) if y.requires_grad]
        wanted = tensors_of(args[: self.differentiable])
        grads = torch.autograd.grad(outputs, wanted, [y.detach() for y in outputs])
        return [*(y.detach() for y in outputs), *grads]


def gpu_op(name: str) -> GpuOp:
    if name in OPS:
        arguments = OPS[name].arguments(SIZES["one_branch"], [4], 1)
        return GpuOp(name, OPS[name].reference, cast_all, len(arguments))
    arguments = TRAINING_OPS[name].arguments(SIZES["one_branch"], [4], 2)
    # Running statistics, `training` and `eps` come last.
    return GpuOp(name, TRAINING_OPS[name].reference, cast_arguments, len(arguments) - 4)


def to_device(value: Any, device: str | torch.device) -> Any:
    """Tensors among arguments on a device."""
    if isinstance(value, (list, tuple)):
        return [to_device(item, device) for item in value]
    return value.to(device) if isinstance(value, Tensor) else value


def flat(value: Any) -> list[Tensor]:
    """All tensors among arguments or results."""
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in flat(item)]
    return [value] if isinstance(value, Tensor) else []


def copies(value: Any) -> Any:
    """The same arguments in memory of their own."""
    if isinstance(value, (list, tuple)):
        return [copies(item) for item in value]
    return value.clone() if isinstance(value, Tensor) else value


def copy_into(targets: Any, sources: Any) -> None:
    """Gives tensors new values where they are, as for a CUDA graph that has been captured with them."""
    for target, source in zip(flat(targets), flat(sources), strict=True):
        target.copy_(source)


def assert_same_bits(actual: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    assert len(actual) == len(expected) > 0
    for a, b in zip(actual, expected, strict=True):
        assert torch.equal(a.cpu(), b.cpu())
