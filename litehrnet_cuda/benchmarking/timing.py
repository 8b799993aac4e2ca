"""Calls that are timed in turns, so that what disturbs the machine disturbs all of them.

A round times every call once, in an order drawn anew. Times are compared within rounds: the ratio of two calls is the
median over rounds of their ratio, which noise that lasts longer than a round leaves alone.

Before it is timed a call is made once without a clock, because the call before it, of another runtime, has left other
data in the caches, and threads of its own that still spin in wait for more work: those of OpenMP for 8 ms and those of
ONNX Runtime for 20 ms where this was measured. `Effort.pause` is how long to wait for them; each runtime keeps the
waiting policy that it comes with, as its users get it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Call = Callable[[], object]

LONG = 0.05  # seconds; what is left in caches no longer matters to a call of this length
SPINNING = 0.03  # seconds; see above, with a margin


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Args:
        warm_up: calls before the first round, of each.
        least_rounds: rounds in any case.
        seconds: further rounds until this time has passed.
        pause: seconds between the end of one call's turn and the next.
    """

    warm_up: int = 2
    least_rounds: int = 5
    seconds: float = 2.0
    pause: float = 0.0


class Rounds:
    """Seconds of calls by name: the same number of each, and the n-th of all are of one round.

    Args:
        seconds: of complete rounds.
        interrupted: whether the user stopped it.
    """

    def __init__(self, seconds: Mapping[str, Sequence[float]], *, interrupted: bool = False) -> None:
        self.seconds = {name: list(samples) for name, samples in seconds.items()}
        self.interrupted = interrupted

    def __len__(self) -> int:
        return len(next(iter(self.seconds.values()), []))

    def time(self, name: str, share: float = 0.5) -> float:
        """Seconds that this share of the calls does not exceed, by default the median."""
        return quantile(self.seconds[name], share)

    def ratio(self, name: str, to: str, share: float = 0.5) -> float:
        """A quantile, by default the median, of the ratios of two calls' times in the same round."""
        return quantile([a / b for a, b in zip(self.seconds[name], self.seconds[to], strict=True)], share)


def quantile(samples: Sequence[float], share: float) -> float:
    """Linear between the two samples next to it, so that half is the median."""
    ordered = sorted(samples)
    position = share * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def measure_in_turns(
    calls: Mapping[str, Call],
    effort: Effort,
    *,
    synchronize: Callable[[], object] = lambda: None,
    after_round: Callable[[int], object] = lambda rounds: None,
) -> Rounds:
    """Times calls against each other; see this file's first lines.

    Args:
        calls: by name.
        effort: how long.
        synchronize: waits for a device; its time belongs to the call.
        after_round: told how many rounds are complete.

    Returns:
        what complete rounds took; fewer of them, and marked so, if the user interrupts.

    Raises:
        KeyboardInterrupt: before the first round is complete.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    last = dict.fromkeys(calls, 0.0)
    orders = random.Random(0)

    def timed(name: str) -> float:
        start = time.perf_counter()
        calls[name]()
        synchronize()
        last[name] = time.perf_counter() - start
        return last[name]

    rounds, interrupted = 0, False
    try:
        for name in calls:
            for _ in range(effort.warm_up):
                timed(name)
        end = time.perf_counter() + effort.seconds
        while rounds < effort.least_rounds or time.perf_counter() < end:
            for name in orders.sample(list(calls), len(calls)):
                if effort.pause:
                    time.sleep(effort.pause)
                if last[name] < LONG:
                    timed(name)
                seconds[name].append(timed(name))
            rounds += 1
            after_round(rounds)
    except KeyboardInterrupt:
        if not rounds:
            raise
        interrupted = True
    return Rounds({name: samples[:rounds] for name, samples in seconds.items()}, interrupted=interrupted)
