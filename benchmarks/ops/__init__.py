"""One file for each op. A new bench_<op>.py is found here, and nothing else has to be told of it."""

from __future__ import annotations

import importlib
import pkgutil

from benchmarks.cases import Benchmark


def benchmarks() -> dict[str, Benchmark]:
    """Every op's benchmark by the op's name."""
    modules = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name.startswith("bench_"))
    found = {}
    for name in modules:
        benchmark: Benchmark = importlib.import_module(f"{__name__}.{name}").BENCHMARK
        found[benchmark.name] = benchmark
    return found
