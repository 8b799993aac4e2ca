"""The forward pass of Lite-HRNet as a plan: this file is the network, read from top to bottom.

:func:`build_plan` goes through a network once and notes which launches compute it. One launch, a *step*, serves all
branches of a module: 2 for the stem, 1 for the transitions into a stage, 2 for a block, as many as there are branches
for a fuse step, and 4 for the head. The maths of each step is in :mod:`litehrnet_cuda.plan.steps`.

What makes so few of them possible:

- Split, concatenation and shuffle are done to tables (:mod:`litehrnet_cuda.plan.channels`), at the time of building.
- A block touches only the half of the planes that it weights.
- Spatial weighting's gates stay pending on planes, and so does the ReLU of the highest resolution after a fuse step.
- Upsampling commutes with 1x1 convolutions, so paths up are products at the low resolution, added where sums are made.
- Paths down are chains; in a fuse step all chains into one resolution end in the same launch, in one stacked product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.models.litehrnet import MIN_SIZE, LiteHRNet, PoseNetwork
from litehrnet_cuda.nn.blocks import ConditionalChannelWeighting, ShuffleUnit, Stem
from litehrnet_cuda.nn.fuse import LiteHRModule
from litehrnet_cuda.plan.channels import Channels, Plane, concat_shuffle
from litehrnet_cuda.plan.draft import Draft
from litehrnet_cuda.plan.fuse_step import add_fuse_step
from litehrnet_cuda.plan.memory import lay_out
from litehrnet_cuda.plan.operands import PendingGate, Planes
from litehrnet_cuda.plan.packing import ACCUMULATE, Folded, fold, fold_layers, fold_module
from litehrnet_cuda.plan.plan import Plan
from litehrnet_cuda.plan.steps import (
    GatedDepthwise,
    GatedDepthwisePath,
    HeadConvolution,
    PointwiseConvolution,
    PointwisePath,
    ResolutionGates,
    SeparableConvolution,
    SeparablePath,
    StemConvolution,
)

PIXELS_PER_SUM = 384  # at most, if a row has no more: small tiles, so that a launch has many of them at batch 1


def build_plan(model: LiteHRNet | PoseNetwork, height: int, width: int, dtype: torch.dtype = torch.float32) -> Plan:
    """The plan of a network for one input size, and any batch size, in inference.

    Args:
        model: the network, on any device, in any mode; its weights are copied, batch norms with running statistics.
        height, width: input size in pixels, from 32 up.
        dtype: type of feature maps and weights: fp16, bf16, fp32 or fp64.

    Raises:
        InputError: for a model that is no Lite-HRNet, a size below 32 or a type that is not listed above.
    """
    network = model.backbone if isinstance(model, PoseNetwork) else model
    _check(model, network, height, width, dtype)
    draft = Draft(dtype)
    prefix = "backbone." if isinstance(model, PoseNetwork) else ""
    returned = _returned_branches(model, network)

    image = draft.allocate("image", network.in_channels, (height, width), "input")
    branches = [_stem(draft, f"{prefix}stem", network.stem, image)]
    for stage in range(network.num_stages):
        name = f"{prefix}transition{stage}"
        branches = _transition(draft, name, network.get_submodule(f"transition{stage}"), branches)
        modules: Any = network.get_submodule(f"stage{stage}")
        for number, module in enumerate(modules):
            name = f"{prefix}stage{stage}.{number}"
            ends = not network.with_head and stage == network.num_stages - 1 and number == len(modules) - 1
            blocks = _lite_blocks if module.module_type == "LITE" else _naive_blocks
            branches = blocks(draft, name, module, branches)
            branches = add_fuse_step(draft, name, module, branches, returned if ends else None)
    if network.with_head:
        final = fold(model.keypoint_head.final_layer) if isinstance(model, PoseNetwork) else None
        branches = _head(draft, f"{prefix}head_layer", network.head_layer, branches, returned, final)
    elif isinstance(model, PoseNetwork):
        branches = [_last_layer(draft, "keypoint_head.final_layer", model, branches[0])]

    numbers = [branch.planes[0].buffer for branch in branches]
    buffers, steps = tuple(draft.buffers), tuple(draft.steps)
    return Plan(
        network=network.variant.name,
        height=height,
        width=width,
        dtype=dtype,
        buffers=buffers,
        steps=steps,
        weights=draft.weights.tensors,
        outputs=tuple(number for number in numbers if buffers[number].role == "output"),
        layout=lay_out(buffers, steps, dtype),
    )


def _returned_branches(model: LiteHRNet | PoseNetwork, network: LiteHRNet) -> int:
    """How many branches the backbone itself returns; none where a head follows that is part of the plan."""
    if isinstance(model, PoseNetwork):
        return 0
    return 1 if network.branches == "top" else len(network.variant.channels)


def _half(size: tuple[int, int]) -> tuple[int, int]:
    """The size after a 3x3 convolution with stride 2 and padding 1."""
    return -(-size[0] // 2), -(-size[1] // 2)


def _stem(draft: Draft, name: str, stem: Stem, image: Channels) -> Channels:
    """Two launches: the first convolution; then both branches, one of which is expanded on the way."""
    conv = fold_module(stem.conv1)
    x = draft.allocate(name, len(conv.bias), _half(image.size))
    weight = draft.weights.weight(f"{name}.conv1.weight", conv.weight)
    bias = draft.weights.bias(f"{name}.conv1.bias", conv.bias)
    draft.steps.append(StemConvolution(f"{name}.conv1", image.runs(), weight, bias, x.runs()))

    halves = (x.half(0), x.half(1))
    branch1: Any = stem.branch1
    layers: list[list[Folded]] = [
        [fold_module(layer) for layer in branch1],
        [fold_module(layer) for layer in (stem.expand_conv, stem.depthwise_conv, stem.linear_conv)],
    ]
    widths = [len(convs[-1].bias) for convs in layers]
    y = draft.allocate(f"{name}.y", sum(widths), _half(x.size))
    parts = (replace(y, planes=y.planes[: widths[0]]), replace(y, planes=y.planes[widths[0] :]))
    paths = []
    for number, (convs, part) in enumerate(zip(layers, parts, strict=True)):
        path = f"{name}.path{number}"
        expand = None
        if len(convs) == 3:
            expanded, columns = convs[0], halves[number].order()
            expand = draft.weights.matrix(f"{path}.expand", expanded, range(len(expanded.bias)), columns)
        paths.append(_separable_path(draft, path, number, halves[number], convs[-2:], 2, part, expand))
    draft.steps.append(SeparableConvolution(name, tuple(half.runs() for half in halves), tuple(paths)))
    return concat_shuffle(*parts)


def _separable_path(
    draft: Draft,
    name: str,
    source: int,
    x: Channels,
    convs: Sequence[Folded],
    stride: int,
    y: Channels,
    expand: Any = None,
) -> SeparablePath:
    """Depthwise and pointwise convolution from x to y, both in the order of their addresses."""
    depthwise, pointwise = convs
    channels = x.order() if expand is None else range(len(depthwise.bias))
    return SeparablePath(
        source,
        stride,
        expand,
        draft.weights.filter(f"{name}.depthwise", depthwise, channels),
        draft.weights.matrix(f"{name}.pointwise", pointwise, y.order(), channels),
        y.runs(),
    )


def _transition(draft: Draft, name: str, transition: Any, branches: list[Channels]) -> list[Channels]:
    """One launch for all branches that change or are new; the others stay where they are."""
    result: list[Channels] = []
    sources: list[int] = []
    paths: list[SeparablePath] = []
    for number, path in enumerate(transition):
        origin = min(number, len(branches) - 1)
        x = branches[origin]
        if path is None:
            result.append(x)
            continue
        grows = number >= len(branches)
        (layers,) = path if grows else (path,)  # a stage adds one branch, so the way there has one step
        convs = fold_layers(layers)
        y = draft.allocate(f"{name}.{number}", len(convs[-1].bias), _half(x.size) if grows else x.size)
        if origin not in sources:
            sources.append(origin)
        source = sources.index(origin)
        paths.append(_separable_path(draft, f"{name}.{number}", source, x, convs, 2 if grows else 1, y))
        result.append(y)
    if paths:
        inputs = tuple(branches[origin].runs() for origin in sources)
        draft.steps.append(SeparableConvolution(name, inputs, tuple(paths)))
    return result


def _lite_blocks(draft: Draft, name: str, module: LiteHRModule, branches: list[Channels]) -> list[Channels]:
    """Conditional channel weighting: two launches a block."""
    blocks: Any = module.layers
    for number, block in enumerate(blocks):
        branches = _conditional_channel_weighting(draft, f"{name}.layers.{number}", block, branches)
    return branches


def _conditional_channel_weighting(
    draft: Draft, name: str, block: ConditionalChannelWeighting, branches: list[Channels]
) -> list[Channels]:
    """Gates of all branches, then weighting and depthwise convolution; spatial weighting's gates stay pending."""
    changed = [branch.half(1) for branch in branches]
    starts = [sum(map(len, changed[:i])) for i in range(len(changed))]
    # Channels of the concatenation in the order in which the branches' planes are read.
    order = [start + channel for start, half in zip(starts, changed, strict=True) for channel in half.order()]

    weighting = block.cross_resolution_weighting
    conv1, conv2 = (fold_module(conv) for conv in (weighting.conv1, weighting.conv2))
    hidden = range(len(conv1.bias))
    path = f"{name}.cross_resolution_weighting"
    gates = draft.allocate(path, len(order), branches[-1].size, "gates")
    draft.steps.append(
        ResolutionGates(
            name,
            draft.take_pending(),
            tuple(half.runs() for half in changed),
            draft.weights.matrix(f"{path}.conv1", conv1, hidden, order),
            draft.weights.matrix(f"{path}.conv2", conv2, order, hidden),
            gates.runs(),
        )
    )

    paths, result = [], []
    for i, branch in enumerate(branches):
        own_gates = gates.runs(range(starts[i], starts[i] + len(changed[i])))
        gated, y = _gated_branch(draft, f"{name}.{i}", block, i, branch, own_gates)
        paths.append(gated)
        result.append(y)
    draft.steps.append(GatedDepthwise(name, tuple(paths)))
    return result


