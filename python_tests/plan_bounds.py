"""The memory that a step of a plan may touch, as a checked emulator is told of it; and constants that lie apart."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

import emulation
from torch import Tensor

from litehrnet_cuda.plan import Plan, program
from litehrnet_cuda.plan.program import Constants, Program
from litehrnet_cuda.plan.reference import Memory
from litehrnet_cuda.plan.steps import Step

GUARD = 64  # bytes of NaN behind each constant, a multiple of the alignment


class _Apart(Constants):
    def add(self, tensor: Tensor) -> int:
        before = self.size
        place = super().add(tensor)
        if self.size > before:
            self.parts.append(b"\xff" * GUARD)
            self.size += GUARD
        return place


@dataclass(frozen=True, eq=False)
class GuardedProgram:
    """A program, and where its constants begin, in bytes, with how many each of them has."""

    program: Program
    constants: tuple[tuple[int, int], ...]


def compile_guarded(plan: Plan) -> GuardedProgram:
    """The program of a plan, with NaN between the constants."""
    constants = _Apart()
    with mock.patch.object(program, "Constants", return_value=constants):
        compiled = program.compile_plan(plan)
    return GuardedProgram(compiled, tuple((place, len(content)) for content, place in constants.places.items()))


@contextmanager
def bounds_of(library: emulation.Library, step: Step, memory: Memory, guarded: GuardedProgram) -> Iterator[None]:
    """Meanwhile kernels may access the planes that the step reads and writes, and constants, and nothing else."""
    address = guarded.program.constants.data_ptr()
    areas = [(address + place, size, "constants") for place, size in guarded.constants]
    areas += _planes(step, memory)
    for address, size, name in areas:
        library.register_memory(address, size, name)
    try:
        yield
    finally:
        for address, *_ in areas:
            library.emulator_unregister_buffer(ctypes.c_void_p(address))


def _planes(step: Step, memory: Memory) -> Iterator[tuple[int, int, str]]:
    """Address, bytes and name of every plane in every image."""
    for number, plane in {
        (run.buffer, run.first + i) for run in (*step.reads(), *step.writes()) for i in range(run.count)
    }:
        buffer, values = memory.plan.buffers[number], memory.buffers[number]
        size = buffer.height * buffer.width * values.element_size()
        for image in range(len(values)):
            start = values.data_ptr() + (image * buffer.channels + plane) * buffer.plane_stride * values.element_size()
            yield start, size, f"{buffer.name}, plane {plane}"
