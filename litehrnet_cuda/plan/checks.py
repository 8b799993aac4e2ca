"""Whether the parts of a plan fit together, so that whoever runs it can trust every number in it.

Native executors follow the numbers of a plan into memory. A plan that comes out of a file is therefore checked whole:
every plane is within its buffer, written before it is read, and of the size that the step takes it to be; every weight
has its shape; buffers that are needed at the same time are apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import singledispatchmethod
from itertools import chain

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.plan.memory import ALIGNMENT, buffer_bytes, lifetimes
from litehrnet_cuda.plan.operands import Filter, LowerProduct, Matrix, PendingGate, Planes, Run, plane_count
from litehrnet_cuda.plan.packing import ACCUMULATE
from litehrnet_cuda.plan.plan import Plan
from litehrnet_cuda.plan.steps import (
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

Size = tuple[int, int]
MOST = 2**16  # channels, rows or columns


def check_plan(plan: Plan) -> None:
    """Checks a whole plan.

    Raises:
        InputError: names the step or buffer, what was expected and what is there.
    """
    _check_buffers(plan)
    checker = _StepChecker(plan)
    written: set[tuple[int, int]] = {(0, plane) for plane in range(plan.buffers[0].channels)}
    for number, step in enumerate(plan.steps):
        checker.name = f"step {number} ({step.name})"
        checker.check_runs(step)
        checker.check(step)
        reads, writes = _planes(step.reads()), _planes(step.writes())
        checker.expect(set(reads) <= written, "expected only planes to be read that a step before has written")
        twice = [plane for plane, count in Counter(_planes(chain.from_iterable(step.inputs()))).items() if count > 1]
        checker.expect(not twice, f"expected every plane to be read once, got planes {twice[:4]} twice")
        checker.expect(len(set(writes)) == len(writes), "expected every plane to be written once")
        checker.expect(not set(reads) & set(writes), "expected no plane to be both read and written")
        written.update(writes)
    for number in plan.outputs:
        whole = {(number, plane) for plane in range(plan.buffers[number].channels)}
        _expect(whole <= written, f"output {number}: expected every plane to be written")
    _check_layout(plan)


def _expect(condition: bool, message: str) -> None:
    if not condition:
        raise InputError(f"plan: {message}")


def _planes(runs: chain[Run] | Sequence[Run]) -> list[tuple[int, int]]:
    return [(run.buffer, run.first + i) for run in runs for i in range(run.count)]


def _check_buffers(plan: Plan) -> None:
    _expect(plan.dtype in ACCUMULATE, f"expected dtype float16, bfloat16, float32 or float64, got {plan.dtype}")
    roles = [buffer.role for buffer in plan.buffers]
    _expect(bool(roles) and roles[0] == "input" and roles.count("input") == 1, "expected one input, buffer 0")
    outputs = [number for number, role in enumerate(roles) if role == "output"]
    _expect(sorted(plan.outputs) == outputs, f"expected outputs {outputs} by their roles, got {plan.outputs}")
    size = (plan.buffers[0].height, plan.buffers[0].width)
    _expect(size == (plan.height, plan.width), f"expected an input of {plan.height} x {plan.width}, got {size}")
    for buffer in plan.buffers:
        pixels = buffer.height * buffer.width
        sides = (buffer.channels, buffer.height, buffer.width)
        dense = buffer.plane_stride == pixels or (buffer.role == "map" and buffer.plane_stride >= pixels)
        fits = min(sides) > 0 and max(sides) <= MOST and buffer.channels * buffer.plane_stride < 2**31
        _expect(dense and fits, f"buffer {buffer.name!r}: expected sizes of 1 to {MOST} and planes apart, got {buffer}")


def _check_layout(plan: Plan) -> None:
    offsets, spans = plan.layout.offsets, lifetimes(plan.buffers, plan.steps)
    _expect(len(offsets) == len(plan.buffers), "expected one offset per buffer")
    placed: list[tuple[int, int, tuple[int, int], str]] = []
    for buffer, offset, span in zip(plan.buffers, offsets, spans, strict=True):
        if buffer.role in ("input", "output") or span is None:
            _expect(offset is None, f"buffer {buffer.name!r}: expected no offset")
            continue
        _expect(offset is not None, f"buffer {buffer.name!r}: expected an offset")
        assert offset is not None
        end = offset + buffer_bytes(buffer, plan.dtype)
        inside = offset >= 0 and offset % ALIGNMENT == 0 and end <= plan.layout.arena_bytes
        _expect(inside, f"buffer {buffer.name!r}: expected an aligned place in the arena, got {offset}")
        for begin, other_end, other, name in placed:
            apart = span[1] < other[0] or other[1] < span[0] or end <= begin or other_end <= offset
            _expect(apart, f"expected buffers {buffer.name!r} and {name!r} apart, which are needed at the same time")
        placed.append((offset, end, span, buffer.name))


class _StepChecker:
    """Checks a step's runs, sizes and weights."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.name = ""

    def expect(self, condition: bool, message: str) -> None:
        _expect(condition, f"{self.name}: {message}")

    def check_runs(self, step: Step) -> None:
        buffers = self.plan.buffers
        gates = step.evaluated_gates()
        sums = (run for gate in gates for run in gate.sums)
        for run in (*chain.from_iterable(step.inputs()), *sums, *step.writes()):
            self.expect(0 <= run.buffer < len(buffers), f"expected a buffer below {len(buffers)}, got {run.buffer}")
            inside = run.first >= 0 and run.count > 0 and run.first + run.count <= buffers[run.buffer].channels
            self.expect(inside, f"expected planes of buffer {buffers[run.buffer].name!r}, got {run}")
            if run.factors is not None:
                self.expect(0 <= run.factors < len(buffers), f"expected a buffer of factors, got {run}")
                factors = buffers[run.factors]
                fits = 0 <= run.first_factor <= factors.channels - run.count
                self.expect(factors.role == "factors" and fits, f"expected factors for every plane, got {run}")
        for run in step.writes():
            plain = not run.relu and run.factors is None and buffers[run.buffer].role != "input"
            self.expect(plain, f"expected planes to write to, with nothing pending, got {run}")
        for run in chain.from_iterable(step.inputs()):
            readable = buffers[run.buffer].role in ("input", "map", "output", "gates")
            self.expect(readable, f"expected feature maps or gates, got {run}")

    @singledispatchmethod
    def check(self, step: Step) -> None:
        raise NotImplementedError(type(step).__name__)

    @check.register
    def _(self, step: StemConvolution) -> None:
        channels, rows = plane_count(step.input), plane_count(step.output)
        self.tensor(step.weight, rows, channels, 3, 3)
        self.bias(step.bias, rows)
        self.sized(step.output, self.strided(self.size(step.input), 2))

    @check.register
    def _(self, step: SeparableConvolution) -> None:
        for path in step.paths:
            self.numbers((path.source,), len(step.sources))
            x = step.sources[path.source]
            width = plane_count(x)
            if path.expand is not None:
                width = self.rows(path.expand)
                self.matrix(path.expand, width, plane_count(x))
            self.expect(path.stride in (1, 2), f"expected stride 1 or 2, got {path.stride}")
            self.filter(path.depthwise, width)
            self.matrix(path.pointwise, plane_count(path.output), width)
            self.sized(path.output, self.strided(self.size(x), path.stride))

    @check.register
    def _(self, step: PointwiseConvolution) -> None:
        for path in step.paths:
            self.matrix(path.matrix, plane_count(path.output), plane_count(path.input))
            self.sized(path.output, self.size(path.input))

    @check.register
    def _(self, step: ResolutionGates) -> None:
        self.gates(step.gates)
        channels = sum(map(plane_count, step.branches))
        hidden = self.rows(step.matrix1)
        self.matrix(step.matrix1, hidden, channels)
        self.matrix(step.matrix2, channels, hidden)
        self.role(step.output, "gates")
        self.sized(step.output, self.size(step.branches[-1]), channels)
        for planes in step.branches:
            self.size(planes)

    @check.register
    def _(self, step: GatedDepthwise) -> None:
        for branch in step.branches:
            channels, (height, width) = plane_count(branch.input), self.size(branch.input)
            self.filter(branch.depthwise, channels)
            self.role(branch.gates, "gates")
            self.sized(branch.gates, self.size(branch.gates), channels)
            self.sized(branch.output, (height, width), channels)
            self.expect(branch.rows_per_sum > 0, f"expected rows for a sum, got {branch.rows_per_sum}")
            self.role(branch.sums, "sums")
            self.sized(branch.sums, (1, -(-height // branch.rows_per_sum)), channels)

    @check.register
    def _(self, step: FuseUpward) -> None:
        self.gates(step.gates)
        rows, size = plane_count(step.top), self.size(step.top)
        self.lower(step.lower, rows)
        self.bias(step.bias, rows)
        self.sized(step.output, size, rows)
        if step.also:
            self.sized(step.also, size, rows)

    @check.register
    def _(self, step: FuseDownward) -> None:
        size = self.size(step.kept)
        for source in step.sources:
            self.expect(self.strided(self.size(source), 2) == size, f"expected sources of twice the size {size}")
        self.numbers([item.source for item in step.chains], len(step.sources))
        widths = [plane_count(step.sources[item.source]) for item in step.chains]
        for item, width in zip(step.chains, widths, strict=True):
            self.filter(item.depthwise, width)
        self.lower(step.lower, plane_count(step.kept))
        self.stacked(step.total, widths, size)
        self.sized(step.total.output, size, plane_count(step.kept))
        for product in step.continued:
            self.stacked(product, widths, size)

    @check.register
    def _(self, step: HeadConvolution) -> None:
        channels, inner = plane_count(step.input), self.rows(step.pointwise)
        if step.below:
            self.sized(step.below, self.size(step.below), channels)
        self.filter(step.depthwise, channels)
        self.matrix(step.pointwise, inner, channels)
        if step.final is not None:
            self.matrix(step.final, plane_count(step.output), inner)
        self.sized(step.output, self.size(step.input), plane_count(step.output) if step.final else inner)

    def size(self, planes: Planes) -> Size:
        """The one size that planes have."""
        sizes = {(self.plan.buffers[run.buffer].height, self.plan.buffers[run.buffer].width) for run in planes}
        self.expect(len(sizes) == 1, f"expected planes of one size, got {sorted(sizes)}")
        return sizes.pop()

    def strided(self, size: Size, stride: int) -> Size:
        return -(-size[0] // stride), -(-size[1] // stride)

    def sized(self, planes: Planes, size: Size, channels: int | None = None) -> None:
        self.expect(self.size(planes) == size, f"expected planes of size {size}, got {self.size(planes)}")
        if channels is not None:
            self.expect(plane_count(planes) == channels, f"expected {channels} planes, got {plane_count(planes)}")

    def role(self, planes: Planes, role: str) -> None:
        roles = {self.plan.buffers[run.buffer].role for run in planes}
        self.expect(roles == {role}, f"expected planes of {role}, got {sorted(roles)}")

    def numbers(self, numbers: Sequence[int], count: int) -> None:
        self.expect(all(0 <= n < count for n in numbers), f"expected numbers below {count}, got {numbers}")

    def tensor(self, name: str, *shape: int, accumulate: bool = False) -> None:
        tensor = self.plan.weights.get(name)
        dtype = ACCUMULATE[self.plan.dtype] if accumulate else self.plan.dtype
        found = None if tensor is None else (tuple(tensor.shape), tensor.dtype)
        self.expect(found == (shape, dtype), f"expected weight {name!r} of {shape}, {dtype}, got {found}")

    def bias(self, name: str, rows: int) -> None:
        self.tensor(name, rows, accumulate=True)

    def rows(self, matrix: Matrix) -> int:
        self.expect(matrix.weight in self.plan.weights, f"expected a weight {matrix.weight!r}")
        return len(self.plan.weights[matrix.weight])

    def matrix(self, matrix: Matrix, rows: int, columns: int) -> None:
        self.tensor(matrix.weight, rows, columns)
        self.bias(matrix.bias, rows)

    def filter(self, filter: Filter, channels: int) -> None:
        self.tensor(filter.weight, channels, 3, 3)
        self.bias(filter.bias, channels)

    def lower(self, products: tuple[LowerProduct, ...], rows: int) -> None:
        for product in products:
            self.size(product.input)
            self.tensor(product.weight, rows, plane_count(product.input))

    def stacked(self, product: StackedProduct, widths: list[int], size: Size) -> None:
        self.numbers(product.chains, len(widths))
        self.matrix(product.matrix, plane_count(product.output), sum(widths[n] for n in product.chains))
        self.sized(product.output, size)

    def gates(self, gates: tuple[PendingGate, ...]) -> None:
        for gate in gates:
            channels, hidden = plane_count(gate.sums), self.rows(gate.matrix1)
            self.expect(gate.pixels > 0, f"expected pixels, got {gate.pixels}")
            self.matrix(gate.matrix1, hidden, channels)
            self.matrix(gate.matrix2, channels, hidden)
            self.role(gate.sums, "sums")
            self.role(gate.factors, "factors")
            self.sized(gate.factors, (1, 1), channels)
