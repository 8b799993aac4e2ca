"""Runs programs of plans by the native library: all launches of a forward pass in one call."""

from __future__ import annotations

from torch import Tensor

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.ops.run_plan import run_plan, run_plan_steps
from litehrnet_cuda.plan.program import Program


def run_program(program: Program, images: Tensor, *, persistent: bool = False) -> list[Tensor]:
    """Runs a program on the current stream of the images' device.

    Args:
        program: what :func:`litehrnet_cuda.plan.program.compile_plan` returns, on the images' device.
        images: ``[N, channels, height, width]`` of the program's size and type.
        persistent: in one launch of a persistent kernel rather than in one for each step. There is none in fp64, and
            a CUDA graph cannot record it.

    Returns:
        the network's outputs, from high to low resolution, each ``[N, channels, height, width]``.

    Raises:
        InputError: for images that do not fit the program.
        NotImplementedError: if there are no kernels for the device here.
        RuntimeError: if a step cannot be launched.
    """
    shape = (program.channels, program.height, program.width)
    if images.dim() != 4 or images.shape[1:] != shape or images.dtype != program.dtype:
        raise InputError(
            f"images: expected [N, {', '.join(map(str, shape))}] of {program.dtype}, as the plan was built for, got "
            f"{list(images.shape)} of {images.dtype}"
        )
    if images.device != program.constants.device:
        raise InputError(f"images: expected them on {program.constants.device}, as the program, got {images.device}")
    return run_plan(images, program.constants, program.code, program.arena_bytes, list(program.shapes), persistent)


def run_steps(
    program: Program, images: Tensor, arena: Tensor, outputs: list[Tensor], first: int = 0, end: int = -1
) -> None:
    """Runs some of a program's steps, on memory of the caller's, whose contents it changes.

    Args:
        program, images: of :func:`run_program`.
        arena: uint8, ``program.arena_bytes`` for every image.
        outputs: contiguous.
        first, end: from one step up to another one, that one not included; -1 for all that follow.

    Raises:
        RuntimeError: if a step cannot be launched.
    """
    run_plan_steps(images, program.constants, program.code, arena, outputs, first, end)