def _gated_branch(
    draft: Draft, name: str, block: ConditionalChannelWeighting, number: int, branch: Channels, gates: Planes
) -> tuple[GatedDepthwisePath, Channels]:
    """One branch of a block after its gates: what the launch does, and the table of the shuffled result."""
    kept, changed = branch.half(0), branch.half(1)
    order, size = changed.order(), branch.size
    # Not where the half is now, because neighbouring tiles need each other's pixels.
    room = sorted(branch.free) or draft.allocate(f"{name}.spare", len(changed), size).planes
    filtered = Channels.placed(room, order, size)
    rows = max(1, PIXELS_PER_SUM // size[1])
    sums = draft.allocate(f"{name}.sums", len(changed), (1, -(-size[0] // rows)), "sums")
    convs: Any = block.depthwise_convs
    depthwise = draft.weights.filter(f"{name}.depthwise", fold_module(convs[number]), order)
    path = GatedDepthwisePath(changed.runs(), gates, depthwise, filtered.runs(order), sums.runs(), rows)

    gate: Any = block.spatial_weighting[number]
    squeeze, excite = fold_module(gate.conv1), fold_module(gate.conv2)
    hidden = range(len(squeeze.bias))
    matrix1 = draft.weights.matrix(f"{name}.gate.conv1", squeeze, hidden, order)
    matrix2 = draft.weights.matrix(f"{name}.gate.conv2", excite, order, hidden)
    factors = draft.allocate(f"{name}.factors", len(changed), (1, 1), "factors", order)
    draft.pending.append(PendingGate(sums.runs(), size[0] * size[1], matrix1, matrix2, factors.runs(order)))
    weighted = Channels(
        tuple(
            plane._replace(factors=factor.buffer, factor=factor.number)
            for plane, factor in zip(filtered.planes, factors.planes, strict=True)
        ),
        size,
    )
    freed = tuple(Plane(plane.buffer, plane.number) for plane in changed.planes)
    return path, replace(concat_shuffle(kept, weighted), free=freed)


def _naive_blocks(draft: Draft, name: str, module: LiteHRModule, branches: list[Channels]) -> list[Channels]:
    """Shuffle units of all branches side by side: two launches a unit."""
    units: list[list[ShuffleUnit]] = [list(layer) for layer in module.layers]  # type: ignore[call-overload]
    for number, parallel in enumerate(zip(*units, strict=True)):
        branches = _shuffle_units(draft, f"{name}.layers.*.{number}", parallel, branches)
    return branches


def _shuffle_units(draft: Draft, name: str, units: Sequence[ShuffleUnit], branches: list[Channels]) -> list[Channels]:
    """The first 1x1 convolution into a buffer of its own, then depthwise and 1x1 back into the half's old planes."""
    first, second, result = [], [], []
    hidden = []
    for i, (unit, branch) in enumerate(zip(units, branches, strict=True)):
        path = f"{name}.{i}"
        changed = branch.half(1)
        layers: Any = unit.branch2
        expand, *convs = (fold_module(layer) for layer in layers)
        x = draft.allocate(f"{path}.hidden", len(expand.bias), branch.size)
        matrix = draft.weights.matrix(f"{path}.first", expand, x.order(), changed.order())
        first.append(PointwisePath(changed.runs(), matrix, True, x.runs()))
        y = Channels(tuple(plane._replace(relu=False) for plane in changed.planes), branch.size)
        second.append(_separable_path(draft, path, i, x, convs, 1, y))
        hidden.append(x.runs())
        result.append(concat_shuffle(branch.half(0), y))
    draft.steps.append(PointwiseConvolution(f"{name}.first", tuple(first)))
    draft.steps.append(SeparableConvolution(name, tuple(hidden), tuple(second)))
    return result


def _head(
    draft: Draft, name: str, head: Any, branches: list[Channels], returned: int, final: Folded | None
) -> list[Channels]:
    """One launch a branch, from low to high resolution; the last with the network's last layer."""
    results: list[Channels] = []
    for i in reversed(range(len(branches))):
        project = head.projects[len(branches) - 1 - i]
        depthwise, pointwise = fold_module(project.depthwise_conv), fold_module(project.pointwise_conv)
        x, order = branches[i], branches[i].order()
        path = f"{name}.projects.{len(branches) - 1 - i}"
        inner = range(len(pointwise.bias))
        last = final if i == 0 else None
        width = len((last or pointwise).bias)
        is_output = last is not None or i < returned
        y = draft.allocate(path, width, x.size, "output" if is_output else "map")
        draft.steps.append(
            HeadConvolution(
                path,
                x.runs(),
                results[-1].runs(order) if results else (),
                draft.weights.filter(f"{path}.depthwise", depthwise, order),
                draft.weights.matrix(f"{path}.pointwise", pointwise, inner, order),
                last and draft.weights.matrix(f"{path}.final", last, range(width), inner),
                y.runs(),
            )
        )
        results.append(y)
    return results[::-1]


def _last_layer(draft: Draft, name: str, model: PoseNetwork, x: Channels) -> Channels:
    """The last layer of a network without a head before it."""
    conv = fold(model.keypoint_head.final_layer)
    y = draft.allocate(name, len(conv.bias), x.size, "output")
    matrix = draft.weights.matrix(name, conv, y.order(), x.order())
    draft.steps.append(PointwiseConvolution(name, (PointwisePath(x.runs(), matrix, False, y.runs()),)))
    return y


def _check(model: object, network: object, height: int, width: int, dtype: torch.dtype) -> None:
    if not isinstance(network, LiteHRNet):
        raise InputError(f"build_plan: expected a LiteHRNet or a PoseNetwork, got {type(model).__name__}")
    if min(height, width) < MIN_SIZE:
        raise InputError(f"build_plan: expected height and width of at least {MIN_SIZE}, got {height} and {width}")
    if dtype not in ACCUMULATE:
        raise InputError(f"build_plan: expected dtype float16, bfloat16, float32 or float64, got {dtype}")
    if 0 in network.variant.num_modules:
        raise InputError(f"build_plan: expected a module in every stage, got num_modules={network.variant.num_modules}")
