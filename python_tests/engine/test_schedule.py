"""The learning rate, at the steps where it turns."""

from __future__ import annotations

from itertools import pairwise

import pytest

from litehrnet_cuda.engine.schedule import DECAYS, Decay, learning_rate_factor


@pytest.mark.parametrize("decay", DECAYS)
def test_warm_up_rises_in_a_straight_line(decay: Decay) -> None:
    # Official (mmcv): warmup="linear", warmup_iters=500, warmup_ratio=0.001.
    factors = [learning_rate_factor(step, 10_000, warm_up_steps=500, decay=decay) for step in range(501)]
    assert factors[0] == 0.001
    assert factors[250] == pytest.approx(0.5005)
    assert factors[500] == 1
    steps = [b - a for a, b in pairwise(factors)]
    assert steps == pytest.approx([0.999 / 500] * 500)


def test_step_divides_by_ten_at_the_official_epochs() -> None:
    for steps_per_epoch in (1, 7, 2340):  # 2340 of 64 people: COCO
        total = 210 * steps_per_epoch
        for epoch, before, after in ((170, 1, 0.1), (200, 0.1, 0.01)):
            first = epoch * steps_per_epoch
            around = [learning_rate_factor(s, total, warm_up_steps=5, decay="step") for s in (first - 1, first)]
            assert around == pytest.approx([before, after])
        assert learning_rate_factor(total - 1, total, warm_up_steps=5, decay="step") == pytest.approx(0.01)


def test_cosine_falls_from_one_through_a_half_to_zero() -> None:
    steps = (100, 550, 1000)
    factors = [learning_rate_factor(step, 1000, warm_up_steps=100, decay="cosine") for step in steps]
    assert factors == pytest.approx([1, 0.5, 0])


def test_poly_is_mmsegmentation_s() -> None:
    """mmcv: (base - min_lr) (1 - step / steps)^power + min_lr; the published recipe: 0.01, 1e-4, 0.9."""
    for step in (0, 1, 4000, 79_999):
        expected = (0.01 - 1e-4) * (1 - step / 80_000) ** 0.9 + 1e-4
        factor = learning_rate_factor(step, 80_000, warm_up_steps=0, decay="poly", final=0.01)
        assert 0.01 * factor == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("decay", "expected"), [("cosine", 0.2), ("poly", 0.2), ("step", 0.01)])
def test_what_falls_to_zero_can_fall_to_less(decay: Decay, expected: float) -> None:
    assert learning_rate_factor(1000, 1000, warm_up_steps=0, decay=decay, final=0.2) == pytest.approx(expected)


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("total", [1, 2, 3, 10, 100])
def test_short_runs_warm_up_for_a_third_at_most(decay: Decay, total: int) -> None:
    factors = [learning_rate_factor(step, total, warm_up_steps=500, decay=decay) for step in range(total)]
    assert factors.index(max(factors)) == total // 3
    assert max(factors) == 1
    assert all(0 < factor <= 1 for factor in factors)


def test_no_warm_up() -> None:
    assert learning_rate_factor(0, 100, warm_up_steps=0, decay="step") == 1
