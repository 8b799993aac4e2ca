"""Times ops on a GPU against plain PyTorch, eager and compiled.

How a call is timed
    GPU time   CUDA events around one call, the L2 cache overwritten before each (a buffer of four times its size),
               on a stream of its own; at least 20 calls after 5 unmeasured ones, until 0.2 s are full. Overwriting
               gives the host time to enqueue some launches ahead; a provider whose host work takes longer still is
               measured with the GPU's wait for it, which is what a user sees.
    in a graph ten calls captured into one CUDA graph and replayed, divided by ten: neither host time nor a cold L2.
               Empty for what cannot be captured.
    host time  of the host per call, over calls that are enqueued without waiting for the GPU.

Clocks are left as they are: fix them with `nvidia-smi -lgc` for figures to compare. GB/s are compulsory bytes over the
median: arguments once and results once; for backward passes the gradients of the outputs, the arguments and the
gradients of the arguments, without what was saved; so they are a lower bound of what the memory did.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from benchmarks.cases import Benchmark, Case, bytes_of, tensors
from benchmarks.gpus import commit, driver_version, peak_gigabytes_per_second

PROVIDERS = ("ours", "triton", "reference", "compiled")

Call = Callable[[], Any]
Row = dict[str, object]


class Timing(NamedTuple):
    """Seconds of one call; `graph` is None where the call cannot be captured."""

    median: float
    p20: float
    p80: float
    graph: float | None
    host: float


class Timer(Protocol):
    """Measures one call again and again."""

    def __call__(self, call: Call) -> Timing: ...


class CudaTimer:
    """See this file's first lines. Use it inside `torch.cuda.stream(timer.stream)`, and make the calls there too."""

    WARM_UP, LEAST_CALLS, MOST_CALLS, SECONDS = 5, 20, 200, 0.2
    GRAPH_CALLS, HOST_CALLS = 10, 10

    def __init__(self) -> None:
        self.stream = torch.cuda.Stream()
        cache = getattr(torch.cuda.get_device_properties(), "L2_cache_size", 0) or 64 << 20
        self._flushing = torch.empty(4 * cache, dtype=torch.uint8, device="cuda")

    def __call__(self, call: Call) -> Timing:
        for _ in range(self.WARM_UP):
            call()
        torch.cuda.synchronize()
        samples = self._samples(call)
        median, p20, p80 = (quantile(samples, share) for share in (0.5, 0.2, 0.8))
        return Timing(median, p20, p80, self._in_graph(call), self._on_host(call))

    def _samples(self, call: Call) -> list[float]:
        samples: list[float] = []
        while len(samples) < self.LEAST_CALLS or (len(samples) < self.MOST_CALLS and sum(samples) < self.SECONDS):
            events = []
            for _ in range(self.LEAST_CALLS):
                start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                self._flushing.zero_()
                start.record()
                call()
                end.record()
                events.append((start, end))
            torch.cuda.synchronize()
            samples += [start.elapsed_time(end) / 1e3 for start, end in events]
        return samples

    def _in_graph(self, call: Call) -> float | None:
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self.stream):
                for _ in range(self.GRAPH_CALLS):
                    call()
        except RuntimeError as error:
            print(f"    not captured: {str(error).splitlines()[0]}")
            return None
        samples = []
        for _ in range(self.LEAST_CALLS):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            graph.replay()
            end.record()
            torch.cuda.synchronize()
            samples.append(start.elapsed_time(end) / 1e3 / self.GRAPH_CALLS)
        return quantile(samples, 0.5)

    def _on_host(self, call: Call) -> float:
        samples = []
        for _ in range(self.LEAST_CALLS):
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(self.HOST_CALLS):
                call()
            samples.append((time.perf_counter() - start) / self.HOST_CALLS)
        torch.cuda.synchronize()
        return quantile(samples, 0.5)


