"""Plain PyTorch executor of plans: the definition of what each step does, step by step on real buffers.

It reads and writes the same planes of the same buffers, in one arena, as the native executors. Within a step it
computes in the plan's accumulation type; what a step stores is rounded to the type of the buffer.
"""

from __future__ import annotations

from functools import singledispatch

import torch
import torch.nn.functional as F
from torch import Tensor

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.nn.layers import pool_to_size
from litehrnet_cuda.plan.memory import buffer_bytes, buffer_dtype
from litehrnet_cuda.plan.operands import Filter, LowerProduct, Matrix, PendingGate, Planes
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
    StemConvolution,
    Step,
)


def run_reference(plan: Plan, images: Tensor) -> list[Tensor]:
    """Runs a plan.

    Args:
        plan: what :func:`litehrnet_cuda.plan.build_plan` returns.
        images: ``[N, channels, height, width]`` on the CPU, of the plan's size and type.

    Returns:
        the network's outputs, from high to low resolution.

    Raises:
        InputError: for images that do not fit the plan.
    """
    first = plan.buffers[0]
    shape = (first.channels, first.height, first.width)
    if images.dim() != 4 or images.shape[1:] != shape or images.dtype != plan.dtype or images.device.type != "cpu":
        raise InputError(
            f"images: expected [N, {', '.join(map(str, shape))}] of {plan.dtype} on the CPU, as the plan was built "
            f"for, got {list(images.shape)} of {images.dtype} on {images.device.type}"
        )
    memory = Memory(plan, images)
    with torch.no_grad():
        for step in plan.steps:
            run_step(step, memory)
    return [memory.whole(number) for number in plan.outputs]


class Memory:
    """A plan's buffers for one batch, and its weights in the accumulation type.

    The arena starts as NaN, and so do the outputs: what is read without being written shows in the result.

    Args:
        plan: whose buffers they are.
        images: the first of them.
        arena: uint8, room for the buffers that are in it; by default memory of its own.
    """

    def __init__(self, plan: Plan, images: Tensor, arena: Tensor | None = None) -> None:
        self.plan = plan
        self.accumulate = ACCUMULATE[plan.dtype]
        batch = len(images)
        if arena is None:
            arena = torch.empty(plan.layout.arena_bytes * batch, dtype=torch.uint8)
        self.arena = arena.fill_(255)  # all ones are a NaN
        self.buffers: list[Tensor] = []
        for number, (buffer, offset) in enumerate(zip(plan.buffers, plan.layout.offsets, strict=True)):
            dtype = buffer_dtype(buffer, plan.dtype)
            size = batch * buffer_bytes(buffer, plan.dtype)
            if number == 0:
                self.buffers.append(images.flatten(2))
                continue
            if offset is None:
                bytes_ = torch.full((size,), 255, dtype=torch.uint8)
            else:
                bytes_ = arena[batch * offset : batch * offset + size]
            length = batch * buffer.channels * buffer.plane_stride
            values = bytes_.view(dtype)[:length]
            self.buffers.append(values.view(batch, buffer.channels, buffer.plane_stride))

    def whole(self, number: int) -> Tensor:
        """A buffer as ``[N, channels, height, width]``."""
        buffer = self.plan.buffers[number]
        pixels = self.buffers[number][:, :, : buffer.height * buffer.width]
        return pixels.view(*pixels.shape[:2], buffer.height, buffer.width)

    def size(self, planes: Planes) -> tuple[int, int]:
        """Height and width of planes."""
        buffer = self.plan.buffers[planes[0].buffer]
        return buffer.height, buffer.width

    def load(self, planes: Planes) -> Tensor:
        """Planes as ``[N, count, height, width]`` in the accumulation type, pending operations applied."""
        parts = []
        for run in planes:
            x = self.whole(run.buffer)[:, run.first : run.first + run.count].to(self.accumulate)
            if run.relu:
                x = x.relu()
            if run.factors is not None:
                x = x * self.whole(run.factors)[:, run.first_factor : run.first_factor + run.count]
            parts.append(x)
        return torch.cat(parts, dim=1)

    def store(self, planes: Planes, values: Tensor) -> None:
        """Writes ``[N, count, height, width]`` to planes."""
        begin = 0
        for run in planes:
            self.whole(run.buffer)[:, run.first : run.first + run.count] = values[:, begin : begin + run.count]
            begin += run.count
        assert begin == values.shape[1], (begin, values.shape)

    def weight(self, name: str) -> Tensor:
        """A weight in the accumulation type."""
        return self.plan.weights[name].to(self.accumulate)

    def matrix(self, x: Tensor, matrix: Matrix) -> Tensor:
        """A 1x1 convolution."""
        return F.conv2d(x, self.weight(matrix.weight)[..., None, None], self.weight(matrix.bias))

    def depthwise(self, x: Tensor, filter: Filter, stride: int = 1) -> Tensor:
        """A depthwise 3x3 convolution."""
        weight = self.weight(filter.weight)[:, None]
        return F.conv2d(x, weight, self.weight(filter.bias), stride, 1, groups=len(weight))

    def products_from_below(self, products: tuple[LowerProduct, ...], size: tuple[int, int]) -> Tensor | float:
        """The sum of all products with lower resolutions, upsampled."""
        total: Tensor | float = 0.0
        for product in products:
            low = F.conv2d(self.load(product.input), self.weight(product.weight)[..., None, None])
            total = total + F.interpolate(low, size=size)
        return total

    def evaluate(self, gates: tuple[PendingGate, ...]) -> None:
        """Computes and stores the factors of pending gates."""
        for gate in gates:
            mean = self.load(gate.sums).sum(dim=3, keepdim=True) / gate.pixels
            self.store(gate.factors, self.matrix(self.matrix(mean, gate.matrix1).relu(), gate.matrix2).sigmoid())


