"""The steps of a plan, one kind for every kind of launch. Plain data, with the maths of each.

In the maths x, o, s are feature maps as their readers see them, pending operations applied; ``up`` is nearest
upsampling, ``pool`` adaptive average pooling, ``bilinear`` bilinear upsampling with aligned corners, each with the
windows and roundings of PyTorch, to the size that the result is combined with; ``dw`` is a depthwise 3x3 convolution
with its bias, padded with zeros. Batch norms are folded into weights and biases. A step computes in the plan's
accumulation type, and rounds what it writes to the type of the buffer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from litehrnet_cuda.plan.operands import Filter, LowerProduct, Matrix, PendingGate, Planes, Run


class Step:
    """One launch. ``name`` is the module that it computes, or computes a part of."""

    name: str

    def inputs(self) -> tuple[Planes, ...]:
        """The planes that it reads, each once."""
        raise NotImplementedError

    def outputs(self) -> tuple[Planes, ...]:
        """The planes that it writes."""
        raise NotImplementedError

    def weights(self) -> tuple[str, ...]:
        """The names of the weights that it reads."""
        raise NotImplementedError

    def evaluated_gates(self) -> tuple[PendingGate, ...]:
        """The gates whose factors it computes."""
        return ()

    def reads(self) -> list[Run]:
        """All planes that must have been written before: inputs, sums, and factors that it does not evaluate."""
        gates = self.evaluated_gates()
        own = {run.buffer for gate in gates for run in gate.factors}
        inputs = list(chain.from_iterable(self.inputs()))
        factors = {
            Run(run.factors, run.first_factor, run.count)
            for run in inputs
            if run.factors is not None and run.factors not in own
        }
        sums = chain.from_iterable(gate.sums for gate in gates)
        return [*inputs, *sums, *sorted(factors, key=lambda run: (run.buffer, run.first))]

    def writes(self) -> list[Run]:
        """All planes that it writes: outputs, and the factors of the gates that it evaluates."""
        return [*chain.from_iterable(self.outputs()), *(run for g in self.evaluated_gates() for run in g.factors)]


def _names(parts: Iterable[Matrix | Filter | PendingGate | None]) -> tuple[str, ...]:
    names: list[str] = []
    for part in parts:
        if isinstance(part, PendingGate):
            names += _names((part.matrix1, part.matrix2))
        elif part is not None:
            names += (part.weight, part.bias)
    return tuple(names)


@dataclass(frozen=True)
class StemConvolution(Step):
    """The stem's first half: ``y = relu(W * x + b)``, a full 3x3 convolution with stride 2 and padding 1.

    ``weight`` names ``[rows, channels, 3, 3]``, ``bias`` ``[rows]``.
    """

    name: str
    input: Planes
    weight: str
    bias: str
    output: Planes

    def inputs(self) -> tuple[Planes, ...]:
        return (self.input,)

    def outputs(self) -> tuple[Planes, ...]:
        return (self.output,)

    def weights(self) -> tuple[str, ...]:
        return self.weight, self.bias


@dataclass(frozen=True)
class SeparablePath:
    """``y = relu(W dw(e) + b)`` with ``e = relu(W_e x + b_e)`` or, without ``expand``, ``e = x``.

    x is input number ``source`` of the step, ``stride`` that of dw. What dw pads with is zero, not relu(b_e).
    """

    source: int
    stride: int
    expand: Matrix | None
    depthwise: Filter
    pointwise: Matrix
    output: Planes


@dataclass(frozen=True)
class SeparableConvolution(Step):
    """Independent separable convolutions: the stem's second half, the transitions into a stage, half a shuffle unit.

    A tile needs all channels of its pixels; ``expand`` is computed anew for the halo of a tile rather than stored.
    """

    name: str
    sources: tuple[Planes, ...]
    paths: tuple[SeparablePath, ...]

    def inputs(self) -> tuple[Planes, ...]:
        return self.sources

    def outputs(self) -> tuple[Planes, ...]:
        return tuple(path.output for path in self.paths)

    def weights(self) -> tuple[str, ...]:
        return _names(part for path in self.paths for part in (path.expand, path.depthwise, path.pointwise))


@dataclass(frozen=True)
class PointwisePath:
    """``y = W x + b``, and a ReLU if ``relu``."""

    input: Planes
    matrix: Matrix
    relu: bool
    output: Planes


@dataclass(frozen=True)
class PointwiseConvolution(Step):
    """Independent 1x1 convolutions: the first half of the shuffle units of all branches, or a last layer alone."""

    name: str
    paths: tuple[PointwisePath, ...]

    def inputs(self) -> tuple[Planes, ...]:
        return tuple(path.input for path in self.paths)

    def outputs(self) -> tuple[Planes, ...]:
        return tuple(path.output for path in self.paths)

    def weights(self) -> tuple[str, ...]:
        return _names(path.matrix for path in self.paths)


@dataclass(frozen=True)
class ResolutionGates(Step):
    """Conditional channel weighting, first launch: the gates of cross-resolution weighting of all branches.

    ``output = sigmoid(W2 relu(W1 p + b1) + b2)``, ``p = concat_i pool(x_i)`` to the last branch's size

    Pending gates of the block before are evaluated first; a factor may be applied after pooling its plane.
    """

    name: str
    gates: tuple[PendingGate, ...]
    branches: tuple[Planes, ...]
    matrix1: Matrix
    matrix2: Matrix
    output: Planes

    def inputs(self) -> tuple[Planes, ...]:
        return self.branches

    def outputs(self) -> tuple[Planes, ...]:
        return (self.output,)

    def weights(self) -> tuple[str, ...]:
        return _names((*self.gates, self.matrix1, self.matrix2))

    def evaluated_gates(self) -> tuple[PendingGate, ...]:
        return self.gates


@dataclass(frozen=True)
class GatedDepthwisePath:
    """``y = dw(x * up(gates))``, and the sum of y over every tile of ``rows_per_sum`` whole rows.

    The sums are those of y before it is rounded to the plan's type. y is never where x is: neighbouring tiles need
    each other's pixels.
    """

    input: Planes
    gates: Planes
    depthwise: Filter
    output: Planes
    sums: Planes
    rows_per_sum: int


@dataclass(frozen=True)
class GatedDepthwise(Step):
    """Conditional channel weighting, second launch: weighting and depthwise convolution of all branches."""

    name: str
    branches: tuple[GatedDepthwisePath, ...]

    def inputs(self) -> tuple[Planes, ...]:
        return tuple(planes for branch in self.branches for planes in (branch.input, branch.gates))

    def outputs(self) -> tuple[Planes, ...]:
        return tuple(planes for branch in self.branches for planes in (branch.output, branch.sums))

    def weights(self) -> tuple[str, ...]:
        return _names(branch.depthwise for branch in self.branches)


@dataclass(frozen=True)
class FuseUpward(Step):
    """The fuse step, first launch: the sum at the highest resolution.

    ``s = 2 o_0 + sum_j up(W_j o_j) + b``, where b adds up the paths' biases. It is stored once: s itself for the
    downward chains, which read it before its ReLU, and for everybody else with a pending ReLU. With ``relu`` it is
    stored after it, which is for sums that end the network or that no chain reads.
    ``also`` takes relu(s) besides, where the network returns it and chains read s.
    """

    name: str
    gates: tuple[PendingGate, ...]
    top: Planes
    lower: tuple[LowerProduct, ...]
    bias: str
    relu: bool
    output: Planes
    also: Planes

    def inputs(self) -> tuple[Planes, ...]:
        return (self.top, *(product.input for product in self.lower))

    def outputs(self) -> tuple[Planes, ...]:
        return (self.output, self.also) if self.also else (self.output,)

    def weights(self) -> tuple[str, ...]:
        return (*_names(self.gates), *(product.weight for product in self.lower), self.bias)

    def evaluated_gates(self) -> tuple[PendingGate, ...]:
        return self.gates


@dataclass(frozen=True)
class Chain:
    """One step of one downward chain: ``d = dw(x)`` with stride 2, x input number ``source`` of the step."""

    source: int
    depthwise: Filter


@dataclass(frozen=True)
class StackedProduct:
    """``W concat(d of the chains) + b``; ``chains`` are numbers of the step's chains."""

    chains: tuple[int, ...]
    matrix: Matrix
    output: Planes


