"""What the kernels ask of memory, counted by the emulator; no GPU is needed, and no time is taken.

Rows go to results/emulated/<op>.csv, one for each launch. Columns:

    op, mode, stage, batch, dtype   the case; mode "backward" is the backward op alone
    op_read, op_written             compulsory bytes of the op: its arguments once, its results once
    launch, kernel                  number of the launch in the op, and what it runs
    blocks, threads, shared_bytes   grid, threads of a block, dynamic shared memory of a block
    boundary_read, boundary_written compulsory bytes of the launch, given what the launches before it left in memory;
                                    empty where the op's file does not say
    touched_read, touched_written   sectors that are touched, times 32 bytes, each once a launch: caches that hold all
    sector_read, sector_written     sectors that warps ask for, times 32 bytes, as if there were no cache
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.cases import Benchmark, Case, Traffic, bytes_of
from benchmarks.gpus import ROOT

SECTOR_BYTES = 32

Row = dict[str, object]


def find_tests() -> None:
    """Lets the tests' modules be imported: what builds the emulated ops, what knows of machine code."""
    for folder in ("python_tests", "build_support"):
        if str(ROOT / folder) not in sys.path:
            sys.path.append(str(ROOT / folder))


def load_emulator(mode: str = "checked") -> Any:
    """The ops on the emulator, registered in this process, from the tests' folder that builds them."""
    find_tests()
    import emulated_ops

    return emulated_ops.load(mode)


def rows(library: Any, benchmark: Benchmark, case: Case) -> Iterator[Row]:
    """A row for each launch of the op, and of its backward op if it has one."""
    if case.dtype not in benchmark.dtypes:
        return
    op = getattr(torch.ops.litehrnet_cuda, benchmark.name).default
    with torch.no_grad():
        arguments = benchmark.inputs(case)
        results, launches = _run(library, op, arguments)
        written = bytes_of(results) + bytes_of(benchmark.in_place(arguments))
        compulsory = Traffic(bytes_of(arguments) - benchmark.unread(case), written)
        boundaries = benchmark.forward_launches(case) if benchmark.forward_launches else None
        yield from _rows(benchmark.name, "forward", case, compulsory, launches, boundaries)
        if benchmark.backward_arguments is None:
            return
        op = getattr(torch.ops.litehrnet_cuda, f"_{benchmark.name}_backward").default
        arguments = benchmark.backward_arguments(arguments, results)
        results, launches = _run(library, op, arguments)
        compulsory = Traffic(bytes_of(arguments) - benchmark.backward_unread(case), bytes_of(results))
        boundaries = benchmark.backward_launches(case) if benchmark.backward_launches else None
        yield from _rows(benchmark.name, "backward", case, compulsory, launches, boundaries)


def _run(library: Any, op: Any, arguments: list[Any]) -> tuple[Any, list[dict[str, Any]]]:
    library.reset()
    library.configure(check=False, statistics=True)
    results = op(*arguments)
    launches = library.launches()
    library.configure()
    library.reset()
    return results, launches


def _rows(
    name: str,
    mode: str,
    case: Case,
    compulsory: Traffic,
    launches: list[dict[str, Any]],
    boundaries: list[Traffic] | None,
) -> Iterator[Row]:
    if boundaries is None and len(launches) == 1:
        boundaries = [compulsory]
    if boundaries is not None and len(boundaries) != len(launches):
        raise ValueError(f"{name}, {mode}: expected {len(launches)} launches in its benchmark, got {len(boundaries)}")
    for index, launch in enumerate(launches):
        boundary = boundaries[index] if boundaries else None
        sectors = {
            (access, kind): launch["traffic"].get(f"global_{access}", {}).get(kind, 0) * SECTOR_BYTES
            for access in ("read", "write", "atomic")
            for kind in ("sectors", "distinct_sectors")
        }
        yield {
            "op": name,
            "mode": mode,
            "stage": case.stage.name,
            "batch": case.batch,
            "dtype": case.dtype_name,
            "op_read": compulsory.read,
            "op_written": compulsory.written,
            "launch": index + 1,
            "kernel": _kernel(launch),
            "blocks": math.prod(launch["grid"]),
            "threads": math.prod(launch["block"]),
            "shared_bytes": launch["shared_bytes"],
            "boundary_read": boundary.read if boundary else "",
            "boundary_written": boundary.written if boundary else "",
            "touched_read": sectors["read", "distinct_sectors"] + sectors["atomic", "distinct_sectors"],
            "touched_written": sectors["write", "distinct_sectors"] + sectors["atomic", "distinct_sectors"],
            "sector_read": sectors["read", "sectors"] + sectors["atomic", "sectors"],
            "sector_written": sectors["write", "sectors"] + sectors["atomic", "sectors"],
        }


def _kernel(launch: dict[str, Any]) -> str:
    import machine_code

    return machine_code._shortened(launch["kernel"])