@singledispatch
def run_step(step: Step, memory: Memory) -> None:
    """Runs one step."""
    raise NotImplementedError(type(step).__name__)


@run_step.register
def _(step: StemConvolution, memory: Memory) -> None:
    y = F.conv2d(memory.load(step.input), memory.weight(step.weight), memory.weight(step.bias), stride=2, padding=1)
    memory.store(step.output, y.relu())


@run_step.register
def _(step: SeparableConvolution, memory: Memory) -> None:
    sources = [memory.load(planes) for planes in step.sources]
    for path in step.paths:
        x = sources[path.source]
        if path.expand is not None:
            x = memory.matrix(x, path.expand).relu()
        x = memory.depthwise(x, path.depthwise, path.stride)
        memory.store(path.output, memory.matrix(x, path.pointwise).relu())


@run_step.register
def _(step: PointwiseConvolution, memory: Memory) -> None:
    for path in step.paths:
        y = memory.matrix(memory.load(path.input), path.matrix)
        memory.store(path.output, y.relu() if path.relu else y)


@run_step.register
def _(step: ResolutionGates, memory: Memory) -> None:
    memory.evaluate(step.gates)
    size = memory.size(step.branches[-1])
    pooled = torch.cat([pool_to_size(memory.load(planes), size) for planes in step.branches], dim=1)
    memory.store(step.output, memory.matrix(memory.matrix(pooled, step.matrix1).relu(), step.matrix2).sigmoid())


@run_step.register
def _(step: GatedDepthwise, memory: Memory) -> None:
    for branch in step.branches:
        x = memory.load(branch.input)
        x = x * F.interpolate(memory.load(branch.gates), size=x.shape[2:])
        y = memory.depthwise(x, branch.depthwise)
        memory.store(branch.output, y)
        tiles = [rows.sum(dim=(2, 3)) for rows in torch.split(y, branch.rows_per_sum, dim=2)]
        memory.store(branch.sums, torch.stack(tiles, dim=2)[:, :, None])


@run_step.register
def _(step: FuseUpward, memory: Memory) -> None:
    memory.evaluate(step.gates)
    x = memory.load(step.top)
    s = 2 * x + memory.products_from_below(step.lower, memory.size(step.top)) + memory.weight(step.bias)[:, None, None]
    memory.store(step.output, s.relu() if step.relu else s)
    if step.also:
        memory.store(step.also, s.relu())


@run_step.register
def _(step: FuseDownward, memory: Memory) -> None:
    sources = [memory.load(planes) for planes in step.sources]
    filtered = [memory.depthwise(sources[chain.source], chain.depthwise, stride=2) for chain in step.chains]

    def product_of(chains: tuple[int, ...], matrix: Matrix) -> Tensor:
        return memory.matrix(torch.cat([filtered[chain] for chain in chains], dim=1), matrix)

    lower = memory.products_from_below(step.lower, memory.size(step.kept))
    y = product_of(step.total.chains, step.total.matrix) + memory.load(step.kept) + lower
    memory.store(step.total.output, y.relu())
    for product in step.continued:
        memory.store(product.output, product_of(product.chains, product.matrix).relu())


@run_step.register
def _(step: HeadConvolution, memory: Memory) -> None:
    x = memory.load(step.input)
    if step.below:
        x = x + F.interpolate(memory.load(step.below), size=x.shape[2:], mode="bilinear", align_corners=True)
    y = memory.matrix(memory.depthwise(x, step.depthwise), step.pointwise).relu()
    memory.store(step.output, y if step.final is None else memory.matrix(y, step.final))
