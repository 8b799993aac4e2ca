"""`litehrnet benchmark`: how long a forward pass takes here, or what it would take on a GPU, predicted."""

from __future__ import annotations

import argparse
import json
import textwrap
import time
from collections.abc import Callable, Mapping
from itertools import product
from statistics import median
from typing import TYPE_CHECKING, Any

from litehrnet_cuda.cli.arguments import at_least_one, image_size
from litehrnet_cuda.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from litehrnet_cuda.plan.latency import Range

# Of litehrnet_cuda.plan.gpus, which cannot be imported without torch; a test compares them.
GPU_NAMES = ("T4", "A100 40 GB", "RTX 4090", "H100 SXM")
DTYPE_NAMES = ("float32", "float16", "bfloat16")

WARM_UP, LEAST_RUNS, SECONDS = 2, 5, 2.0  # of every call; SECONDS are for all calls of a line together

EPILOG = f"""\
Without --predict: medians of runs that take turns, with random weights and images, as the host's clock sees them, the
wait for a GPU included. "eager" is plain PyTorch; behind other times, in brackets, how many times faster they are.
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
    parser.add_argument("--predict", action="store_true", help="predict what GPUs would take instead")
    parser.add_argument("--gpu", nargs="+", metavar="NAME", help="GPUs to predict for (default: all)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    if args.predict and args.device:
        raise InputError("--device: nothing runs with --predict; --gpu chooses what is predicted")
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

    from litehrnet_cuda.models.registry import create_model, list_models
    from litehrnet_cuda.predictors import choose_device

    device, dtype = choose_device(args.device), getattr(torch, args.dtype)
    models = [create_model(name, device=device, dtype=dtype).eval() for name in args.models or list_models()]
    width, height = args.size
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    place = {"device": str(device), "device_name": name, "torch": torch.__version__}
    results: list[dict[str, Any]] = []
    for model, batch in tqdm([*product(models, args.batch)], leave=False, disable=None):
        images = torch.randn(batch, 3, height, width, device=device, dtype=dtype)
        times = measure(contenders(model, images), images)
        medians = {name: median(samples) for name, samples in times.items()}
        result = {"network": model.variant.name, "width": width, "height": height, "dtype": args.dtype}
        result |= {"batch": batch, "runs": len(times["eager"])}
        result["ms"] = {name: seconds * 1e3 for name, seconds in medians.items()}
        result["times_faster"] = {name: medians["eager"] / seconds for name, seconds in medians.items()}
        results.append(result)
    if args.json:
        print(json.dumps({"measured": results, **place}, indent=2))
        return 0
    print(f"input {width}x{height}, {args.dtype}, on {device} ({name}), torch {torch.__version__}: medians in ms")
    names = list(dict.fromkeys(n for r in results for n in r["ms"]))  # not every network can be run in every way
    rows = [["", "batch", "runs", *names]]
    for r in results:
        cells = [
            "-"
            if n not in r["ms"]
            else f"{r['ms'][n]:.3g}" + ("" if n == "eager" else f" ({r['times_faster'][n]:.1f})")
            for n in names
        ]
        rows.append([r["network"], str(r["batch"]), str(r["runs"]), *cells])
    print(_table(rows))
    return 0


def contenders(model: nn.Module, images: Tensor) -> dict[str, Callable[[Tensor], object]]:
    """What is timed for a model and images like these, by name; "eager", plain PyTorch, comes first.

    Where networks run as plans: "fused blocks" is the model as it is, module by module, "plan" the whole of it in one
    call and, on a GPU, "plan, graph" the same as a CUDA graph, and "plan, one launch" by the persistent kernel.
    """
    from litehrnet_cuda.backends import select_backend, use_backend
    from litehrnet_cuda.inference import optimize_for_inference

    def eager(images: Tensor) -> object:
        with use_backend("reference"):
            return model(images)

    calls: dict[str, Callable[[Tensor], object]] = {"eager": eager}
    if select_backend(images.device.type) != "reference":
        calls["fused blocks"] = model
        plan = optimize_for_inference(model, cuda_graphs=False)  # type: ignore[arg-type]
        if plan.backend_for(images).is_planned:
            calls["plan"] = plan
            if images.device.type == "cuda":
                calls["plan, graph"] = optimize_for_inference(model)  # type: ignore[arg-type]
                persistent = optimize_for_inference(model, persistent=True)  # type: ignore[arg-type]
                if persistent.backend_for(images).is_planned:  # not every device can
                    calls["plan, one launch"] = persistent
    return calls


def measure(calls: Mapping[str, Callable[[Tensor], object]], images: Tensor) -> dict[str, list[float]]:
    """Times calls on the same images in turns, so that what disturbs the machine disturbs all of them.

    Args:
        calls: functions of images, by name.
        images: ``[N, 3, H, W]``; results are waited for if these are on a GPU.

    Returns:
        seconds of every run, by name, as many for each: at least ``LEAST_RUNS``, more until ``SECONDS`` have passed.
    """
    import torch

    def timed(call: Callable[[Tensor], object]) -> float:
        start = time.perf_counter()
        call(images)
        if images.device.type == "cuda":
            torch.cuda.synchronize(images.device)
        return time.perf_counter() - start

    times: dict[str, list[float]] = {name: [] for name in calls}
    with torch.inference_mode():
        for call in calls.values():
            for _ in range(WARM_UP):
                timed(call)
        end = time.perf_counter() + SECONDS
        while time.perf_counter() < end or len(next(iter(times.values()))) < LEAST_RUNS:
            for name, call in calls.items():
                times[name].append(timed(call))
    return times


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
