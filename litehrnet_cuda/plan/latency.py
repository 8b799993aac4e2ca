"""How long launches, and whole plans, would take on a named GPU: a range. Predicted from counts, never measured.

The counts are launches, compulsory bytes and multiply-accumulates (:mod:`litehrnet_cuda.plan.costs`), and blocks. The
rest are data sheets (:mod:`litehrnet_cuda.plan.gpus`) and the assumptions below, which are constants of this file and
are printed with every table. Times of launches are added up; what the host does before the first one is left out.

The shortest time is that of ideal launches: caches keep all that fits, everything overlaps.

- A launch begins as early as the way of launching allows (``WAYS``).
- Of its compulsory bytes as many as the L2 cache holds come from there, at what multiprocessors can take at most; the
  rest moves at 85 % of the memory's peak. Meanwhile it multiplies at the peak of the data sheet, in float32 FMAs, which
  is what the kernels use for every type. The slower one counts.
- Blocks are equal and many. With known counts, fewer blocks than multiprocessors leave the others idle.

The longest time is that of launches whose caches keep nothing from one launch to the next, with no overlap at all:
these times are added up.

- A launch begins as late as the way of launching allows.
- Its compulsory bytes come from memory at 40 % of the peak; fewer blocks than multiprocessors get their share of it.
- Every block then fetches all weights that it can need from L2, at an eighth of what a multiprocessor can take:
  latency is hidden badly in small blocks. Blocks run in waves of one a multiprocessor.
- It multiplies at 10 % of the peak, in whole waves: ten instructions for each multiply-accumulate, what is computed
  anew at the edges of tiles included.

Without known counts a launch has 96 blocks at least and, at most, 240 or one for every 32 output pixels of the batch,
whichever is more; each part of the longest time takes the number that is worse for it. Behind these numbers are counts
by the emulator for litehrnet_18 at 256x192 in float32: launches whose blocks share weights have 96 to 240 blocks with
one image, others up to 320. With one, 8 and 64 images, what the longest time lets blocks fetch of weights is about
twice what it is with the counted blocks. The latter and all planes once are, for one and 8 images, about half of what
warps would ask for without any cache, L1 included.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import singledispatch
from typing import NamedTuple

import torch

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.plan.costs import step_cost
from litehrnet_cuda.plan.gpus import Gpu
from litehrnet_cuda.plan.plan import Plan
from litehrnet_cuda.plan.steps import (
    FuseDownward,
    GatedDepthwise,
    PointwiseConvolution,
    SeparableConvolution,
    Step,
)


class Range(NamedTuple):
    """Seconds."""

    shortest: float
    longest: float

    def __str__(self) -> str:
        """In microseconds, with two digits."""
        return " - ".join(f"{seconds * 1e6:.{1 if seconds < 10e-6 else 0}f}" for seconds in self)


MOST_OF_PEAK, LEAST_OF_PEAK = 0.85, 0.40  # of the memory's bandwidth
LEAST_OF_FLOPS = 0.10
MOST_L2_BYTES, LEAST_L2_BYTES = 64, 8  # a cycle and multiprocessor
LEAST_BLOCKS, FEW_BLOCKS, PIXELS_OF_A_BLOCK = 96, 240, 32


class Way(NamedTuple):
    """A way of launching: seconds from the start of a launch with almost nothing to do to the start of the next one.

    Args:
        name: for options and tables.
        what: what it is, for people.
        first: of the first launch.
        others: of each that follows.
        architecture: the compute capability from which on GPUs can do it.
    """

    name: str
    what: str
    first: Range
    others: Range
    architecture: str = "7.5"

    def runs_on(self, gpu: Gpu) -> bool:
        """Whether a GPU can do it."""
        return float(gpu.architecture) >= float(self.architecture)


_HOST, _GRAPH = Range(2e-6, 5e-6), Range(1e-6, 3e-6)
STREAM = Way("stream", "the host issues launch after launch, a call of the driver each", _HOST, _HOST)
GRAPH = Way(
    "graph", "a CUDA graph: a launch is prepared, and waits for memory, once the one before has ended", _GRAPH, _GRAPH
)
DEPENDENT = Way(
    "graph+pdl",
    "the same with programmatic dependent launches, prepared while the one before still runs",
    _GRAPH,
    Range(0.6e-6, 2e-6),
    "9.0",
)
PERSISTENT = Way(
    "one launch",
    "barriers of a whole grid, each twice through L2, in a single launch (persistent=True); the copy of the steps' "
    "parameters to the GPU before it, some 70 KB, is left out",
    _HOST,
    Range(0.8e-6, 3e-6),
)
WAYS = (STREAM, GRAPH, DEPENDENT, PERSISTENT)


def assumptions() -> list[str]:
    """What predictions of plans rest on, for people: a paragraph each for ways of launching and ends of the range."""
    return [
        *(f"{way.name}: from {way.others} microseconds a step; {way.what}.".replace(" - ", " to ") for way in WAYS),
        "shortest: everything overlaps, blocks fill the GPU evenly, caches keep all that fits. Of the bytes that a "
        f"launch has to move, as many as L2 holds come from there at {MOST_L2_BYTES} bytes a cycle and multiprocessor, "
        f"the rest at {MOST_OF_PEAK:.0%} of the memory's peak. Multiply-adds at the float32 peak.",
        f"longest: nothing overlaps. All these bytes at {LEAST_OF_PEAK:.0%} of the memory's peak; then each block "
        f"fetches the weights that it can need from L2 at {LEAST_L2_BYTES} bytes a cycle; then multiply-adds at "
        f"{LEAST_OF_FLOPS:.0%} of the peak, in whole waves of blocks.",
        f"blocks: from {LEAST_BLOCKS} a launch to {FEW_BLOCKS}, or to one for {PIXELS_OF_A_BLOCK} output pixels.",
        "Peaks, clocks and sizes are those of NVIDIA's data sheets. What the host does before the first launch is left "
        "out.",
    ]


class Launch(NamedTuple):
    """What is known of a launch.

    Args:
        fewest, most: blocks that it has.
        least_bytes: that it has to move.
        most_bytes: that it moves to and from memory if caches keep nothing.
        block_bytes: that each block fetches from L2 besides, at most.
        macs: multiply-accumulates.
    """

    fewest: int
    most: int
    least_bytes: float
    most_bytes: float
    block_bytes: float = 0.0
    macs: float = 0.0


def predict_launch(launch: Launch, gpu: Gpu, *, warm: bool) -> Range:
    """How long a launch works, without what launching takes.

    Args:
        launch: the launch.
        gpu: where it runs.
        warm: whether, at best, the L2 cache has what the launch reads, and keeps what it writes.
    """
    memory, flops = gpu.gigabytes_per_second * 1e9, gpu.teraflops * 1e12
    clock, processors = gpu.gigahertz * 1e9, gpu.multiprocessors

    busy = min(1.0, launch.most / processors)
    kept = min(launch.least_bytes, gpu.l2_megabytes * 2**20) if warm else 0.0
    shortest = max(
        (launch.least_bytes - kept) / (MOST_OF_PEAK * memory),
        kept / (MOST_L2_BYTES * clock * processors * busy),
        2 * launch.macs / (flops * busy),
    )
    busy = min(1.0, launch.fewest / processors)
    longest = (
        launch.most_bytes / (LEAST_OF_PEAK * memory * busy)
        + math.ceil(launch.most / processors) * launch.block_bytes / (LEAST_L2_BYTES * clock)
        + 2 * launch.macs / (LEAST_OF_FLOPS * flops) * _longest_waves(launch.fewest, launch.most, processors)
    )
    return Range(shortest, longest)


def predict(launches: Sequence[Launch], gpu: Gpu, way: Way = STREAM, *, warm: bool = False) -> Range:
    """The time of launches one after the other.

    Raises:
        InputError: for a way of launching that the GPU does not have.
    """
    if not way.runs_on(gpu):
        raise InputError(f"{way.name}: expected a GPU of compute capability {way.architecture} or more, got {gpu.name}")
    parts = [predict_launch(launch, gpu, warm=warm) for launch in launches]
    parts += [way.others if number else way.first for number in range(len(launches))]
    return Range(sum(part.shortest for part in parts), sum(part.longest for part in parts))


def predict_plan(
    plan: Plan, gpu: Gpu, *, batch: int = 1, way: Way = STREAM, blocks: Sequence[int] | None = None
) -> Range:
    """The time of a forward pass, from the start of its first launch to the end of its last one.

    Args:
        plan: of float32, float16 or bfloat16.
        gpu: where it would run.
        batch: number of images.
        way: how steps are launched, one of ``WAYS``.
        blocks: how many each step has; by default the range that this file's first lines assume.

    Raises:
        InputError: for float64, for a batch or blocks that make no sense, or a way of launching that the GPU does not
            have.
    """
    return predict(plan_launches(plan, batch, blocks), gpu, way, warm=True)


def plan_launches(plan: Plan, batch: int, blocks: Sequence[int] | None = None) -> list[Launch]:
    """What is known of a plan's launches; arguments and errors are those of :func:`predict_plan`."""
    if plan.dtype == torch.float64:
        raise InputError("latency: expected a plan of float32, float16 or bfloat16, got float64")
    if batch < 1:
        raise InputError(f"batch: expected at least 1, got {batch}")
    if blocks is not None and (len(blocks) != len(plan.steps) or min(blocks) < 1):
        raise InputError(f"blocks: expected {len(plan.steps)} numbers from 1 up, one a step, got {list(blocks)!r:.80}")
    launches = []
    for number, step in enumerate(plan.steps):
        cost = step_cost(plan, step)
        size = batch * (cost.read + cost.written) + cost.weights
        fewest, most = (blocks[number], blocks[number]) if blocks else (LEAST_BLOCKS, _most_blocks(plan, step, batch))
        launches.append(Launch(fewest, most, size, size, _block_weights(plan, step), batch * cost.macs))
    return launches


