"""`python -m benchmarks networks ...`: the command line of the benchmarks of whole networks."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from litehrnet_cuda.benchmarking.timing import Effort

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "networks"
QUICK_RESULTS = Path("runs") / "benchmarks"

WORDS = {
    "inference": "forward passes: all networks, sizes, contenders",
    "growth": "forward passes of Lite-HRNet-18 by the fastest: time against batch and size",
    "training": "training steps of Lite-HRNet-18: time and memory",
    "all": "inference, growth and training, then report",
    "check": "whether ours is as many times faster than PyTorch as it has to be, on a CPU",
    "report": "write tables and plots from the committed results",
}
INTERRUPTED = 130


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m benchmarks networks",
        description="Times whole networks: ours, plain PyTorch, torch.compile and, where they are\n"
        "installed (pip install '.[benchmark]'), ONNX Runtime, OpenVINO and TensorRT.\n"
        "Contenders take turns. An interruption keeps what there is.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(
            ["words:", *(f"  {word:<10} {text}" for word, text in WORDS.items()), "", "Results: <out>/<machine>/"]
        ),
    )
    result.add_argument("word", choices=list(WORDS), metavar="WORD", help="what to do; see below")
    result.add_argument("--quick", action="store_true", help="one case, one second; results go to runs/benchmarks")
    result.add_argument("--network", nargs="+", metavar="NAME", help="these networks alone")
    result.add_argument("--contender", nargs="+", metavar="NAME", help="these contenders alone; --list prints them")
    result.add_argument("--batch", nargs="+", type=int, metavar="N", help="cases of these batch sizes alone")
    result.add_argument("--threads", nargs="+", type=int, metavar="N", help="cases with these numbers of threads alone")
    result.add_argument("--seconds", type=float, metavar="S", help="for the rounds of each case (default: 4)")
    result.add_argument("--device", metavar="NAME", help="cpu, cuda, ... (default: cuda if there is one)")
    result.add_argument("--out", type=Path, metavar="FOLDER", help="of results (default: benchmarks/results/networks)")
    result.add_argument("--list", action="store_true", help="print cases and contenders, and stop")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if options.word == "report":
        return _report()
    if options.word == "check":
        return _check()

    from benchmarks.networks.cases import CASES
    from litehrnet_cuda.errors import InputError
    from litehrnet_cuda.predictors.arguments import choose_device

    try:
        device = choose_device(options.device)
    except InputError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    words = [*CASES, "training"] if options.word == "all" else [options.word]
    if options.list:
        _list(words, device, options)
        return 0
    for word in words:
        path, interrupted = _measure(word, device, options)
        print(f"wrote {path}" if path.exists() else f"{word}: nothing was measured")
        if interrupted:
            return INTERRUPTED
    return _report() if options.word == "all" and options.out is None and not options.quick else 0


def _measure(word: str, device: torch.device, options: argparse.Namespace) -> tuple[Path, bool]:
    from litehrnet_cuda.benchmarking.timing import Effort

    folder = options.out or (QUICK_RESULTS if options.quick else RESULTS)
    effort = Effort(least_rounds=5, seconds=options.seconds or (1.0 if options.quick else 4.0))
    if word == "training":
        return _measure_training(effort, folder, device, options)

    from benchmarks.networks import forward

    return forward.measure(word, _cases(word, device, options), effort, folder, device)


def _measure_training(
    effort: Effort, folder: Path, device: torch.device, options: argparse.Namespace
) -> tuple[Path, bool]:
    from benchmarks.networks import training

    case = training.TrainingCase(batch=2, threads=1) if options.quick else training.TrainingCase()
    rounds = 2 if options.quick else 10
    return training.measure([case], type(effort)(1, rounds, effort.seconds), folder, device)


def _cases(word: str, device: torch.device, options: argparse.Namespace) -> list[object]:
    from benchmarks.networks import cases

    found = cases.quick_cases(device.type) if options.quick else cases.CASES[word](device.type)
    only = {"network": options.network, "batch": options.batch, "threads": options.threads}
    return cases.chosen(found, contenders=options.contender, **only)


def _list(words: Sequence[str], device: torch.device, options: argparse.Namespace) -> None:
    from benchmarks.networks.cases import CASES
    from litehrnet_cuda.benchmarking.contenders import CONTENDERS

    for word in words:
        if word in CASES:
            for case in _cases(word, device, options):
                print(f"{word}: {case.name}: {' '.join([*case.contenders, *case.others])}")
    print("\ncontenders:", *(f"  {name:<18} {contender.title}" for name, contender in CONTENDERS.items()), sep="\n")


def _check() -> int:
    from benchmarks.networks.check import NothingToCheck, check

    try:
        return 0 if check() else 1
    except NothingToCheck as reason:
        print(f"benchmarks: nothing to check: {reason}", file=sys.stderr)
        return 2


def _report() -> int:
    from benchmarks.networks import report

    for path in report.write():
        print(f"wrote {path}")
    return 0
