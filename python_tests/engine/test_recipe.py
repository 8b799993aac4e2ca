"""What a recipe may say, and what it says by default."""

from __future__ import annotations

from typing import Any

import pytest

from litehrnet_cuda.engine.recipe import Interval, Recipe, TrainConfig, default_sigma
from litehrnet_cuda.errors import InputError


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("validate_every", 0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("decay", "linear"),
        ("amp", "fp8"),
        ("bad_images", "ignore"),
        ("accumulate", 0),
        ("clip_norm", -1.0),
        ("clip_norm", float("nan")),
        ("ema", 1.0),
        ("reference_batch", -1),
    ],
)
def test_unusable_settings_are_said(field: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"training.{field}: expected .*, got '?{value}"):
        TrainConfig(**{field: value})


def test_defaults_are_the_official_recipe() -> None:
    config = TrainConfig()
    assert (config.epochs, config.batch_size, config.learning_rate, config.warm_up_steps) == (210, 64, 2e-3, 500)
    assert config.decay == "step"


def test_the_rate_is_linear_in_the_people_per_step() -> None:
    official = TrainConfig(learning_rate=2e-3, reference_batch=512)
    assert [official.peak_learning_rate(people) for people in (512, 64, 1024)] == pytest.approx([2e-3, 2.5e-4, 4e-3])
    assert TrainConfig(learning_rate=2e-3).peak_learning_rate(64) == 2e-3, "not scaled without a reference"


@pytest.mark.parametrize(
    ("text", "interval"),
    [
        ("500", Interval(500)),
        ("30s", Interval(None, 30)),
        ("10min", Interval(None, 600)),
        ("1.5h", Interval(None, 5400)),
    ],
)
def test_intervals_are_steps_or_times(text: str, interval: Interval) -> None:
    assert Interval.of(text) == interval


@pytest.mark.parametrize("text", ["", "0", "-5", "0s", "ten", "10 min", "5d", "9" * 11])
def test_other_intervals_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="save_every: expected a number of steps such as 500, or a time such as 30s"):
        TrainConfig(save_every=text)


def test_what_cannot_work_is_said() -> None:
    with pytest.raises(InputError, match="unknown model 'litehrnet_81'"):
        Recipe(model="litehrnet_81")
    with pytest.raises(InputError, match=r"input_size: expected 32 to 8192 pixels each way, got \(16, 64\)"):
        Recipe(input_size=(16, 64))
    with pytest.raises(InputError, match="sigma: expected a positive number of heat-map pixels, got 0"):
        Recipe(sigma=0)


@pytest.mark.parametrize(("size", "sigma"), [((192, 256), 2), ((288, 384), 3), ((96, 128), 1), ((64, 64), 1)])
def test_the_default_sigma_follows_the_height(size: tuple[int, int], sigma: float) -> None:
    assert default_sigma(size) == sigma


def test_targets_suit_the_decoder() -> None:
    assert [Recipe(decoder=name).targets for name in ("quarter", "dark", "udp")] == ["gaussian", "unbiased", "udp"]