def _longest_waves(fewest: int, most: int, processors: int) -> float:
    """How much longer equal blocks take in whole waves than spread evenly: the most for any number of them."""
    just_too_many = -(-(fewest - 1) // processors) * processors + 1
    counts = (fewest, just_too_many) if just_too_many <= most else (fewest,)
    return max(-(-count // processors) * processors / count for count in counts)


def _most_blocks(plan: Plan, step: Step, batch: int) -> int:
    buffers = [plan.buffers[planes[0].buffer] for planes in step.outputs()]
    pixels = sum(buffer.height * buffer.width for buffer in buffers if buffer.role != "sums")
    return max(FEW_BLOCKS, batch * -(-pixels // PIXELS_OF_A_BLOCK))


def _block_weights(plan: Plan, step: Step) -> int:
    """Bytes of the weights that one block can need: it works on one of the step's independent parts."""

    def size(names: Iterable[str]) -> int:
        return sum(plan.weights[name].numel() * plan.weights[name].element_size() for name in names)

    return max((size(names) for names in _parts(step)), default=0)


@singledispatch
def _parts(step: Step) -> list[list[str]]:
    """The names of the weights of each part of a step that blocks work on."""
    return [list(step.weights())]


@_parts.register
def _(step: SeparableConvolution) -> list[list[str]]:
    return [
        [name for part in (path.expand, path.depthwise, path.pointwise) if part for name in (part.weight, part.bias)]
        for path in step.paths
    ]


@_parts.register
def _(step: PointwiseConvolution) -> list[list[str]]:
    return [[path.matrix.weight, path.matrix.bias] for path in step.paths]


@_parts.register
def _(step: GatedDepthwise) -> list[list[str]]:
    return []  # a block has a few planes, each with nine weights


@_parts.register
def _(step: FuseDownward) -> list[list[str]]:
    parts = []
    for product in (step.total, *step.continued):
        filters = [step.chains[number].depthwise for number in product.chains]
        names = [name for part in filters for name in (part.weight, part.bias)]
        parts.append([*names, product.matrix.weight, product.matrix.bias])
    parts[0] += [product.weight for product in step.lower]
    return parts
