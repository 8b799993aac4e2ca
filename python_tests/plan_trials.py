"""A program that puts the steps of plans, run by the native executor, to the test; and the tests' functions for that.

    python plan_trials.py build/emulated/<library>.so --networks litehrnet_18 --sizes 64x48 --dtypes float32

Every step starts from buffers of random numbers, each in a place of its own, with NaN in all that it has no business to
read, and between the buffers and the constants. What it writes is compared with the reference executor; all else has to
stay as it was, bit by bit. In a checked library an access to anything but the step's planes and the constants is out of
bounds. It stops at the first disagreement with exit status 1 and one sentence; else it counts its trials.

--whole runs whole forward passes instead.

Tolerance, as in test_kernels_native.py: twice the error of the reference in the plan's own type, and one rounding of
the largest value. The reference computes as the kernels do, in the accumulation type, and rounds what it stores.
"""

from __future__ import annotations

import argparse
import copy
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import emulated_ops
import emulation
import torch
import trial_programs
from official_reference import relative_error
from plan_bounds import GuardedProgram, bounds_of, compile_guarded
from plan_cases import UNUSUAL, backbone_of, pose_network
from torch import Tensor
from unusual_steps import unusual_plan

from litehrnet_cuda import _extension
from litehrnet_cuda.models.litehrnet import VARIANTS
from litehrnet_cuda.plan import Plan, build_plan
from litehrnet_cuda.plan.executor import run_program, run_steps
from litehrnet_cuda.plan.memory import ALIGNMENT, Layout, buffer_bytes, buffer_dtype
from litehrnet_cuda.plan.operands import plane_count
from litehrnet_cuda.plan.packing import ACCUMULATE
from litehrnet_cuda.plan.program import Program, compile_plan
from litehrnet_cuda.plan.reference import Memory, run_reference, run_step
from litehrnet_cuda.plan.steps import STEPS, FuseUpward, Step

BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def network_plan(network: str, size: tuple[int, int], dtype: torch.dtype) -> Plan:
    """The plan of a published variant, an unusual one, or with a backbone's outputs."""
    if network == "unusual_steps":
        return unusual_plan(dtype)
    if network == "returned":  # sums that are returned and that chains read
        return build_plan(backbone_of("litehrnet_18", with_head=False, branches="all"), *size, dtype)
    if network == "returned_head":  # outputs that later steps read
        return build_plan(backbone_of("litehrnet_18", branches="all"), *size, dtype)
    if network == "top":
        return build_plan(backbone_of("litehrnet_18", with_head=False), *size, dtype)
    variants = {variant.name: variant for variant in UNUSUAL}
    return build_plan(pose_network(variants.get(network, network)), *size, dtype)


@cache
def plan_of(network: str, size: tuple[int, int], dtype: torch.dtype) -> Plan:
    """The same with room between its buffers."""
    return apart(network_plan(network, size, dtype))


NETWORKS = [*VARIANTS, *(variant.name for variant in UNUSUAL), "returned", "returned_head", "top", "unusual_steps"]


def apart(plan: Plan) -> Plan:
    """The plan with every buffer in a place of its own."""
    offsets: list[int | None] = []
    end = ALIGNMENT
    for buffer, offset in zip(plan.buffers, plan.layout.offsets, strict=True):
        offsets.append(None if offset is None else end)
        if offset is not None:
            end += buffer_bytes(buffer, plan.dtype) + ALIGNMENT
    return replace(plan, layout=Layout(tuple(offsets), end))


def different(plan: Plan, kinds: Iterable[str] = ()) -> list[int]:
    """The numbers of a plan's steps, without those that resemble an earlier one."""
    chosen = set(kinds) or {kind.__name__ for kind in STEPS}
    found: dict[Any, int] = {}
    for number, step in enumerate(plan.steps):
        operands = [planes for planes in (*step.inputs(), *step.outputs()) if planes]
        form = tuple(
            (
                plane_count(planes),
                plan.buffers[planes[0].buffer].height,
                len(planes) > 1,
                any(run.relu for run in planes),
                any(run.factors is not None for run in planes),
            )
            for planes in operands
        )
        if type(step).__name__ in chosen:
            relu = isinstance(step, FuseUpward) and step.relu
            found.setdefault((type(step), len(step.evaluated_gates()), relu, form), number)
    return list(found.values())


