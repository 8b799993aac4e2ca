"""Whether networks are still as fast as they were, on a machine that other programs use too.

What is held to a bound is a ratio: how many times longer plain PyTorch takes than ours, each round by itself, and of
these the median. Bounds are about half of what was measured on a quiet machine with AVX-512, so noise does not reach
them while a step that lost its vector instructions, or a plan that is no longer used, does. A check that fails is
repeated: what is slow once and fast the next time was disturbed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.networks.cases import Case, images, network
from litehrnet_cuda.benchmarking.comparison import Entry, compare
from litehrnet_cuda.benchmarking.contenders import CONTENDERS
from litehrnet_cuda.benchmarking.machine import describe_machine
from litehrnet_cuda.benchmarking.timing import Effort
from litehrnet_cuda.inference import optimize_for_inference

ATTEMPTS = 3
EFFORT = Effort(least_rounds=7, seconds=1.0)


@dataclass(frozen=True)
class Bound:
    """The least number of times that ours is faster than plain PyTorch, with one thread.

    Args:
        case: what is run.
        least: this number.
    """

    case: Case
    least: float


def _bound(least: float, network: str, height: int, width: int, batch: int = 1) -> Bound:
    return Bound(Case(network, height, width, batch, contenders=("ours", "eager")), least)


# With AVX2 alone, on a busy machine, the ratios were 6.8, 5.5, 9.3 and 8.5 once.
BOUNDS = (
    _bound(5, "litehrnet_18", 256, 192),
    _bound(4, "litehrnet_18", 250, 180, batch=2),
    _bound(5, "litehrnet_30", 256, 192),
    _bound(4, "naive_litehrnet_18", 256, 192),
)


class NothingToCheck(Exception):
    """Why bounds say nothing about this machine."""


@dataclass(frozen=True)
class Verdict:
    """What became of a bound: the ratios that were measured, of which one has to reach it."""

    bound: Bound
    ratios: Sequence[float]

    @property
    def is_kept(self) -> bool:
        return max(self.ratios) >= self.bound.least

    def __str__(self) -> str:
        tried = ", ".join(f"{ratio:.2f}" for ratio in self.ratios)
        outcome = "ok" if self.is_kept else "TOO SLOW"
        return f"{self.bound.case.name}: {tried} times faster than PyTorch, at least {self.bound.least:g}: {outcome}"


def measured_ratio(bound: Bound) -> float:
    """How many times longer PyTorch takes."""
    case = bound.case
    model = network(case.network, torch.float32, torch.device("cpu"))
    entries = {name: Entry(CONTENDERS[name], model) for name in case.contenders}
    done = compare(entries, images(case, torch.device("cpu")), case.threads, EFFORT)
    if done.missing:
        raise NothingToCheck(f"{case.name}: {done.missing}")
    return done.rounds.ratio("eager", "ours")


def check(
    bounds: Sequence[Bound] = BOUNDS,
    ratio: Callable[[Bound], float] = measured_ratio,
    say: Callable[[str], Any] = print,
) -> bool:
    """Measures all, and says of each what became of it.

    Returns:
        whether all are kept.

    Raises:
        NothingToCheck: where networks do not run as plans on the CPU, or the processor is another than bounds are for.
    """
    _can_be_checked()
    verdicts = []
    for bound in bounds:
        ratios = [ratio(bound)]
        while ratios[-1] < bound.least and len(ratios) < ATTEMPTS:
            ratios.append(ratio(bound))
        verdicts.append(Verdict(bound, ratios))
        say(str(verdicts[-1]))
    return all(verdict.is_kept for verdict in verdicts)


def _can_be_checked() -> None:
    if "avx2" not in describe_machine()["instruction_sets"]:
        raise NothingToCheck("bounds are for processors with AVX2")
    model = network("litehrnet_18", torch.float32, torch.device("cpu"))
    execution = optimize_for_inference(model).backend_for(torch.zeros(1, 3, 64, 64))
    if not execution.is_planned:
        raise NothingToCheck(f"networks do not run as plans on the CPU here: {execution.reason}")
