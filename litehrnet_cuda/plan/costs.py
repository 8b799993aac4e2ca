"""What steps cost: multiply-accumulates, and the bytes that cannot be avoided.

Compulsory bytes count every plane that a launch reads or writes once, without padding, and every weight once. What a
launch computes anew at the edges of tiles, and reads again for it, is not in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch
from math import prod

from litehrnet_cuda.plan.memory import buffer_dtype
from litehrnet_cuda.plan.operands import LowerProduct, Matrix, PendingGate, Planes, Run
from litehrnet_cuda.plan.plan import Plan
from litehrnet_cuda.plan.steps import (
    FuseDownward,
    FuseUpward,
    GatedDepthwise,
    HeadConvolution,
    PointwiseConvolution,
    ResolutionGates,
    SeparableConvolution,
    StemConvolution,
    Step,
)


@dataclass(frozen=True)
class Cost:
    """The cost of one step, or of several together.

    Attributes:
        macs: multiply-accumulates for one image.
        read, written: compulsory bytes of planes for one image.
        weights: bytes of weights and biases, whatever the batch.
    """

    macs: int = 0
    read: int = 0
    written: int = 0
    weights: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.macs + other.macs,
            self.read + other.read,
            self.written + other.written,
            self.weights + other.weights,
        )


def step_cost(plan: Plan, step: Step) -> Cost:
    """The cost of one step of a plan."""
    weights = (plan.weights[name] for name in step.weights())
    return Cost(
        macs=_macs(step, plan),
        read=_plane_bytes(plan, step.reads()),
        written=_plane_bytes(plan, step.writes()),
        weights=sum(weight.numel() * weight.element_size() for weight in weights),
    )


def plan_cost(plan: Plan) -> Cost:
    """The cost of all steps together."""
    return sum((step_cost(plan, step) for step in plan.steps), Cost())


def _plane_bytes(plan: Plan, runs: list[Run]) -> int:
    total = 0
    planes = {(run.buffer, run.first + i) for run in runs for i in range(run.count)}
    for number, _ in planes:
        buffer = plan.buffers[number]
        total += buffer.height * buffer.width * buffer_dtype(buffer, plan.dtype).itemsize
    return total


@singledispatch
def _macs(step: Step, plan: Plan) -> int:
    raise NotImplementedError(type(step).__name__)


def _pixels(plan: Plan, planes: Planes) -> int:
    buffer = plan.buffers[planes[0].buffer]
    return buffer.height * buffer.width


def _elements(plan: Plan, name: str) -> int:
    return prod(plan.weights[name].shape)


def _of_matrix(plan: Plan, matrix: Matrix | None, planes: Planes) -> int:
    return 0 if matrix is None else _elements(plan, matrix.weight) * _pixels(plan, planes)


def _of_gates(plan: Plan, gates: tuple[PendingGate, ...]) -> int:
    return sum(_elements(plan, gate.matrix1.weight) + _elements(plan, gate.matrix2.weight) for gate in gates)


def _of_products(plan: Plan, products: tuple[LowerProduct, ...]) -> int:
    return sum(_elements(plan, product.weight) * _pixels(plan, product.input) for product in products)


@_macs.register
def _(step: StemConvolution, plan: Plan) -> int:
    return _elements(plan, step.weight) * _pixels(plan, step.output)


@_macs.register
def _(step: SeparableConvolution, plan: Plan) -> int:
    return sum(
        _of_matrix(plan, path.expand, step.sources[path.source])
        + _elements(plan, path.depthwise.weight) * _pixels(plan, path.output)
        + _of_matrix(plan, path.pointwise, path.output)
        for path in step.paths
    )


@_macs.register
def _(step: PointwiseConvolution, plan: Plan) -> int:
    return sum(_of_matrix(plan, path.matrix, path.output) for path in step.paths)


@_macs.register
def _(step: ResolutionGates, plan: Plan) -> int:
    products = (_of_matrix(plan, matrix, step.output) for matrix in (step.matrix1, step.matrix2))
    return _of_gates(plan, step.gates) + sum(products)


@_macs.register
def _(step: GatedDepthwise, plan: Plan) -> int:
    return sum(_elements(plan, b.depthwise.weight) * _pixels(plan, b.output) for b in step.branches)


@_macs.register
def _(step: FuseUpward, plan: Plan) -> int:
    return _of_gates(plan, step.gates) + _of_products(plan, step.lower)


@_macs.register
def _(step: FuseDownward, plan: Plan) -> int:
    filters = sum(_elements(plan, c.depthwise.weight) for c in step.chains) * _pixels(plan, step.kept)
    products = sum(_of_matrix(plan, p.matrix, p.output) for p in (step.total, *step.continued))
    return filters + products + _of_products(plan, step.lower)


@_macs.register
def _(step: HeadConvolution, plan: Plan) -> int:
    matrices = sum(_of_matrix(plan, matrix, step.output) for matrix in (step.pointwise, step.final))
    return _elements(plan, step.depthwise.weight) * _pixels(plan, step.output) + matrices
