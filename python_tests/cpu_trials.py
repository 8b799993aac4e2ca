"""A program that puts the CPU's steps of plans to the test; what the processor can do is settled once for a process.

    LITEHRNET_CUDA_CPU_CAPABILITY=avx2 python cpu_trials.py --networks litehrnet_18 unusual_steps --sizes 64x48 50x71

Every step starts from random numbers, with NaN in all that it has no business to read. Results are compared with the
reference executor, all else has to stay as it was, and any number of threads has to give the same bits. It stops at the
first disagreement with exit status 1 and one sentence; else it says what it ran on and counts its trials.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from plan_trials import NETWORKS, assert_written, different, filled, plan_of, run_number

from litehrnet_cuda import _extension
from litehrnet_cuda.plan import Plan
from litehrnet_cuda.plan.program import Program, compile_plan
from litehrnet_cuda.plan.steps import STEPS


def try_step(plan: Plan, program: Program, number: int, threads: Sequence[int], batch: int, shift: int) -> None:
    """Runs one step with every number of threads."""
    step = plan.steps[number]
    memory = filled(plan, step, batch, shift)
    before = copy.copy(memory)
    before.buffers = [values.clone() for values in memory.buffers]
    first: list[torch.Tensor] = []
    for count in threads:
        torch.set_num_threads(count)
        for values, then in zip(memory.buffers, before.buffers, strict=True):
            values.copy_(then)
        run_number(memory, program, number)
        torch.set_num_threads(1)
        results = [values.clone() for values in assert_written(memory, before, step)]
        first = first or results
        for a, b in zip(first, results, strict=True):
            assert torch.equal(a, b), f"{step.name}: other bits with {count} threads than with {threads[0]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", type=Path, help="in place of the package's")
    parser.add_argument("--networks", nargs="+", default=["litehrnet_18"], choices=NETWORKS)
    parser.add_argument("--sizes", nargs="+", default=["64x48"], help="height x width")
    parser.add_argument("--dtypes", nargs="+", default=["float32"])
    parser.add_argument("--kinds", nargs="+", default=[], choices=[kind.__name__ for kind in STEPS])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 3])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--shift", type=int, default=0)
    options = parser.parse_args()
    if options.library is not None:
        _extension.LIBRARY = options.library
    assert _extension.load().ok, _extension.load().reason
    trials = 0
    for network in options.networks:
        for size in options.sizes:
            for dtype in options.dtypes:
                height, width = map(int, size.split("x"))
                plan = plan_of(network, (height, width), getattr(torch, dtype))
                program = compile_plan(plan)
                for number in different(plan, options.kinds):
                    try:
                        try_step(plan, program, number, options.threads, options.batch, options.shift)
                    except AssertionError as error:
                        print(f"{network}, {size}, {dtype}: {error}", file=sys.stderr)
                        return 1
                    trials += 1
    print((_extension.build_info() or {})["cpu_capability"], trials)
    return 0


if __name__ == "__main__":
    sys.exit(main())
