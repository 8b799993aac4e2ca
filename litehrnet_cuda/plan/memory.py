"""Where buffers lie: one arena, in which buffers share bytes if they are never needed at the same time.

A buffer lives from the first step that writes to it to the last step that reads it, both included: what a launch
writes never shares bytes with what it reads. The caller's tensors, the image and the outputs, are not in the arena.

Offsets are for one image. For N images they, and the arena, are N times as large; every buffer is then ``[N, channels,
plane_stride]``, and what was apart stays apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from litehrnet_cuda.plan.operands import Buffer
from litehrnet_cuda.plan.packing import ACCUMULATE
from litehrnet_cuda.plan.steps import Step

ALIGNMENT = 256  # bytes; what cudaMalloc gives


@dataclass(frozen=True)
class Layout:
    """Bytes for one image.

    Args:
        offsets: of every buffer in the arena; None for the caller's tensors.
        arena_bytes: size of the arena, the most that is alive at once and what packing adds to it.
    """

    offsets: tuple[int | None, ...]
    arena_bytes: int


def buffer_dtype(buffer: Buffer, dtype: torch.dtype) -> torch.dtype:
    """The type of a buffer's elements in a plan of a type."""
    return ACCUMULATE[dtype] if buffer.role in ("sums", "factors") else dtype


def buffer_bytes(buffer: Buffer, dtype: torch.dtype) -> int:
    """Bytes of a buffer for one image, in the arena a multiple of the alignment."""
    size = buffer.channels * buffer.plane_stride * buffer_dtype(buffer, dtype).itemsize
    return size if buffer.role in ("input", "output") else -(-size // ALIGNMENT) * ALIGNMENT


def lifetimes(buffers: Sequence[Buffer], steps: Sequence[Step]) -> list[tuple[int, int] | None]:
    """The first and last step that touch every buffer; None for one that no step touches."""
    spans: list[tuple[int, int] | None] = [None] * len(buffers)
    for number, step in enumerate(steps):
        for run in (*step.reads(), *step.writes()):
            span = spans[run.buffer]
            spans[run.buffer] = (number if span is None else span[0], number)
    return spans


def lay_out(buffers: Sequence[Buffer], steps: Sequence[Step], dtype: torch.dtype) -> Layout:
    """Places buffers, large ones first, each at the lowest offset that is free all its life."""
    spans = lifetimes(buffers, steps)
    sizes = [buffer_bytes(buffer, dtype) for buffer in buffers]
    offsets: list[int | None] = [None] * len(buffers)
    arena = 0
    for number in sorted(range(len(buffers)), key=lambda number: -sizes[number]):
        span = spans[number]
        if buffers[number].role in ("input", "output") or span is None:
            continue
        taken = sorted(
            (offset, offset + sizes[other])
            for other, offset in enumerate(offsets)
            if offset is not None and _overlap(span, spans[other])
        )
        place = 0
        for begin, end in taken:
            if place + sizes[number] <= begin:
                break
            place = max(place, end)
        offsets[number] = place
        arena = max(arena, place + sizes[number])
    return Layout(tuple(offsets), arena)


def _overlap(a: tuple[int, int], b: tuple[int, int] | None) -> bool:
    return b is not None and a[0] <= b[1] and b[0] <= a[1]
