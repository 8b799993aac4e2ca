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
from litehrnet_cuda.plan.packing import Folded, fold, fold_layers
from litehrnet_cuda.plan.steps import Chain, FuseDownward, FuseUpward, LowerProduct, StackedProduct


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
    # The order of y_i's channels in memory: that of o_i, which is then read in runs, unless the caller gets it.
    rows = [list(range(len(x))) if i < outputs else x.order() for i, x in enumerate(o)]
    y = [
        draft.allocate(f"{name}.y{i}", len(o[i]), o[i].size, "output" if i < outputs else "map", rows[i])
        for i in range(count)
    ]
    s0 = y[0]
    if count > 1 and outputs:
        s0 = draft.allocate(f"{name}.s0", len(o[0]), o[0].size, order=rows[0])
    _add_launch_0(draft, name, paths, o, rows[0], s0, y[0], ends=count == 1)
    waiting: dict[tuple[int, int], Channels] = {}  # what has been stored of the chain from j to i
    for k in range(1, count):
        waiting = _add_launch(draft, name, paths, o, rows, k, count, s0, y[k], waiting)
    if count > 1 and s0 is y[0]:
        y[0] = s0.with_relu()
    return y


def _add_launch_0(
    draft: Draft, name: str, paths: Any, o: list[Channels], rows: list[int], s0: Channels, y0: Channels, *, ends: bool
) -> None:
    name = f"{name}.fuse_layers.0"
    lower, bias = _paths_up(draft, name, paths, o, 0, rows)
    draft.steps.append(
        FuseUpward(
            name,
            draft.take_pending(),
            o[0].runs(rows),
            lower,
            draft.weights.bias(f"{name}.bias", bias),
            ends,
            s0.runs(rows),
            () if s0 is y0 else y0.runs(rows),
        )
    )


def _add_launch(
    draft: Draft,
    name: str,
    paths: Any,
    o: list[Channels],
    rows: list[list[int]],
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
    lower, bias = _paths_up(draft, name, paths, o, k, rows[k])
    for j in range(k):
        number, pointwise, order = add_chain(k, j)
        times = 2 if j == 0 else 1
        ending.append(number)
        columns.append(times * pointwise.matrix[rows[k]][:, order])
        bias = bias + times * pointwise.bias[rows[k]]
    matrix = draft.weights.stacked_matrix(f"{name}.total", torch.cat(columns, dim=1), bias)
    total = StackedProduct(tuple(ending), matrix, y.runs(rows[k]))

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
            o[k].runs(rows[k]),
            lower,
            tuple(continued),
        )
    )
    return stored


def _paths_up(
    draft: Draft, name: str, paths: Any, o: list[Channels], i: int, rows: list[int]
) -> tuple[tuple[LowerProduct, ...], torch.Tensor]:
    """The paths from lower resolutions to branch i, and the sum of their biases, which upsampling does not change."""
    products = []
    bias = torch.zeros(len(rows), dtype=torch.float64)
    for j in range(i + 1, len(o)):
        conv = fold(*paths[i][j])
        weight = draft.weights.weight(f"{name}.up{j}.weight", conv.matrix[rows][:, o[j].order()])
        products.append(LowerProduct(o[j].runs(), weight))
        bias = bias + conv.bias[rows]
    return tuple(products), bias
