"""Times training steps: fused modules against plain PyTorch, each in a process of its own, which take turns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from tqdm import tqdm

import litehrnet_cuda
from benchmarks.networks.cases import SIZE
from benchmarks.networks.forward import settings
from benchmarks.networks.results import Results
from litehrnet_cuda.benchmarking.timing import SPINNING, Effort, Rounds, measure_in_turns

PROGRAM = Path(__file__).with_name("training_step.py")
BACKENDS = {"ours": "auto", "eager": "reference"}
SHARES = {"median": 0.5, "p20": 0.2, "p80": 0.8}


@dataclass(frozen=True)
class TrainingCase:
    """Steps of one kind: forward pass, loss, backward pass, Adam."""

    network: str = "litehrnet_18"
    height: int = SIZE[0]
    width: int = SIZE[1]
    batch: int = 16
    threads: int = 2

    @property
    def name(self) -> str:
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{self.network} {self.width}x{self.height}, batch {self.batch}, {threads}"

    def described(self) -> dict[str, Any]:
        return {**vars(self), "dtype": "float32"}


class Worker:
    """A process that trains on a backend; a context manager that ends it.

    Raises:
        RuntimeError: if the process ends by itself, with its last words.
    """

    def __init__(self, case: TrainingCase, backend: str, device: str) -> None:
        told = json.dumps({**vars(case), "backend": backend, "device": device})
        # The package that this process has imported, and behind it the source tree with the benchmarks.
        path = os.pathsep.join([str(Path(str(litehrnet_cuda.__file__)).parents[1]), os.environ.get("PYTHONPATH", "")])
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM), told],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a Ctrl-C is for this process alone, which then asks for what there is
            env={**os.environ, "PYTHONPATH": path},
        )
        self.losses: list[float] = []
        try:
            self.start = self._answer()
        except BaseException:  # an interruption, too, must not leave it behind
            self.__exit__(None, None, None)
            raise

    def step(self) -> None:
        """One training step, until it is complete."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self.losses.append(self._answer()["loss"])

    def end(self) -> dict[str, Any]:
        """The peak of its memory."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        while "peak_mb" not in (answer := self._answer()):  # of a step that the user interrupted
            continue
        return answer

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the training process ended with status {self._process.wait()}; see above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            try:
                stream.close()
            except BrokenPipeError:
                continue


def measure(cases: Sequence[TrainingCase], effort: Effort, folder: Path, device: torch.device) -> tuple[Path, bool]:
    """Measures cases one after the other and writes results after each.

    Returns:
        the file, and whether the user interrupted.
    """
    effort = replace(effort, pause=SPINNING)
    told = {**settings(effort), "pause": f"{SPINNING} s", "denormals": "images are random normal"}
    results = Results("training", folder, told, device.type)
    with tqdm(total=len(cases), desc="training", unit="case", disable=None) as bar:
        for case in cases:
            try:
                result, rounds = measure_case(case, effort, device, bar)
            except KeyboardInterrupt:
                return results.path, True
            results.add(result, interrupted=rounds.interrupted)
            times = (f"{name} {row['median_ms']:.4g} ms" for name, row in result["contenders"].items())
            tqdm.write(f"{case.name}: {', '.join(times)}; {len(rounds)} rounds", file=sys.stderr)
            bar.update()
            if rounds.interrupted:
                return results.path, True
    return results.path, False


def measure_case(
    case: TrainingCase, effort: Effort, device: torch.device, bar: Any = None
) -> tuple[dict[str, Any], Rounds]:
    """A case's part of the JSON file, and its times.

    ``loss_error`` compares the loss after as many steps, relatively; ``memory_mb`` is the peak beyond what the process
    needed before its first step: torch, the model and its images.
    """
    with Worker(case, BACKENDS["ours"], str(device)) as ours, Worker(case, BACKENDS["eager"], str(device)) as eager:
        workers = {"ours": ours, "eager": eager}
        rounds = measure_in_turns(
            {name: worker.step for name, worker in workers.items()},
            effort,
            after_round=lambda done: bar is not None and bar.set_postfix_str(f"{case.name}: round {done}"),
        )
        ends = {name: worker.end() for name, worker in workers.items()}
    steps = min(len(worker.losses) for worker in workers.values())
    expected = eager.losses[steps - 1]
    rows: dict[str, dict[str, Any]] = {}
    for name, worker in workers.items():
        row: dict[str, Any] = {f"{k}_ms": round(rounds.time(name, s) * 1e3, 2) for k, s in SHARES.items()}
        row["images_per_s"] = round(case.batch / rounds.time(name), 1)
        row |= {"ratio": round(rounds.ratio(name, "ours"), 4)}
        row |= {f"ratio_{k}": round(rounds.ratio(name, "ours", SHARES[k]), 4) for k in ("p20", "p80")}
        peak, before = ends[name]["peak_mb"], worker.start["before_mb"]
        row["memory_mb"] = None if peak is None or before is None else round(peak - before, 1)
        row["loss_error"] = float(f"{abs(worker.losses[steps - 1] - expected) / abs(expected):.2g}")
        row["details"] = worker.start["blocks"]
        rows[name] = row
    return {"case": case.described(), "rounds": len(rounds), "contenders": rows, "missing": {}}, rounds
