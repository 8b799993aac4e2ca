"""The order of the batches."""

from __future__ import annotations

from itertools import chain

import pytest

from litehrnet_cuda.engine.order import BatchOrder


def batches_of(epoch: int, first: int = 0, **options: int) -> list[list[int]]:
    order = BatchOrder(**{"people": 23, "batch_size": 4, "seed": 3} | options)
    order.start(epoch, first)
    assert len(order) == order.per_epoch - first
    return list(order)


def test_an_epoch_has_everybody_once_but_for_those_who_fill_no_batch() -> None:
    batches = batches_of(1)
    assert [len(batch) for batch in batches] == [4] * 5
    people = list(chain(*batches))
    assert len(set(people)) == 20
    assert set(people) <= set(range(23))


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    assert batches_of(2) == batches_of(2)
    assert batches_of(1) != batches_of(2)
    assert batches_of(1) != batches_of(1, seed=4)


def test_a_place_in_an_epoch_is_a_number() -> None:
    assert batches_of(2, first=3) == batches_of(2)[3:]
    assert batches_of(2, first=5) == []


def test_processes_share_the_batches_of_one() -> None:
    one = batches_of(1, batch_size=6)
    parts = [batches_of(1, batch_size=2, processes=3, rank=rank) for rank in range(3)]
    assert [list(chain(*part)) for part in zip(*parts, strict=True)] == one


@pytest.mark.parametrize(("processes", "size"), [(1, 23), (2, 11)])
def test_a_batch_is_no_larger_than_the_set(processes: int, size: int) -> None:
    order = BatchOrder(23, 1000, 0, processes=processes)
    assert order.batch_size == size
    assert order.per_epoch == 1
