"""A program that counts what the launches of a forward pass of litehrnet_18 ask of memory, on the emulator.

    python plan_traffic.py --size 64x48 --dtype float32

Prints a JSON array with an object for each launch, bytes all of them:

    kind, step   of the plan
    compulsory   planes that it reads or writes, and weights, each once and without padding: see plan/costs.py
    touched      sectors that are touched, times 32 bytes, each once a launch: caches that hold all
    asked        sectors that warps ask for, times 32 bytes, as if there were no cache
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import emulated_ops
import torch
from plan_cases import pose_network

from litehrnet_cuda.plan import build_plan
from litehrnet_cuda.plan.costs import step_cost
from litehrnet_cuda.plan.executor import run_program
from litehrnet_cuda.plan.program import compile_plan

SECTOR_BYTES = 32


def rows(height: int, width: int, dtype: torch.dtype) -> Iterator[dict[str, Any]]:
    """One for each launch, with one image."""
    library = emulated_ops.load("checked")
    plan = build_plan(pose_network("litehrnet_18", 17), height, width, dtype)
    program = compile_plan(plan)
    program = replace(program, constants=program.constants.clone())  # where torch's tensors begin, as on a device
    library.configure(check=False, statistics=True)
    run_program(program, torch.randn(1, 3, height, width).to(dtype))
    for step, launch in zip(plan.steps, library.launches(), strict=True):
        cost = step_cost(plan, step)
        traffic = [launch["traffic"][f"global_{access}"] for access in ("read", "write")]
        yield {
            "kind": type(step).__name__,
            "step": step.name,
            "compulsory": cost.read + cost.written + cost.weights,
            "touched": SECTOR_BYTES * sum(counts["distinct_sectors"] for counts in traffic),
            "asked": SECTOR_BYTES * sum(counts["sectors"] for counts in traffic),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="256x192", help="height x width")
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    height, width = map(int, options.size.split("x"))
    print(json.dumps(list(rows(height, width, getattr(torch, options.dtype)))))


if __name__ == "__main__":
    main()
