"""A plan as native executors read it: one block of constants, and a list of numbers.

The constants are weights in the layouts that kernels want, and tables of planes. A table says where planes lie relative
to the arena, whatever the batch size; so a program has no state, and any number of runs may go on at once. The list of
numbers holds, step after step, what ``csrc/cuda/plan_program.cu`` reads in the same order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import singledispatch

import torch
import torch.nn.functional as F
from torch import Tensor

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.plan.memory import ALIGNMENT
from litehrnet_cuda.plan.operands import Filter, LowerProduct, Matrix, PendingGate, Planes, Run, plane_count
from litehrnet_cuda.plan.plan import Plan
from litehrnet_cuda.plan.steps import (
    STEPS,
    FuseDownward,
    FuseUpward,
    GatedDepthwise,
    HeadConvolution,
    PointwiseConvolution,
    ResolutionGates,
    SeparableConvolution,
    StackedProduct,
    StemConvolution,
    Step,
)

VECTOR_BYTES = 16
MOST_BYTES = 2**31 - 1  # of constants: places in them have 31 bits
_PANEL_ROWS = 4  # of csrc/core/tile_product.cuh
_GATE_PAD = 4  # of csrc/core/pending_gate.cuh: every gate's channels begin at a multiple of it
_NONE, _ARENA, _IMAGE, _FIRST_OUTPUT = -1, 0, 1, 2  # memories


@dataclass(frozen=True, eq=False)
class Program:
    """What a native executor needs.

    Args:
        height, width, channels: of the images.
        dtype: of images and outputs.
        constants: uint8 ``[B]``.
        code: int64 ``[P]``, on the CPU.
        arena_bytes: for one image.
        shapes: channels, height and width of every output, one after the other.
    """

    channels: int
    height: int
    width: int
    dtype: torch.dtype
    constants: Tensor
    code: Tensor
    arena_bytes: int
    shapes: tuple[int, ...]

    def to(self, device: torch.device | str) -> Program:
        """The program with its constants on a device."""
        return replace(self, constants=self.constants.to(device))


def compile_plan(plan: Plan) -> Program:
    """The program of a plan, on the CPU.

    Raises:
        InputError: for a plan of more than 2 GiB of constants.
    """
    writer = Writer(plan)
    for step in plan.steps:
        encode(step, writer)
        writer.end_step(STEPS.index(type(step)))
    outputs = [plan.buffers[number] for number in plan.outputs]
    image = plan.buffers[0]
    return Program(
        image.channels,
        plan.height,
        plan.width,
        plan.dtype,
        writer.constants.joined(),
        torch.tensor(writer.code, dtype=torch.int64),
        plan.layout.arena_bytes,
        tuple(side for buffer in outputs for side in (buffer.channels, buffer.height, buffer.width)),
    )


def panels(matrix: Tensor) -> Tensor:
    """A matrix ``[rows, columns]`` in panels of four rows, ``[ceil(rows / 4), columns, 4]``, padded with zeros."""
    rows, columns = matrix.shape
    padded = F.pad(matrix, (0, 0, 0, -rows % _PANEL_ROWS))
    return padded.view(-1, _PANEL_ROWS, columns).permute(0, 2, 1).contiguous()


@dataclass
class Constants:
    """Bytes as they accumulate; equal ones are stored once."""

    parts: list[bytes] = field(default_factory=list)
    size: int = 0
    places: dict[bytes, int] = field(default_factory=dict)

    def add(self, tensor: Tensor) -> int:
        """Stores a tensor and returns where, in bytes."""
        content = bytes(tensor.contiguous().flatten().view(torch.uint8).numpy())
        if content not in self.places:
            self.places[content] = self.size
            self.parts.append(content.ljust(-(-len(content) // VECTOR_BYTES) * VECTOR_BYTES, b"\0"))
            self.size += len(self.parts[-1])
        if self.size > MOST_BYTES:
            raise InputError(f"plan: expected at most {MOST_BYTES} bytes of weights and tables, got {self.size}")
        return self.places[content]

    def joined(self) -> Tensor:
        """All of it, uint8."""
        return torch.frombuffer(bytearray(b"".join(self.parts)), dtype=torch.uint8)


class Writer:
    """Writes the operands of one step after the other, each as the function of its name in plan_program.cu reads it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.constants = Constants()
        self.code: list[int] = []
        self._step: list[int] = []

    def end_step(self, kind: int) -> None:
        """Appends what has been written since the last step."""
        self.code += [kind, len(self._step), *self._step]
        self._step = []

    def numbers(self, *numbers: int) -> None:
        """As they are."""
        self._step += numbers

    def constant(self, tensor: Tensor | None) -> None:
        """A tensor, or that there is none."""
        self.numbers(_NONE if tensor is None else self.constants.add(tensor))

    def weight(self, name: str) -> Tensor:
        """A tensor of the plan."""
        return self.plan.weights[name]

    def matrix(self, matrix: Matrix) -> None:
        """Panels and bias."""
        self.constant(panels(self.weight(matrix.weight)))
        self.constant(self.weight(matrix.bias))

    def filter(self, *filters: Filter) -> None:
        """Depthwise weights and biases, one after the other."""
        self.constant(torch.cat([self.weight(filter.weight) for filter in filters]))
        self.constant(torch.cat([self.weight(filter.bias) for filter in filters]))

    def memory(self, *operands: Planes) -> None:
        """The memory that planes are in, and the elements that all their starts are multiples of there."""
        runs = [run for planes in operands for run in planes]
        memories = {self._memory_of(run) for run in runs}
        assert len(memories) == 1, "an operand is in one memory"
        aligned = VECTOR_BYTES // self.plan.dtype.itemsize
        for run in runs:
            stride = self.plan.buffers[run.buffer].plane_stride
            while (run.first * stride) % aligned or (run.count > 1 and stride % aligned) or self._image(run) % aligned:
                aligned //= 2
        self.numbers(memories.pop(), aligned)

    def sources(self, planes: Planes, own: Iterable[int] = ()) -> None:
        """A table of planes; factors in the buffers ``own`` are the step's to evaluate, so that none are read."""
        if not planes:
            return self.numbers(_NONE)
        buffer = self.plan.buffers[planes[0].buffer]
        self.memory(planes)
        self.table(self._entries(planes, own))
        return self.numbers(buffer.height, buffer.width)

    def table(self, entries: list[list[int]]) -> None:
        """The count of entries, and where they are."""
        self.numbers(len(entries))
        self.constant(torch.tensor(entries, dtype=torch.int32))

    def gated_planes(self, source: Planes, target: Planes) -> None:
        """The table of a branch of GatedDepthwise."""
        pairs = zip(self._entries(source), self._entries(target), strict=True)
        self.table([[*entry, *output[:3], 0] for entry, output in pairs])

    def target(self, planes: Planes) -> None:
        """Planes that follow one another."""
        if not planes:
            return self.numbers(_NONE)
        (run,) = planes
        buffer = self.plan.buffers[run.buffer]
        self.memory(planes)
        self.numbers(*self._place(run.buffer, run.first), buffer.plane_stride, run.count, buffer.height, buffer.width)

    def buffer(self, planes: Planes) -> None:
        """All of a buffer without padding between its planes."""
        (run,) = planes
        buffer = self.plan.buffers[run.buffer]
        assert run.first == 0
        assert run.count == buffer.channels
        assert buffer.plane_stride == buffer.height * buffer.width
        self.numbers(self._place(run.buffer, 0)[0])

    def gates(self, gates: Sequence[PendingGate]) -> None:
        """Pending gates."""
        self.numbers(len(gates))
        for gate in gates:
            self.buffer(gate.sums)
            for name in (gate.matrix1.weight, gate.matrix1.bias, gate.matrix2.weight, gate.matrix2.bias):
                self.constant(self.weight(name))
            self.buffer(gate.factors)
            hidden, tiles = len(self.weight(gate.matrix1.bias)), self.plan.buffers[gate.sums[0].buffer].width
            self.numbers(plane_count(gate.factors), hidden, tiles, gate.pixels)

    def own_factors(self, planes: Planes, gates: Sequence[PendingGate]) -> list[int]:
        """Where each plane's factor is among those that a step evaluates, as pending_gate.cuh numbers them, or -1."""
        first: dict[int | None, int] = {}
        channels = 0
        for gate in gates:
            first[gate.factors[0].buffer] = channels
            channels += -(-plane_count(gate.factors) // _GATE_PAD) * _GATE_PAD
        return [
            first[run.factors] + run.first_factor + i if run.factors in first else -1
            for run in planes
            for i in range(run.count)
        ]

    def lower(self, products: Sequence[LowerProduct], gates: Sequence[PendingGate] = ()) -> None:
        """Paths from lower resolutions."""
        self.numbers(len(products))
        for product in products:
            self.sources(product.input, own_buffers(gates))
            own = self.own_factors(product.input, gates)
            self.constant(torch.tensor(own, dtype=torch.int32) if max(own) >= 0 else None)
            self.constant(panels(self.weight(product.weight)))

    def _memory_of(self, run: Run) -> int:
        if self.plan.buffers[run.buffer].role == "input":
            return _IMAGE
        return _FIRST_OUTPUT + self.plan.outputs.index(run.buffer) if run.buffer in self.plan.outputs else _ARENA

    def _image(self, run: Run) -> int:
        buffer = self.plan.buffers[run.buffer]
        return buffer.channels * buffer.plane_stride

    def _place(self, number: int, plane: int) -> list[int]:
        """A Place of csrc/core/planes.h."""
        buffer, offset = self.plan.buffers[number], self.plan.layout.offsets[number] or 0
        return [offset // ALIGNMENT, plane * buffer.plane_stride, buffer.channels * buffer.plane_stride]

    def _entries(self, planes: Planes, own: Iterable[int] = ()) -> list[list[int]]:
        """PlaneSources of csrc/core/planes.h."""
        skipped = set(own)
        entries = []
        for run in planes:
            for i in range(run.count):
                has_factor = run.factors is not None and run.factors not in skipped
                factor = self._place(run.factors, run.first_factor + i) if has_factor else [0, 0, 0]  # type: ignore[arg-type]
                data = self._place(run.buffer, run.first + i)
                entries.append([*data, *factor, int(run.relu), int(has_factor)])
        return entries


def own_buffers(gates: Sequence[PendingGate]) -> set[int]:
    """The buffers of the factors that gates make."""
    return {run.buffer for gate in gates for run in gate.factors}


@singledispatch
def encode(step: Step, to: Writer) -> None:
    """Writes a step's operands."""
    raise NotImplementedError(type(step).__name__)


@encode.register
def _(step: StemConvolution, to: Writer) -> None:
    to.sources(step.input)
    to.sources(step.output)
    to.constant(panels(to.weight(step.weight).flatten(1)))
    to.constant(to.weight(step.bias))


@encode.register
def _(step: SeparableConvolution, to: Writer) -> None:
    to.numbers(len(step.paths))
    for path in step.paths:
        to.sources(step.sources[path.source])
        to.sources(path.output)
        if path.expand is None:
            to.numbers(0, _NONE, _NONE)
        else:
            to.numbers(len(to.weight(path.expand.bias)))
            to.matrix(path.expand)
        to.filter(path.depthwise)
        to.matrix(path.pointwise)
        to.numbers(path.stride)


@encode.register
def _(step: PointwiseConvolution, to: Writer) -> None:
    to.numbers(len(step.paths))
    for path in step.paths:
        to.sources(path.input)
        to.sources(path.output)
        to.matrix(path.matrix)
        to.numbers(int(path.relu))


@encode.register
def _(step: ResolutionGates, to: Writer) -> None:
    to.numbers(len(step.branches))
    for planes in step.branches:
        to.sources(planes, own_buffers(step.gates))
    to.gates(step.gates)
    all_planes = tuple(run for planes in step.branches for run in planes)
    source_of = {factor: source for source, factor in enumerate(to.own_factors(all_planes, step.gates)) if factor >= 0}
    every = to.own_factors(tuple(run for gate in step.gates for run in as_sources(gate.factors)), step.gates)
    others = [factor for factor in every if factor not in source_of]
    pairs = [(factor, source) for factor, source in source_of.items()] + [(factor, -1) for factor in others]
    to.constant(torch.tensor(pairs, dtype=torch.int32) if pairs else None)
    to.numbers(len(source_of))
    weight1, weight2 = to.weight(step.matrix1.weight), to.weight(step.matrix2.weight)
    to.constant(weight1)
    to.constant(to.weight(step.matrix1.bias))
    to.constant(F.pad(weight2, (0, -weight2.shape[1] % _GATE_PAD)))
    to.constant(to.weight(step.matrix2.bias))
    to.numbers(weight2.shape[1])
    to.target(step.output)


def as_sources(factors: Planes) -> Planes:
    """Factors as what gates themselves, to number them."""
    return tuple(Run(run.buffer, run.first, run.count, False, run.buffer, run.first) for run in factors)


@encode.register
def _(step: GatedDepthwise, to: Writer) -> None:
    to.numbers(len(step.branches))
    for branch in step.branches:
        buffer = to.plan.buffers[branch.input[0].buffer]
        to.memory(branch.input, branch.output)
        to.gated_planes(branch.input, branch.output)
        to.numbers(buffer.height, buffer.width)
        to.target(branch.gates)
        to.filter(branch.depthwise)
        to.buffer(branch.sums)
        to.numbers(branch.rows_per_sum)


@encode.register
def _(step: FuseUpward, to: Writer) -> None:
    to.gates(step.gates)
    to.sources(step.top, own_buffers(step.gates))
    own = to.own_factors(step.top, step.gates)
    to.constant(torch.tensor(own, dtype=torch.int32) if max(own) >= 0 else None)
    to.lower(step.lower, step.gates)
    to.constant(to.weight(step.bias))
    to.numbers(int(step.relu))
    to.target(step.output)
    to.target(step.also)


@encode.register
def _(step: FuseDownward, to: Writer) -> None:
    def product(stacked: StackedProduct) -> None:
        chains = [step.chains[number] for number in stacked.chains]
        to.sources(tuple(run for chain in chains for run in step.sources[chain.source]))
        to.filter(*(chain.depthwise for chain in chains))
        to.matrix(stacked.matrix)
        to.target(stacked.output)

    to.numbers(1 + len(step.continued))
    for stacked in (step.total, *step.continued):
        product(stacked)
    to.sources(step.kept)
    to.lower(step.lower)


@encode.register
def _(step: HeadConvolution, to: Writer) -> None:
    to.sources(step.input)
    to.sources(step.below)
    to.filter(step.depthwise)
    to.numbers(len(to.weight(step.pointwise.bias)))
    to.matrix(step.pointwise)
    if step.final is None:
        to.numbers(_NONE, _NONE)
    else:
        to.matrix(step.final)
    to.target(step.output)
