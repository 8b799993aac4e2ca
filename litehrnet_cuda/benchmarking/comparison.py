"""Networks that are prepared, compared with plain PyTorch, and timed in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from litehrnet_cuda.backends import use_backend
from litehrnet_cuda.benchmarking.contenders import Contender, Prepared
from litehrnet_cuda.benchmarking.runtimes import Unavailable
from litehrnet_cuda.benchmarking.timing import Effort, Rounds, measure_in_turns

# More than 16-bit types make of a whole network: what differs by this is not the same network.
WRONG = 0.5


class Entry(NamedTuple):
    """A network and how it is run."""

    contender: Contender
    network: nn.Module


@dataclass(frozen=True)
class Preparation:
    """What is known of an entry before it is timed.

    Args:
        seconds: that it took to prepare, the first call included.
        error: largest difference of the output from plain PyTorch's, over the largest output.
        details: as in :class:`~litehrnet_cuda.benchmarking.contenders.Prepared`.
    """

    seconds: float
    error: float
    details: str


@dataclass(frozen=True)
class Comparison:
    """Times of entries by name.

    Args:
        rounds: the times.
        prepared: of each that was timed.
        missing: why not, for each that was not.
    """

    rounds: Rounds
    prepared: Mapping[str, Preparation]
    missing: Mapping[str, str]

    def row(self, name: str, to: str) -> dict[str, Any]:
        """An entry's figures as JSON types; ``ratio`` is its time over that of the entry ``to``, if that was timed."""
        rounds, prepared = self.rounds, self.prepared[name]
        times = {f"{key}_ms": _digits(rounds.time(name, share) * 1e3) for key, share in _SHARES.items()}
        ratios: dict[str, float | None] = dict.fromkeys(("ratio", "ratio_p20", "ratio_p80"))
        if to in self.prepared:
            ratios = {
                key: _digits(rounds.ratio(name, to, share)) for key, share in zip(ratios, _QUANTILES, strict=True)
            }
        known = {"error": _digits(prepared.error, 2), "setup_s": _digits(prepared.seconds, 2)}
        return {**times, **ratios, **known, "details": prepared.details}


_SHARES = {"median": 0.5, "p20": 0.2, "p80": 0.8}
_QUANTILES = tuple(_SHARES.values())


def compare(
    entries: Mapping[str, Entry],
    images: Tensor,
    threads: int,
    effort: Effort,
    say: Callable[[str], object] = lambda text: None,
) -> Comparison:
    """Prepares, checks and times networks on the same images.

    Args:
        entries: by name. One that cannot be prepared, or computes something else, is left out with the reason.
        images: ``[N, 3, H, W]``, normalised.
        threads: of every contender; torch is told before.
        effort: how long.
        say: told what is going on.

    Raises:
        KeyboardInterrupt: before there is any time.
    """
    torch.set_num_threads(threads)
    calls: dict[str, Callable[[], object]] = {}
    prepared: dict[str, Preparation] = {}
    missing: dict[str, str] = {}
    expected: dict[nn.Module, Tensor] = {}
    with torch.inference_mode():
        for name, (contender, network) in entries.items():
            say(f"preparing {name}")
            if network not in expected:
                with use_backend("reference"):
                    expected[network] = network(images)
            start = time.perf_counter()
            try:
                ready = contender.prepare(network, images, threads)
                output = ready.call(images)
                _synchronize(images)
                seconds = time.perf_counter() - start
                error = relative_error(output, expected[network])
                if not error <= WRONG:
                    raise Unavailable(f"its output differs from PyTorch's by {error:.2g} of the largest value")
            except Unavailable as reason:
                missing[name] = str(reason)
                continue
            prepared[name] = Preparation(seconds, error, ready.details)
            calls[name] = _bound(ready, images)
        rounds = measure_in_turns(
            calls,
            effort,
            synchronize=lambda: _synchronize(images),
            after_round=lambda done: say(f"round {done}"),
        )
    return Comparison(rounds, prepared, missing)


def relative_error(output: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest expected value; NaN if there is one, infinite for another shape."""
    if output.shape != expected.shape:
        return float("inf")
    scale = expected.double().abs().amax().clamp(min=torch.finfo(torch.float64).tiny)
    return float((output.to(expected.device).double() - expected.double()).abs().amax() / scale)


def _bound(ready: Prepared, images: Tensor) -> Callable[[], object]:
    return lambda: ready.call(images)


def _synchronize(images: Tensor) -> None:
    if images.device.type == "cuda":
        torch.cuda.synchronize(images.device)


def _digits(value: float, digits: int = 4) -> float:
    """Rounded to so many digits: what files keep."""
    return float(f"{value:.{digits}g}")