def quantile(samples: Sequence[float], share: float) -> float:
    """The sample that this share of all samples does not exceed."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def function_of(benchmark: Benchmark, provider: str) -> Callable[..., Any]:
    """What a provider calls."""
    if provider == "ours":
        return benchmark.ours
    if provider == "triton":
        import litehrnet_cuda.triton

        function: Callable[..., Any] = getattr(litehrnet_cuda.triton, benchmark.name)
        return function
    if provider == "compiled":
        import torch._functorch.config as settings

        settings.donated_buffer = False  # else a backward pass cannot be run twice
        torch.compiler.reset()
        return torch.compile(benchmark.reference, fullgraph=True, dynamic=False)
    return benchmark.reference


def call_of(function: Callable[..., Any], arguments: list[Any], mode: str) -> tuple[Call, int]:
    """What is timed in a mode, and its compulsory bytes; running statistics among the arguments get no gradient."""
    if mode == "forward":

        def forward() -> Any:
            with torch.no_grad():
                return function(*arguments)

        return forward, bytes_of(arguments) + bytes_of(forward())

    inputs = [t.requires_grad_() for t in _leaves(arguments)]
    outputs = [t for t in tensors(function(*arguments)) if t.requires_grad]
    grads = [torch.randn_like(t) for t in outputs]
    # What no output depends on, a running mean say, is no input.
    found = torch.autograd.grad(outputs, inputs, grads, retain_graph=True, allow_unused=True)
    inputs = [t for t, grad in zip(inputs, found, strict=True) if grad is not None]
    backward_bytes = bytes_of(grads) + bytes_of(arguments) + bytes_of(inputs)

    def backward() -> Any:
        return torch.autograd.grad(outputs, inputs, grads, retain_graph=True)

    def full() -> Any:
        results = [t for t in tensors(function(*arguments)) if t.requires_grad]
        return torch.autograd.grad(results, inputs, grads)

    if mode == "backward":
        return backward, backward_bytes
    return full, backward_bytes + bytes_of(arguments) + bytes_of(outputs)


def _leaves(arguments: list[Any]) -> Iterator[Tensor]:
    """Floating-point arguments as leaves: a transposed view of a leaf is none, so it is replaced in its place."""
    for i, value in enumerate(arguments):
        if isinstance(value, list):
            yield from _leaves(value)
        elif isinstance(value, Tensor) and value.is_floating_point():
            arguments[i] = value.detach()
            yield arguments[i]


def measure(
    benchmark: Benchmark, case: Case, mode: str, provider: str, timer: Timer, device: str, peak: float | None
) -> Row:
    """One row of the results.

    Args:
        benchmark, case, mode, provider: what is measured.
        timer: what measures.
        device: where the arguments are.
        peak: of the memory's bandwidth in GB/s, or None where it is not known.
    """
    arguments = benchmark.inputs(case, device)
    call, size = call_of(function_of(benchmark, provider), arguments, mode)
    size += bytes_of(benchmark.in_place(arguments)) - (benchmark.unread(case) if mode == "forward" else 0)
    timing = timer(call)
    rate = size / timing.median / 1e9
    return {
        "kernel": benchmark.name,
        "case": case.name,
        "stage": case.stage.name,
        "batch": case.batch,
        "dtype": case.dtype_name,
        "layout": "contiguous",
        "provider": provider,
        "mode": mode,
        "median_us": f"{timing.median * 1e6:.2f}",
        "p20_us": f"{timing.p20 * 1e6:.2f}",
        "p80_us": f"{timing.p80 * 1e6:.2f}",
        "graph_us": "" if timing.graph is None else f"{timing.graph * 1e6:.2f}",
        "host_us": f"{timing.host * 1e6:.2f}",
        "compulsory_bytes": size,
        "gb_per_s": f"{rate:.1f}",
        "percent_of_peak": "" if peak is None else f"{100 * rate / peak:.1f}",
    }


def machine() -> Row:
    """Columns that say where rows come from."""
    properties = torch.cuda.get_device_properties()
    peak = peak_gigabytes_per_second(properties)
    return {
        "gpu": properties.name,
        "driver": driver_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "commit": commit(),
        "peak_gb_per_s": "" if peak is None else f"{peak:.0f}",
    }


def folder_name(gpu: str) -> str:
    """The name of a GPU as that of a folder, such as nvidia_a100-sxm4-40gb."""
    return "_".join(gpu.lower().replace("/", " ").split())


def run(
    benchmarks: Sequence[Benchmark],
    cases: Sequence[Case],
    modes: Sequence[str],
    providers: Sequence[str],
    folder: Path,
) -> int:
    """Measures all combinations on the current GPU and writes <op>.csv for each op.

    Returns:
        the number of combinations that failed; each is printed, and the others go on.
    """
    from benchmarks.tables import write_csv

    here = machine()
    timer, failures = CudaTimer(), 0
    peak = float(str(here["peak_gb_per_s"])) if here["peak_gb_per_s"] else None
    out = folder / folder_name(str(here["gpu"]))
    for benchmark in benchmarks:
        rows: list[Row] = []
        for case, mode, provider in combinations(benchmark, cases, modes, providers):
            title = f"{benchmark.name:<42} {case.name:<24} {mode:<9} {provider:<10}"
            try:
                with torch.cuda.stream(timer.stream):
                    row = measure(benchmark, case, mode, provider, timer, "cuda", peak)
            except Exception as error:  # one that fails, of whatever layer, must not hide the others
                failures += 1
                print(f"{title} FAILED: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
                continue
            rows.append({**row, **here})
            print(f"{title} {row['median_us']:>9} µs  {row['gb_per_s']:>7} GB/s")
        if rows:
            write_csv(out / f"{benchmark.name}.csv", rows)
            print(f"wrote {out / benchmark.name}.csv")
    return failures


def combinations(
    benchmark: Benchmark, cases: Sequence[Case], modes: Sequence[str], providers: Sequence[str]
) -> Iterator[tuple[Case, str, str]]:
    """Those that an op has."""
    for case in cases:
        for mode in modes:
            if mode in benchmark.modes and case.dtype in benchmark.dtypes:
                for provider in providers:
                    if provider != "triton" or benchmark.in_triton:
                        yield case, mode, provider
