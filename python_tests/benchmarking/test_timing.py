from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import pytest

from litehrnet_cuda.benchmarking import timing
from litehrnet_cuda.benchmarking.timing import Effort, Rounds, measure_in_turns, quantile


class Clock:
    """A clock that goes on only where it is told to, in place of the module's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.pauses: list[float] = []
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(time, "sleep", self.pauses.append)

    def takes(self, *seconds: float) -> Callable[[], None]:
        """A call of these durations, the last of them again and again."""
        left = list(seconds)

        def call() -> None:
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return call


def test_quantiles_are_linear_between_samples() -> None:
    samples = [4.0, 1.0, 3.0, 2.0]
    assert quantile(samples, 0.5) == median(samples) == 2.5
    assert [quantile(samples, share) for share in (0.0, 0.2, 1.0)] == [1, pytest.approx(1.6), 4]
    assert quantile([7.0], 0.8) == 7


def test_ratios_are_those_of_the_same_round() -> None:
    # The machine is ten times slower in the second round; the ratio of medians would be 3.
    rounds = Rounds({"a": [2, 20, 2.2], "b": [1, 10, 1]})
    assert rounds.ratio("a", "b") == 2
    assert rounds.ratio("a", "a") == 1
    assert rounds.ratio("a", "b", 1) == 2.2
    assert rounds.time("a") == 2.2
    assert len(rounds) == 3
    assert len(Rounds({})) == 0


def test_calls_take_turns_after_a_warm_up() -> None:
    made: list[str] = []
    told: list[int] = []
    effort = Effort(warm_up=2, least_rounds=3, seconds=0)
    calls = {name: (lambda name=name: made.append(name)) for name in "ab"}
    rounds = measure_in_turns(calls, effort, synchronize=lambda: made.append("|"), after_round=told.append)
    assert made.count("|") * 2 == len(made)  # after each call
    made = [name for name in made if name != "|"]
    assert made[:4] == ["a", "a", "b", "b"]
    turns = made[4:]
    assert len(turns) == 3 * 2 * 2
    assert turns[::2] == turns[1::2]  # once without a clock, once with it
    assert all(set(turns[first : first + 4]) == {"a", "b"} for first in (0, 4, 8))
    assert told == [1, 2, 3]
    assert {name: len(samples) for name, samples in rounds.seconds.items()} == {"a": 3, "b": 3}
    assert not rounds.interrupted


def test_only_the_second_call_of_a_turn_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    rounds = measure_in_turns({"a": clock.takes(9e-3, 1e-3, 2e-3)}, Effort(1, least_rounds=1, seconds=0))
    assert rounds.seconds == {"a": [pytest.approx(2e-3)]}


def test_long_calls_are_made_once_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    measure_in_turns({"a": clock.takes(2 * timing.LONG)}, Effort(warm_up=1, least_rounds=4, seconds=0))
    assert clock.now == pytest.approx(5 * 2 * timing.LONG)


def test_waiting_time_of_a_device_belongs_to_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    effort = Effort(warm_up=0, least_rounds=1, seconds=0)
    rounds = measure_in_turns({"a": clock.takes(0.25)}, effort, synchronize=clock.takes(0.5))
    assert rounds.seconds == {"a": [0.75]}


def test_rounds_go_on_until_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    effort = Effort(warm_up=1, least_rounds=2, seconds=1.0, pause=0.125)
    rounds = measure_in_turns({"a": clock.takes(0.25), "b": clock.takes(0.125)}, effort)
    assert len(rounds) == 3  # of 0.375 seconds
    assert clock.pauses == [0.125] * 6  # one before each turn


def test_what_is_complete_is_kept_when_the_user_interrupts() -> None:
    calls = 0

    def interrupted() -> None:
        nonlocal calls
        calls += 1
        if calls == 6:  # in the third round: each has an untimed call, too
            raise KeyboardInterrupt

    rounds = measure_in_turns({"a": lambda: None, "b": interrupted}, Effort(warm_up=0, least_rounds=9))
    assert rounds.interrupted
    assert {len(samples) for samples in rounds.seconds.values()} == {2}

    def at_once() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_in_turns({"a": at_once}, Effort())
