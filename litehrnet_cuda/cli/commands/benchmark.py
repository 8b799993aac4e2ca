"""`litehrnet benchmark`: how long a forward pass takes here, or what it would take on a GPU, predicted."""

from __future__ import annotations

import argparse
import functools
import json
import textwrap
from collections.abc import Mapping
from itertools import product
from typing import TYPE_CHECKING, Any

from litehrnet_cuda.cli.arguments import at_least_one, image_size
from litehrnet_cuda.errors import InputError

if TYPE_CHECKING:
    from litehrnet_cuda.plan.latency import Range

# Of litehrnet_cuda.plan.gpus, which cannot be imported without torch; a test compares them.
GPU_NAMES = ("T4", "A100 40 GB", "RTX 4090", "H100 SXM")
DTYPE_NAMES = ("float32", "float16", "bfloat16")
# Of litehrnet_cuda.benchmarking.contenders, likewise.
CONTENDER_NAMES = (
    *("eager", "ours", "ours-bfloat16", "ours-float16", "ours-no-graph", "ours-one-launch", "blocks", "compile"),
    *("compile-graphs", "compile-autotune", "onnxruntime", "openvino", "tensorrt"),
)

WARM_UP, LEAST_RUNS, SECONDS = 2, 5, 2.0  # of every call; SECONDS are for all calls of a line together

