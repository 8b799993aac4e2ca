"""All launches of a network's forward pass: what :mod:`litehrnet_cuda.plan.executor` runs programs of plans by."""

from __future__ import annotations

from torch import Tensor

from litehrnet_cuda.ops.registration import register


def run_plan(
    images: Tensor,
    constants: Tensor,
    program: Tensor,
    arena_bytes: int,
    shapes: list[int],
    persistent: bool = False,
) -> list[Tensor]:
    """A network's outputs.

    Args:
        images: ``[N, C, H, W]`` of the program's size and type.
        constants: uint8 ``[B]``, weights and tables, on the same device.
        program: int64 ``[P]`` on the CPU, see :mod:`litehrnet_cuda.plan.program`.
        arena_bytes: memory between steps, for one image.
        shapes: channels, height and width of every output, one after the other.
        persistent: in one launch of a persistent kernel, which fp64 has not, and CUDA graphs cannot record.

    Returns:
        a contiguous tensor for each output.

    Raises:
        RuntimeError: for a program or tensors that do not fit, or if the native library is missing.
        NotImplementedError: if there is no kernel for the device here.
    """
    outputs: list[Tensor] = _run_plan(images, constants, program, arena_bytes, shapes, persistent)
    return outputs


def run_plan_steps(
    images: Tensor,
    constants: Tensor,
    program: Tensor,
    arena: Tensor,
    outputs: list[Tensor],
    first: int,
    end: int,
) -> None:
    """Steps ``first`` to ``end - 1`` (-1: to the last one), on memory of the caller's.

    Args:
        images, constants, program: of :func:`run_plan`; images are contiguous.
        arena: uint8, changed.
        outputs: contiguous, changed.
        first, end: numbers of steps.

    Raises:
        RuntimeError, NotImplementedError: as :func:`run_plan`.
    """
    _run_plan_steps(images, constants, program, arena, outputs, first, end)


def _fake(
    images: Tensor, _constants: Tensor, _program: Tensor, _arena_bytes: int, shapes: list[int], _persistent: bool
) -> list[Tensor]:
    return [images.new_empty(images.shape[0], *shapes[i : i + 3]) for i in range(0, len(shapes), 3)]


def _fake_steps(*_arguments: object) -> None:
    """Makes nothing new."""


_run_plan = register("_run_plan", _fake, autocast=False)
_run_plan_steps = register("_run_plan_steps", _fake_steps, autocast=False)