def filled(plan: Plan, step: Step, batch: int, shift: int = 0) -> Memory:
    """Memory in which the planes that a step reads have random numbers, and all else is NaN.

    `shift`: bytes by which everything is off its alignment.
    """
    random = torch.Generator().manual_seed(0)

    def shifted(size: int) -> Tensor:
        return torch.full((size + shift,), 255, dtype=torch.uint8)[shift:]

    image = plan.buffers[0]
    images = shifted(batch * buffer_bytes(image, plan.dtype)).view(plan.dtype)
    images = images.view(batch, image.channels, image.height, image.width)
    memory = Memory(plan, images, shifted(batch * plan.layout.arena_bytes))
    for number in plan.outputs:
        like = memory.buffers[number]
        memory.buffers[number] = shifted(like.numel() * like.element_size()).view(like.dtype).view(like.shape)
    tiles = {run.buffer: gate.pixels for gate in step.evaluated_gates() for run in gate.sums}
    for run in step.reads():
        buffer = plan.buffers[run.buffer]
        planes = memory.whole(run.buffer)[:, run.first : run.first + run.count]
        values = torch.randn(planes.shape, generator=random, dtype=torch.float64)
        if buffer.role == "sums":
            values *= tiles[run.buffer] / buffer.width
        planes.copy_(values)
    return memory


def cast(memory: Memory, dtype: torch.dtype) -> Memory:
    """A copy of the numbers in another type."""
    plan = memory.plan
    weights = {name: w.to(dtype if w.dtype == plan.dtype else ACCUMULATE[dtype]) for name, w in plan.weights.items()}
    result = copy.copy(memory)
    result.plan = replace(plan, dtype=dtype, weights=weights)
    result.accumulate = ACCUMULATE[dtype]
    result.buffers = [
        values.to(buffer_dtype(buffer, dtype), copy=True)
        for values, buffer in zip(memory.buffers, plan.buffers, strict=True)
    ]
    return result


def run_number(memory: Memory, program: Program, number: int) -> None:
    """Runs one step by the native library."""
    outputs = [memory.whole(output) for output in memory.plan.outputs]
    run_steps(program, memory.whole(0), memory.arena, outputs, number, number + 1)


def written_planes(plan: Plan, step: Step) -> dict[int, list[int]]:
    """The numbers of the planes that a step writes, by their buffers."""
    planes: dict[int, set[int]] = {}
    for run in step.writes():
        planes.setdefault(run.buffer, set()).update(range(run.first, run.first + run.count))
    return {number: sorted(chosen) for number, chosen in sorted(planes.items())}


def assert_written(memory: Memory, before: Memory, step: Step) -> list[Tensor]:
    """Compares memory after a step with what there was before it; returns what has been written."""
    plan = memory.plan
    yardstick = torch.float32 if plan.dtype == torch.float64 else plan.dtype
    exact, plain = cast(before, torch.float64), cast(before, yardstick)
    for reference in (exact, plain):
        run_step(step, reference)
    results = []
    written = written_planes(plan, step)
    for number, buffer in enumerate(plan.buffers):
        now, then = memory.buffers[number].clone(), before.buffers[number]
        pixels, chosen = buffer.height * buffer.width, written.get(number, [])
        got, want, near = (each.buffers[number][:, chosen, :pixels] for each in (memory, exact, plain))
        now[:, chosen, :pixels] = then[:, chosen, :pixels]
        bits = BITS[now.element_size()]
        assert torch.equal(now.view(bits), then.view(bits)), f"{step.name}: {buffer.name}: written outside"
        if not chosen:
            continue
        eps = torch.finfo(got.dtype).eps
        error = (near.double() - want).abs().max() * (eps / torch.finfo(near.dtype).eps)
        allowed = (3 if plan.dtype == torch.float64 else 2) * error + eps * want.abs().max()
        off = (got.double() - want).abs().max()
        assert bool(off <= allowed), f"wrong result: {step.name}: {buffer.name}: {off:.2e} off, allowed {allowed:.2e}"
        results.append(got)
    # What lies between buffers.
    ends = torch.ones(len(memory.arena), dtype=torch.bool)
    batch = len(memory.buffers[0])
    for buffer, offset in zip(plan.buffers, plan.layout.offsets, strict=True):
        if offset is not None:
            used = batch * buffer.channels * buffer.plane_stride * buffer_dtype(buffer, plan.dtype).itemsize
            ends[batch * offset : batch * offset + used] = False
    assert bool((memory.arena[ends] == 255).all()), f"{step.name}: written between buffers"
    return results


