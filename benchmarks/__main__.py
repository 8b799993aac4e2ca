"""The command line of the benchmarks. The installed package is measured; the source tree where none is installed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

DTYPE_NAMES = ("float32", "float16", "bfloat16")  # of cases.DTYPES; written out, so that --help waits for no torch
STAGE_NAMES = ("stage2", "stage3", "stage4")
EMULATED_BATCHES = [1, 8]


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Times the fused ops on a GPU against plain PyTorch, eager and compiled, on the stages of "
        "Lite-HRNet at 256x192. Without a GPU: --emulated counts their memory traffic.",
        epilog="Results: <out>/<gpu>/<op>.csv, and the tables of benchmarks/README.md, which says how it is measured. "
        "Whole networks, on a CPU or a GPU: python -m benchmarks networks --help; python -m benchmarks check. "
        "The loader of training: python -m benchmarks loader.",
    )
    names = sorted(path.stem.removeprefix("bench_") for path in (ROOT / "benchmarks" / "ops").glob("bench_*.py"))
    choice: dict[str, Any] = {"nargs": "+", "metavar": "NAME"}
    result.add_argument("--op", choices=names, default=names, help="by default all; --list prints them", **choice)
    result.add_argument("--stage", choices=STAGE_NAMES, default=STAGE_NAMES, help="stage2 stage3 stage4", **choice)
    result.add_argument("--batch", nargs="+", type=int, metavar="N", help="1 8 64; 1 8 with --emulated")
    result.add_argument("--dtype", choices=DTYPE_NAMES, default=DTYPE_NAMES, help=" ".join(DTYPE_NAMES), **choice)
    modes = ("forward", "backward", "full")
    result.add_argument("--mode", choices=modes, default=modes, help="forward backward full (both)", **choice)
    providers = ("ours", "triton", "reference", "compiled")
    told = f"{' '.join(providers)}; by default those that can run"
    result.add_argument("--provider", choices=providers, help=told, **choice)
    result.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder of results")
    what = result.add_mutually_exclusive_group()
    what.add_argument("--emulated", action="store_true", help="count memory traffic with the emulator, no GPU needed")
    what.add_argument(
        "--tables", action="store_true", help="write the tables of README.md from the CSV files, and stop"
    )
    what.add_argument("--list", action="store_true", help="print what would be measured, and stop")
    what.add_argument("--dry-run", action="store_true", help="call everything once on the CPU, ours on the emulator")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["loader"]:
        from benchmarks import loader

        return loader.main(given[1:])
    if given[:1] in (["networks"], ["check"]):
        from benchmarks.networks import command

        return command.main(given if given[0] == "check" else given[1:])
    options = parser().parse_args(arguments)
    if options.tables:
        from benchmarks import tables

        tables.update_readme()
        print(f"wrote {tables.README}")
        return 0

    import torch

    if not (options.emulated or options.list or options.dry_run) and not torch.cuda.is_available():
        print(
            "benchmarks: torch finds no CUDA device, and a time on a CPU says nothing about the kernels; "
            "--emulated counts their memory traffic instead.",
            file=sys.stderr,
        )
        return 2

    from benchmarks import cases, runner
    from benchmarks.ops import benchmarks
    from litehrnet_cuda import backends

    triton = backends.can_run_triton()
    if options.provider is None:
        options.provider = [name for name in runner.PROVIDERS if options.list or name != "triton" or triton.ok]
    elif "triton" in options.provider and not (options.list or triton.ok):
        print(f"benchmarks: Triton's kernels cannot run here: {triton.reason}", file=sys.stderr)
        return 2
    every = benchmarks()
    chosen = [every[name] for name in options.op]
    batches = options.batch or (EMULATED_BATCHES if options.emulated else list(cases.BATCHES))
    selected = cases.cases(options.stage, batches, options.dtype)
    if options.emulated:
        return count(chosen, selected, options.out)
    if options.list or options.dry_run:
        return go_through(chosen, selected, options)

    from litehrnet_cuda import __file__ as package

    availability = backends.can_run_cuda()
    if "ours" in options.provider and not availability.ok:
        print(f"benchmarks: the kernels cannot run here: {availability.reason}", file=sys.stderr)
        return 2
    print(f"{torch.cuda.get_device_name()}, {Path(str(package)).parent}")
    failures = runner.run(chosen, selected, options.mode, options.provider, options.out)
    if options.out == ROOT / "benchmarks" / "results":
        from benchmarks import tables

        tables.update_readme()
    if failures:
        print(f"benchmarks: {failures} combinations failed, as printed above", file=sys.stderr)
    return 1 if failures else 0


def count(chosen: Sequence[Any], selected: Sequence[Any], out: Path) -> int:
    """Writes <out>/emulated/<op>.csv, and the README's tables if that is where they are read from."""
    from benchmarks import emulated, tables

    library = emulated.load_emulator()
    for benchmark in chosen:
        rows = [row for case in selected for row in emulated.rows(library, benchmark, case)]
        if not rows:
            print(f"{benchmark.name}: has none of these cases")
            continue
        path = out / "emulated" / f"{benchmark.name}.csv"
        tables.write_csv(path, rows)
        print(f"wrote {path}: {len(rows)} launches")
    if out == tables.FOLDER:
        tables.update_readme()
        print(f"wrote {tables.README}")
    return 0


def go_through(chosen: Sequence[Any], selected: Sequence[Any], options: argparse.Namespace) -> int:
    """Prints every combination; with --dry-run also calls it once on the CPU, without a time."""
    from benchmarks import emulated, runner

    if options.dry_run and "ours" in options.provider:
        emulated.load_emulator("plain")
    for benchmark in chosen:
        for case, mode, provider in runner.combinations(benchmark, selected, options.mode, options.provider):
            line = f"{benchmark.name:<42} {case.name:<24} {mode:<9} {provider}"
            if options.dry_run:
                function = runner.function_of(benchmark, provider)
                call, size = runner.call_of(function, benchmark.inputs(case), mode)
                call()
                line += f", {size:,} compulsory bytes"
            print(line)
    return 0


if __name__ == "__main__":
    # Last, so that the source tree comes after an installed package, which has the native library.
    sys.path[:] = [folder for folder in sys.path if Path(folder or ".").resolve() not in (ROOT, ROOT / "benchmarks")]
    sys.path.append(str(ROOT))
    sys.exit(main())
