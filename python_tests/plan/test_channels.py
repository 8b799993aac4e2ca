from __future__ import annotations

import torch

from litehrnet_cuda.nn.layers import concat_shuffle as shuffled_tensor
from litehrnet_cuda.plan.channels import Channels, Plane, as_runs, concat_shuffle
from litehrnet_cuda.plan.operands import Run


def table(buffer: int, count: int, first: int = 0) -> Channels:
    return Channels(tuple(Plane(buffer, first + i) for i in range(count)), (4, 3))


def test_tables_shuffle_as_tensors_do() -> None:
    for first, second in ((4, 4), (3, 3), (2, 6), (16, 8)):
        a, b = table(0, first), table(1, second)
        numbers = [torch.arange(n).view(1, n, 1, 1) + start for n, start in ((first, 0), (second, 100))]
        expected = shuffled_tensor(*numbers).flatten().tolist()
        assert [plane.buffer * 100 + plane.number for plane in concat_shuffle(a, b).planes] == expected


def test_runs_join_what_follows() -> None:
    planes = [Plane(1, 4), Plane(1, 5), Plane(1, 7), Plane(2, 8), Plane(2, 9, relu=True)]
    assert as_runs(planes) == (Run(1, 4, 2), Run(1, 7, 1), Run(2, 8, 1), Run(2, 9, 1, relu=True))
    factors = [Plane(1, 0, False, 5, 2), Plane(1, 1, False, 5, 3), Plane(1, 2, False, 5, 9), Plane(1, 3)]
    assert as_runs(factors) == (Run(1, 0, 2, False, 5, 2), Run(1, 2, 1, False, 5, 9), Run(1, 3, 1))


def test_order_is_that_of_addresses() -> None:
    x = concat_shuffle(table(3, 3), table(1, 3, first=2))
    assert x.order() == [1, 3, 5, 0, 2, 4]
    assert x.runs() == (Run(1, 2, 3), Run(3, 0, 3))
    assert x.runs(range(2)) == (Run(3, 0, 1), Run(1, 2, 1))
    assert x.half(1).planes == x.planes[3:]
    assert x.with_relu().runs() == (Run(1, 2, 3, True), Run(3, 0, 3, True))


def test_placed() -> None:
    x = Channels.placed([Plane(0, 7), Plane(0, 8), Plane(0, 9)], [2, 0, 1], (1, 1))
    assert [plane.number for plane in x.planes] == [8, 9, 7]
    assert x.order() == [2, 0, 1]