EPILOG = f"""\
Without --predict: medians of runs that take turns, with random weights and images, as the host's clock sees them, the
wait for a GPU included. Each output is compared with plain PyTorch's first. By default all take part that are installed
and ready within seconds. Contenders: {", ".join(CONTENDER_NAMES[:8])},
{", ".join(CONTENDER_NAMES[8:])}, or all.
With --predict: nothing is run. From the launches of the inference plan, the bytes that they have to move and the
multiplications follow a shortest and a longest time; the assumptions are printed with them.
GPUs: {", ".join(GPU_NAMES)}; parts of these names do, too.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("models", nargs="*", metavar="MODEL", help="names of networks (default: all)")
    parser.add_argument(
        "--size", type=image_size, default=(192, 256), metavar="WxH", help="input size, width first (default: 192x256)"
    )
    parser.add_argument(
        "--batch", type=at_least_one, nargs="+", default=[1], metavar="N", help="images per forward pass (default: 1)"
    )
    parser.add_argument("--dtype", choices=DTYPE_NAMES, default="float32", help="type of images and weights")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, ... (default: cuda if there is one)")
    parser.add_argument("--threads", type=at_least_one, metavar="N", help="of every contender (default: torch's)")
    parser.add_argument(
        "--contender",
        nargs="+",
        choices=(*CONTENDER_NAMES, "all"),
        metavar="NAME",
        help="these, and plain PyTorch (default: see below)",
    )
    parser.add_argument("--predict", action="store_true", help="predict what GPUs would take instead")
    parser.add_argument("--gpu", nargs="+", metavar="NAME", help="GPUs to predict for (default: all)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    if args.predict and args.device:
        raise InputError("--device: nothing runs with --predict; --gpu chooses what is predicted")
    if args.predict and (args.contender or args.threads):
        option = "--contender" if args.contender else "--threads"
        raise InputError(f"{option}: nothing runs with --predict")
    if args.gpu and not args.predict:
        raise InputError("--gpu: only together with --predict; --device chooses where to measure")
    return _predict(args) if args.predict else _measure(args)


def _predict(args: argparse.Namespace) -> int:
    import torch

    from litehrnet_cuda.models.registry import create_model, list_models
    from litehrnet_cuda.plan import build_plan
    from litehrnet_cuda.plan.gpus import GPUS, find_gpu
    from litehrnet_cuda.plan.latency import WAYS, assumptions, plan_launches, predict

    gpus = [find_gpu(name) for name in args.gpu] if args.gpu else GPUS
    models = [create_model(name) for name in args.models or list_models()]
    width, height = args.size
    results: list[dict[str, Any]] = []
    for model in models:
        plan = build_plan(model, height, width, getattr(torch, args.dtype))
        common = {"network": plan.network, "width": width, "height": height, "dtype": args.dtype}
        launches = {batch: plan_launches(plan, batch) for batch in args.batch}
        lines = []
        for gpu, batch in product(gpus, args.batch):
            possible = [way for way in WAYS if way.runs_on(gpu)]
            ranges = {way.name: predict(launches[batch], gpu, way, warm=True) for way in possible}
            lines.append([gpu.name, str(batch), *(_milliseconds(ranges.get(way.name)) for way in WAYS)])
            result = {**common, "gpu": gpu.name, "batch": batch, "launches": len(plan.steps)}
            result["ms"] = {way.name: None for way in WAYS}
            result["ms"] |= {name: [seconds * 1e3 for seconds in ends] for name, ends in ranges.items()}
            results.append(result)
        if not args.json:
            print(
                f"{plan.network}, input {width}x{height}, {args.dtype}, a plan of {len(plan.steps)} launches: "
                "predicted, not measured;\nshortest - longest time in ms"
            )
            print(_table([["", "batch", *(way.name for way in WAYS)], *lines]), end="\n\n")
    if args.json:
        print(json.dumps({"predicted": results, "assumptions": assumptions()}, indent=2))
    else:
        print("What the predictions assume")
        for paragraph in assumptions():
            print(textwrap.fill(paragraph, 110, initial_indent="- ", subsequent_indent="  "))
    return 0


def _measure(args: argparse.Namespace) -> int:
    import torch
    from tqdm import tqdm

    from litehrnet_cuda.benchmarking.comparison import Entry, compare
    from litehrnet_cuda.benchmarking.contenders import CONTENDERS, contenders_for, with_statistics
    from litehrnet_cuda.benchmarking.machine import Load, describe_machine
    from litehrnet_cuda.benchmarking.timing import SPINNING, Effort
    from litehrnet_cuda.models.registry import create_model, list_models
    from litehrnet_cuda.predictors.arguments import choose_device

    device, dtype = choose_device(args.device), getattr(torch, args.dtype)
    threads = args.threads or torch.get_num_threads()
    names = _names(args.contender)
    contenders = {contender.name: contender for contender in contenders_for(device.type, names)}
    missing = {name: f"not for {device.type}" for name in names or () if name not in contenders}
    width, height = args.size
    networks = [create_model(name) for name in args.models or list_models()]
    for network in networks:
        with_statistics(network, torch.randn(2, 3, height, width)).to(device, dtype)
    # Threads of one contender spin for a while after its turn, and would disturb the next one's.
    effort = Effort(WARM_UP, LEAST_RUNS, SECONDS, SPINNING if threads > 1 and device.type == "cpu" else 0.0)
    load = Load()
    results: list[dict[str, Any]] = []
    bar = tqdm([*product(networks, args.batch)], leave=False, disable=None)
    for network, batch in bar:
        name = network.variant.name
        images = torch.randn(batch, 3, height, width, device=device).to(dtype)
        entries = {title: Entry(contender, network) for title, contender in contenders.items()}
        try:
            done = compare(entries, images, threads, effort, say=functools.partial(_describe, bar, name))
        except KeyboardInterrupt:
            if not results:
                raise
            break
        rows = {contender: done.row(contender, to="eager") for contender in done.prepared}
        result = {"network": name, "width": width, "height": height, "dtype": args.dtype, "batch": batch}
        result |= {"threads": threads, "runs": len(done.rounds), "interrupted": done.rounds.interrupted}
        result["ms"] = {contender: row["median_ms"] for contender, row in rows.items()}
        result["times_faster"] = {contender: 1 / row["ratio"] for contender, row in rows.items()}
        result["contenders"] = rows
        results.append(result)
        missing |= done.missing
        if done.rounds.interrupted:
            break
    bar.close()
    place: dict[str, Any] = {
        "device": str(device),
        "torch": torch.__version__,
        "machine": describe_machine(),
        "load": load.end(),
    }
    if args.json:
        print(json.dumps({"measured": results, "missing": missing, **place}, indent=2))
        return 0
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else place["machine"]["cpu"]
    print(
        f"input {width}x{height}, {args.dtype}, on {device} ({where}), {_counted(threads)}, torch {torch.__version__}:"
    )
    print("medians in ms of runs that take turns; in brackets how many times faster than eager")
    print(_table(_rows(results, {name: CONTENDERS[name].title for name in contenders})))
    for line in _notes(results, missing):
        print(line)
    return 0


def _describe(bar: Any, network: str, text: str) -> None:
    bar.set_description_str(f"{network}: {text}")


def _names(given: list[str] | None) -> list[str] | None:
    """Contenders by name, with plain PyTorch, to which all are compared; none for those that are chosen by default."""
    if given is None:
        return None
    if "all" in given:
        return list(CONTENDER_NAMES)
    return ["eager", *given]


def _rows(results: list[dict[str, Any]], titles: Mapping[str, str]) -> list[list[str]]:
    """Heading and lines of the table, with columns for all that were measured anywhere."""
    names = [name for name in titles if any(name in result["ms"] for result in results)]
    rows = [["", "batch", "runs", *(titles[name] for name in names)]]
    for r in results:
        cells = []
        for name in names:
            time = f"{r['ms'][name]:.3g}" if name in r["ms"] else "-"
            cells.append(time if name == "eager" or time == "-" else f"{time} ({r['times_faster'][name]:.1f})")
        rows.append([r["network"], str(r["batch"]), str(r["runs"]), *cells])
    return rows


def _notes(results: list[dict[str, Any]], missing: Mapping[str, str]) -> list[str]:
    """How ours was run, who was left out and why, and whether the user stopped it."""
    how = {r["contenders"]["ours"]["details"] for r in results if "ours" in r["contenders"]}
    notes = [f"ours: {details}" for details in sorted(how)]
    if "not installed" in missing.values():
        absent = ", ".join(name for name, reason in missing.items() if reason == "not installed")
        notes.append(f"not installed: {absent}; pip install 'litehrnet_cuda[benchmark]'")
    notes += [f"not measured: {name}: {reason}" for name, reason in missing.items() if reason != "not installed"]
    if any(r["interrupted"] for r in results):
        notes.append("interrupted: fewer runs, and not all networks and batches")
    return notes


def _counted(threads: int) -> str:
    return "1 thread" if threads == 1 else f"{threads} threads"


def _milliseconds(seconds: Range | None) -> str:
    return "-" if seconds is None else " - ".join(_two_digits(end * 1e3) for end in seconds)


def _two_digits(value: float) -> str:
    """Two digits, without an exponent: 0.14, 3.0, 86, 137."""
    return f"{value:.2f}" if value < 0.995 else f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


def _table(rows: list[list[str]]) -> str:
    """Columns side by side, the first one to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)
