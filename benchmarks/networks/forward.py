"""Times forward passes of whole networks, case by case."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.networks.cases import Case, images, network
from benchmarks.networks.results import Results
from litehrnet_cuda.benchmarking.comparison import Comparison, Entry, compare
from litehrnet_cuda.benchmarking.contenders import CONTENDERS, Contender, contenders_for
from litehrnet_cuda.benchmarking.timing import SPINNING, Effort

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def measure(
    kind: str,
    cases: Sequence[Case],
    effort: Effort,
    folder: Path,
    device: torch.device,
    contenders: Mapping[str, Contender] = CONTENDERS,
) -> tuple[Path, bool]:
    """Measures cases one after the other and writes results after each.

    Returns:
        the file, and whether the user interrupted.
    """
    use_one_inter_op_thread()
    results = Results(kind, folder, settings(effort), device.type)
    said: set[str] = set()
    with tqdm(total=len(cases), desc=kind, unit="case", disable=None) as bar:
        for case in cases:
            names = {contender.name for contender in contenders_for(device.type, list(contenders))}
            entries = {
                name: Entry(contenders[name], network(case.network, getattr(torch, case.dtype), device))
                for name in case.contenders
                if name in names
            }
            for other in case.others:
                owner, name = other.split("/")
                if name in names:
                    entries[other] = Entry(contenders[name], network(owner, getattr(torch, case.dtype), device))
            try:
                # Spinning threads of others are waited for where there are any: one thread spins for nobody.
                pause = SPINNING if case.threads > 1 else 0.0
                done = compare(
                    entries,
                    images(case, device),
                    case.threads,
                    replace(effort, pause=pause),
                    say=lambda text, case=case: bar.set_postfix_str(f"{case.name}: {text}"),
                )
            except KeyboardInterrupt:
                return results.path, True
            for name, reason in done.missing.items():
                if (line := f"{name}: {reason}") not in said:
                    said.add(line)
                    tqdm.write(f"  not measured: {line}", file=sys.stderr)
            results.add(as_result(case, done), interrupted=done.rounds.interrupted)
            tqdm.write(summary(case, done), file=sys.stderr)
            bar.update()
            if done.rounds.interrupted:
                return results.path, True
    return results.path, False


def as_result(case: Case, done: Comparison) -> dict[str, Any]:
    """A case's part of the JSON file; ratios are to ours."""
    return {
        "case": case.described(),
        "rounds": len(done.rounds),
        "contenders": {name: done.row(name, to="ours") for name in done.prepared},
        "missing": dict(done.missing),
    }


def summary(case: Case, done: Comparison) -> str:
    """One line for people."""
    times = []
    for name in done.prepared:
        row = done.row(name, to="ours")
        behind = "" if name == "ours" or row["ratio"] is None else f" (x{row['ratio']:.3g})"
        times.append(f"{name} {row['median_ms']:.3g} ms{behind}")
    return f"{case.name}: {', '.join(times)}; {len(done.rounds)} rounds"


def settings(effort: Effort) -> dict[str, Any]:
    """How it is measured, as JSON types."""
    waiting = {name: os.environ[name] for name in WAITING if name in os.environ}
    return {
        **asdict(effort),
        "pause": f"{SPINNING} s between turns where there is more than one thread, else none",
        "inter_op_threads": 1,
        "waiting_of_threads": waiting or "as each runtime does by default",
        "denormals": "images are random normal; batch norms have the statistics of such images",
    }


def use_one_inter_op_thread() -> None:
    """As every other contender has; once a pool is there, it stays as it is."""
    if torch.get_num_interop_threads() != 1:
        try:
            torch.set_num_interop_threads(1)
        except RuntimeError:
            print("more than one inter-op thread of torch is at work already", file=sys.stderr)
