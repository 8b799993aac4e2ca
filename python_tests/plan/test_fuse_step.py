from __future__ import annotations

import pytest
from plan_cases import backbone_of

from litehrnet_cuda.models.litehrnet import Variant
from litehrnet_cuda.plan import build_plan
from litehrnet_cuda.plan.operands import plane_count
from litehrnet_cuda.plan.steps import FuseDownward, FuseUpward

FIVE = Variant("five", (1, 1, 1, 1), (16, 18, 20, 22, 24), num_blocks=1, reduce_ratio=2)


@pytest.mark.parametrize("branches", range(2, 6))
def test_chains_start_and_end_where_they_should(branches: int) -> None:
    plan = build_plan(backbone_of(FIVE), 64, 64)
    steps = [s for s in plan.steps if s.name.startswith(f"stage{branches - 2}.0.fuse_layers")]
    assert len(steps) == branches
    top, *down = steps
    assert isinstance(top, FuseUpward)
    assert [plane_count(product.input) for product in top.lower] == list(FIVE.channels[1:branches])
    for k, step in enumerate(down, 1):
        assert isinstance(step, FuseDownward)
        # All chains from above: k of them end here, k for each lower branch go on; the branch's own outputs start.
        assert len(step.total.chains) == k
        assert len(step.continued) == k * (branches - 1 - k)
        assert len(step.sources) == 1 + (k - 1) * (branches - k)
        assert [c.source for c in step.chains].count(0) == branches - k
        assert plan.weights[step.total.matrix.weight].shape == (FIVE.channels[k], sum(FIVE.channels[:k]))
        assert [plane_count(product.input) for product in step.lower] == list(FIVE.channels[k + 1 : branches])


def test_the_sum_at_the_highest_resolution_is_stored_once() -> None:
    plan = build_plan(backbone_of(FIVE), 64, 64)
    for step in plan.steps:
        if isinstance(step, FuseUpward):
            assert not step.relu
            assert not step.also
    first = plan.steps[3]  # of the blocks that read what the transition has written: nothing is pending
    assert not any(run.relu for run in first.reads())
    second = next(step for step in plan.steps if step.name == "stage1.0.layers.0")
    assert [run.relu for run in second.inputs()[0]] == [True]


def test_the_sum_that_is_returned_is_stored_after_its_relu() -> None:
    steps = build_plan(backbone_of(FIVE, with_head=False, branches="top"), 64, 64).steps
    last = steps[-1]
    assert isinstance(last, FuseUpward)
    assert last.relu
    assert not last.also
    steps = build_plan(backbone_of(FIVE, with_head=False, branches="all"), 64, 64).steps
    last = [step for step in steps if isinstance(step, FuseUpward)][-1]
    assert not last.relu
    assert last.also