@dataclass(frozen=True)
class FuseDownward(Step):
    """The fuse step, launch k >= 1: all that downward chains do from resolution k - 1 to k.

    Chains that end here: ``y_k = relu(W concat_j(d_j) + o_k + sum_{l>k} up(W_l o_l) + b)``. W stacks the last matrices
    of all chains, that of the chain out of s_0 doubled; b adds up the biases of all paths.
    Chains that go on: ``relu(W d + b)`` for each, stored.
    """

    name: str
    sources: tuple[Planes, ...]
    chains: tuple[Chain, ...]
    total: StackedProduct
    kept: Planes
    lower: tuple[LowerProduct, ...]
    continued: tuple[StackedProduct, ...]

    def inputs(self) -> tuple[Planes, ...]:
        return (*self.sources, self.kept, *(product.input for product in self.lower))

    def outputs(self) -> tuple[Planes, ...]:
        return (self.total.output, *(product.output for product in self.continued))

    def weights(self) -> tuple[str, ...]:
        products = (self.total, *self.continued)
        names = (*_names(item.depthwise for item in self.chains), *_names(product.matrix for product in products))
        return (*names, *(product.weight for product in self.lower))


@dataclass(frozen=True)
class HeadConvolution(Step):
    """One branch of the iterative head: ``y = relu(W dw(x + bilinear(below)) + b)``.

    ``below`` is empty for the lowest branch. With ``final``, ``W_f y + b_f`` is stored instead of y.
    """

    name: str
    input: Planes
    below: Planes
    depthwise: Filter
    pointwise: Matrix
    final: Matrix | None
    output: Planes

    def inputs(self) -> tuple[Planes, ...]:
        return (self.input, self.below) if self.below else (self.input,)

    def outputs(self) -> tuple[Planes, ...]:
        return (self.output,)

    def weights(self) -> tuple[str, ...]:
        return _names((self.depthwise, self.pointwise, self.final))


STEPS: tuple[type[Step], ...] = (
    StemConvolution,
    SeparableConvolution,
    PointwiseConvolution,
    ResolutionGates,
    GatedDepthwise,
    FuseUpward,
    FuseDownward,
    HeadConvolution,
)