def try_step(
    library: emulation.Library,
    plan: Plan,
    number: int,
    *,
    batch: int = 1,
    shift: int = 0,
    seeds: Sequence[int] = (0,),
    program: GuardedProgram | None = None,
) -> None:
    """Raises AssertionError at the first disagreement."""
    step, program = plan.steps[number], program or compile_guarded(plan)
    first: list[Tensor] = []
    for seed in seeds:
        library.configure(seed=seed)
        memory = filled(plan, step, batch, shift)
        before = copy.copy(memory)
        before.buffers = [values.clone() for values in memory.buffers]
        with bounds_of(library, step, memory, program):
            run_number(memory, program.program, number)
        assert library.errors() == [], library.errors()[0]["message"]
        results = assert_written(memory, before, step)
        first = first or results
        for a, b in zip(first, results, strict=True):
            assert torch.equal(a, b), f"{step.name}: seed {seed} gives other bits"


@dataclass(frozen=True)
class Trial:
    """What to try: of the network's steps those that differ from one another."""

    network: str = "litehrnet_18"
    size: tuple[int, int] = (64, 48)
    dtype: torch.dtype = torch.float32
    batch: int = 1
    shift: int = 0
    seeds: tuple[int, ...] = (2,)
    kinds: tuple[str, ...] = ()

    def run(self, library: emulation.Library) -> int:
        """Tries every step, and returns how many they were."""
        plan = plan_of(self.network, self.size, self.dtype)
        program, numbers = compile_guarded(plan), different(plan, self.kinds)
        for number in numbers:
            try_step(library, plan, number, batch=self.batch, shift=self.shift, seeds=self.seeds, program=program)
        return len(numbers)

    def run_whole(self, library: emulation.Library, *, persistent: bool) -> int:
        """Runs a forward pass, and returns one."""
        plan = network_plan(self.network, self.size, self.dtype)
        image, random = plan.buffers[0], torch.Generator().manual_seed(0)
        images = torch.randn(self.batch, image.channels, image.height, image.width, generator=random).to(self.dtype)
        for seed in self.seeds:
            library.configure(seed=seed)
            results = run_program(compile_plan(plan), images, persistent=persistent)
            assert library.errors() == [], library.errors()[0]["message"]
            for got, want in zip(results, run_reference(plan, images), strict=True):
                assert got.shape == want.shape, f"wrong result: of shape {got.shape}, expected {want.shape}"
                off = relative_error(got, want)
                # What the roundings on the way grow to is below, see test_executor.py, and a mistake far above.
                assert off < 100 * torch.finfo(self.dtype).eps, f"wrong result: {off:.2e} off"
        return 1

    def __str__(self) -> str:
        height, width = self.size
        shift = f"-shift_{self.shift}" if self.shift else ""
        return f"{self.network}-{height}x{width}-{str(self.dtype)[6:]}-batch_{self.batch}{shift}"


def run(library: Path, *options: str, sanitized: bool = False) -> subprocess.CompletedProcess[str]:
    """This program in a process of its own, with AddressSanitizer's runtime for a library that needs it."""
    return trial_programs.run(__file__, str(library), *options, sanitized=sanitized)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", type=Path)
    parser.add_argument("--networks", nargs="+", default=["litehrnet_18"], choices=NETWORKS)
    parser.add_argument("--sizes", nargs="+", default=["64x48"], help="height x width")
    parser.add_argument("--dtypes", nargs="+", default=["float32"])
    parser.add_argument("--kinds", nargs="+", default=[], choices=[kind.__name__ for kind in STEPS])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--shift", type=int, default=0)
    parser.add_argument("--seeds", nargs="+", type=int, default=[2])
    parser.add_argument("--whole", action="store_true", help="forward passes rather than single steps")
    parser.add_argument("--persistent", action="store_true", help="each in one launch")
    options = parser.parse_args(arguments)

    emulated_ops.put_in_place(options.library)
    library = emulation.Library(options.library)
    library.reset()
    trials = 0
    for network in options.networks:
        for size in options.sizes:
            for dtype in options.dtypes:
                height, width = map(int, size.split("x"))
                trial = Trial(
                    network,
                    (height, width),
                    getattr(torch, dtype),
                    options.batch,
                    options.shift,
                    tuple(options.seeds),
                    tuple(options.kinds),
                )
                try:
                    if options.whole:
                        trials += trial.run_whole(library, persistent=options.persistent)
                    else:
                        trials += trial.run(library)
                except (AssertionError, RuntimeError) as error:
                    kinds = "".join(f"{kind}, " for kind in sorted(library.kinds()))
                    print(f"{trial}: {kinds}{error}")
                    return 1
    print(f"{trials} trials, {len(library.launches())} launches, no findings")
    return 0


if __name__ == "__main__":
    assert _extension.load().ok
    torch.use_deterministic_algorithms(True, warn_only=True)  # which fills what is allocated without a value
    sys.exit(trial_programs.main(main))
