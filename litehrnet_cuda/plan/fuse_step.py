"""The fuse step of a module as one launch per resolution.

With o_j the blocks' outputs, f_ij the path from branch j to branch i (:class:`litehrnet_cuda.nn.fuse.LiteHRModule`)::

    s_0 = 2 o_0 + sum_{j>=1} f_0j(o_j)
    s_i = 2 f_i0(s_0) + o_i + sum_{j>=1, j!=i} f_ij(o_j)       i >= 1        y_i = relu(s_i)

A path up is a product at its low resolution, which the launch that adds it up computes. A path down is a chain of
i - j steps (depthwise with stride 2, then 1x1) through the resolutions between. Launch 0 makes s_0. Launch k takes all
chains from resolution k - 1 to k, so that a chain out of branch j starts in launch j + 1, and all chains into branch k
end in launch k, where their last products are one stacked product, and y_k is finished.
"""

from __future__ import annotations

from typing import Any

import torch

from litehrnet_cuda.nn.fuse import LiteHRModule
from litehrnet_cuda.plan.channels import Channels
from litehrnet_cuda.plan.draft import Draft
from litehrnet_cuda.plan.operands import LowerProduct
from litehrnet_cuda.plan.packing import Folded, fold, fold_layers
from litehrnet_cuda.plan.steps import Chain, FuseDownward, FuseUpward, StackedProduct


def add_fuse_step(
    draft: Draft, name: str, module: LiteHRModule, o: list[Channels], returned: int | None = None
) -> list[Channels]:
    """Adds the launches, and returns the tables of the y_i.

    Args:
        draft: the plan so far.
        name: the module's.
        module: with a fuse step.
        o: the blocks' outputs.
        returned: where the network ends with this module, how many branches are asked for, at least one. The others
            are not computed. They are the network's outputs, in the order of its channels; where 0, a layer follows.
    """
    paths: Any = module.fuse_layers
    count = min(len(paths), len(o) if returned is None else max(returned, 1))
    outputs = returned or 0
    # In the order of their channels, so that what the next blocks read are few runs. The o_i that are added to them are
    # therefore read plane by plane from wherever shuffles have left them.
    y = [draft.allocate(f"{name}.y{i}", len(o[i]), o[i].size, "output" if i < outputs else "map") for i in range(count)]
    s0 = y[0]
    if count > 1 and outputs:
        s0 = draft.allocate(f"{name}.s0", len(o[0]), o[0].size)
    _add_launch_0(draft, name, paths, o, s0, y[0], ends=count == 1)
    waiting: dict[tuple[int, int], Channels] = {}  # what has been stored of the chain from j to i
    for k in range(1, count):
        waiting = _add_launch(draft, name, paths, o, k, count, s0, y[k], waiting)
    if count > 1 and s0 is y[0]:
        y[0] = s0.with_relu()
    return y


def _add_launch_0(
    draft: Draft, name: str, paths: Any, o: list[Channels], s0: Channels, y0: Channels, *, ends: bool
) -> None:
    name = f"{name}.fuse_layers.0"
    lower, bias = _paths_up(draft, name, paths, o, 0)
    draft.steps.append(
        FuseUpward(
            name,
            draft.take_pending(),
            o[0].runs(range(len(o[0]))),
            lower,
            draft.weights.bias(f"{name}.bias", bias),
            ends,
            s0.runs(),
            () if s0 is y0 else y0.runs(),
        )
    )


def _add_launch(
    draft: Draft,
    name: str,
    paths: Any,
    o: list[Channels],
    k: int,
    count: int,
    s0: Channels,
    y: Channels,
    waiting: dict[tuple[int, int], Channels],
) -> dict[tuple[int, int], Channels]:
    """Launch k; returns what chains that go on have stored."""
    name = f"{name}.fuse_layers.{k}"
    top = s0 if k == 1 else o[k - 1]
    sources = [top, *waiting.values()]
    numbers = {key: 1 + i for i, key in enumerate(waiting)}
    chains: list[Chain] = []

    def add_chain(i: int, j: int) -> tuple[int, Folded, list[int]]:
        """The chain's depthwise convolution: its number, the 1x1 convolution behind it, the order of its columns."""
        number = numbers.get((i, j), 0)
        order = sources[number].order()
        depthwise, pointwise = fold_layers(paths[i][j][k - 1 - j])
        chains.append(Chain(number, draft.weights.filter(f"{name}.depthwise{i}{j}", depthwise, order)))
        return len(chains) - 1, pointwise, order

    ending, columns = [], []
    lower, bias = _paths_up(draft, name, paths, o, k)
    for j in range(k):
        number, pointwise, order = add_chain(k, j)
        times = 2 if j == 0 else 1
        ending.append(number)
        columns.append(times * pointwise.matrix[:, order])
        bias = bias + times * pointwise.bias
    matrix = draft.weights.stacked_matrix(f"{name}.total", torch.cat(columns, dim=1), bias)
    total = StackedProduct(tuple(ending), matrix, y.runs())

    continued, stored = [], {}
    for i in range(k + 1, count):
        for j in range(k):
            number, pointwise, order = add_chain(i, j)
            x = draft.allocate(f"{name}.chain{i}{j}", len(pointwise.bias), o[k].size)
            matrix = draft.weights.matrix(f"{name}.chain{i}{j}", pointwise, x.order(), order)
            continued.append(StackedProduct((number,), matrix, x.runs()))
            stored[i, j] = x
    draft.steps.append(
        FuseDownward(
            name,
            tuple(source.runs() for source in sources),
            tuple(chains),
            total,
            o[k].runs(range(len(o[k]))),
            lower,
            tuple(continued),
        )
    )
    return stored


def _paths_up(
    draft: Draft, name: str, paths: Any, o: list[Channels], i: int
) -> tuple[tuple[LowerProduct, ...], torch.Tensor]:
    """The paths from lower resolutions to branch i, and the sum of their biases, which upsampling does not change."""
    products = []
    bias = torch.zeros(len(o[i]), dtype=torch.float64)
    for j in range(i + 1, len(o)):
        conv = fold(*paths[i][j])
        weight = draft.weights.weight(f"{name}.up{j}.weight", conv.matrix[:, o[j].order()])
        products.append(LowerProduct(o[j].runs(), weight))
        bias = bias + conv.bias
    return tuple(products), bias
