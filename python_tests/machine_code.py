"""What nvcc makes of the kernels: resources, 16-byte accesses to memory, and occupancy; no GPU is needed.

    python python_tests/machine_code.py    # prints the table, and writes it to python_tests/cuda/machine_code.json

The compiler is the one that setup.py takes, and so are the objects, where it has already compiled for all
architectures. Reading the code takes NVIDIA's cuobjdump and nvdisasm, of a toolkit or the test requirements.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "python_tests" / "cuda" / "machine_code.json"
sys.path.insert(0, str(ROOT / "build_support"))

import compilers  # noqa: E402
import object_cache  # noqa: E402

if TYPE_CHECKING:
    import torch

ARCHITECTURES = compilers.DEFAULT_ARCHITECTURES.split(";")
SOURCES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "csrc" / "cuda").glob("*.cu"))


class Limits(NamedTuple):
    """What a multiprocessor has (CUDA C++ Programming Guide, "Technical Specifications per Compute Capability")."""

    warps: int
    blocks: int
    shared_bytes: int
    shared_granularity: int = 128
    reserved_bytes: int = 1024  # of shared memory, for each block


LIMITS = {
    "7.5": Limits(32, 16, 64 * 1024, 256, 0),
    "8.0": Limits(64, 32, 164 * 1024),
    "8.6": Limits(48, 16, 100 * 1024),
    "8.9": Limits(48, 24, 100 * 1024),
    "9.0": Limits(64, 32, 228 * 1024),
    "10.0": Limits(64, 32, 228 * 1024),
    "12.0": Limits(48, 24, 100 * 1024),
}
# The last stage of Lite-HRNet at 256x192: half the channels of each branch, its height and width, hidden channels.
HALVES, SIZES = [20, 40, 80, 160], [(64, 48), (32, 24), (16, 12), (8, 6)]
HIDDEN = sum(HALVES) // 8

REGISTERS = 64 * 1024  # of a multiprocessor, on all of them
REGISTER_UNIT = 8  # registers per thread are given in eights: 256 for a warp
SCHEDULERS = 4  # a multiprocessor's quarters, which share neither registers nor warps


@dataclass(frozen=True)
class Code:
    """A kernel's machine code for one architecture.

    Args:
        registers: per thread.
        shared_bytes: static shared memory of a block.
        stack_bytes: of a thread, in local memory.
        spill_bytes: stored and loaded because registers ran out.
        loads_16: instructions that load 16 bytes from global memory.
        stores_16: instructions that store 16 bytes there.
    """

    registers: int
    shared_bytes: int
    stack_bytes: int
    spill_bytes: int
    loads_16: int
    stores_16: int


def occupancy(architecture: str, registers: int, threads: int, shared_bytes: int) -> float:
    """The share of a multiprocessor's warps that can be resident, in theory.

    Args:
        architecture: such as ``"9.0"``.
        registers: per thread.
        threads: per block.
        shared_bytes: per block, static and dynamic.
    """
    limits = LIMITS[architecture]
    warps = -(-threads // 32)
    registers_of_warp = -(-registers // REGISTER_UNIT) * REGISTER_UNIT * 32
    warps_by_registers = REGISTERS // SCHEDULERS // registers_of_warp * SCHEDULERS
    shared = shared_bytes + limits.reserved_bytes
    shared = -(-shared // limits.shared_granularity) * limits.shared_granularity
    blocks = min(limits.blocks, limits.warps // warps, warps_by_registers // warps)
    if shared:
        blocks = min(blocks, limits.shared_bytes // shared)
    return blocks * warps / limits.warps


def find_tool(name: str, toolkit: compilers.Toolkit) -> Path | None:
    """cuobjdump or nvdisasm: the toolkit's own, a wheel's, or one on the PATH."""
    folders = [toolkit.nvcc.parent, *(folder / "bin" for folder in compilers.wheel_folders())]
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    on_path = shutil.which(name)
    return Path(on_path) if on_path else None


def compile_kernels(toolkit: compilers.Toolkit, cxx: list[str]) -> list[Path]:
    """Objects of all kernel sources for all architectures, the same that setup.py makes by default."""
    return object_cache.compile_all(_steps(toolkit, cxx), root=ROOT, include="csrc")


def are_compiled() -> bool:
    """Whether :func:`compile_kernels` has nothing to do."""
    toolkit, cxx = compilers.find_toolkit()[0], compilers.find_cxx()
    if toolkit is None or cxx is None:
        return False
    targets = object_cache.targets_of(_steps(toolkit, cxx), root=ROOT, include="csrc")
    return all(target.exists() for target in targets)


def _steps(toolkit: compilers.Toolkit, cxx: list[str]) -> list[object_cache.Step]:
    by_size = sorted(SOURCES, key=lambda source: (ROOT / source).stat().st_size, reverse=True)
    return [compilers.kernel_step(toolkit, ARCHITECTURES, cxx, source, debug=False) for source in by_size]


def warnings(object_file: Path) -> list[str]:
    """What the compilers said beside the reports of resources."""
    lines = object_cache.messages(object_file).splitlines()
    return [line for line in lines if not object_cache.is_resource_report(line)]


def read(objects: list[Path], cuobjdump: Path) -> dict[str, dict[str, Code]]:
    """By kernel, such as ``"depthwise_conv_forward_kernel<float>"``, and architecture, such as ``"9.0"``."""
    table: dict[str, dict[str, Code]] = {}
    for path in objects:
        accesses = _wide_accesses(path, cuobjdump)
        for (kernel, architecture), resources in _resources(object_cache.messages(path)).items():
            loads, stores = accesses.get((kernel, architecture), (0, 0))
            row = table.setdefault(_short_name(kernel), {})
            row[architecture] = Code(**resources, loads_16=loads, stores_16=stores)
    return {name: table[name] for name in sorted(table)}


def _architecture(number: str) -> str:
    return f"{number[:-1]}.{number[-1]}"


def _resources(log: str) -> dict[tuple[str, str], dict[str, int]]:
    """What ``ptxas -v`` reports, by mangled kernel name and architecture."""
    found = {}
    for report in log.split("Compiling entry function")[1:]:
        head = re.match(r" '(\w+)' for 'sm_(\d+)'", report)
        used = re.search(r"Used (\d+) registers", report)
        assert head is not None, report
        assert used is not None, report
        shared = re.search(r"(\d+) bytes smem", report)
        found[head[1], _architecture(head[2])] = {
            "registers": int(used[1]),
            "shared_bytes": int(shared[1]) if shared else 0,
            "stack_bytes": sum(map(int, re.findall(r"(\d+) bytes stack frame", report))),
            "spill_bytes": sum(map(int, re.findall(r"(\d+) bytes spill (?:stores|loads)", report))),
        }
    return found


def _wide_accesses(path: Path, cuobjdump: Path) -> dict[tuple[str, str], tuple[int, int]]:
    """Loads and stores of 16 bytes or more of global memory, by mangled kernel name and architecture.

    Generic ones, LD and ST, are such, too: their pointers have been kept in shared memory.
    """
    command = [str(cuobjdump), "-sass", str(path)]
    text = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False).stdout
    counts: dict[tuple[str, str], Counter[str]] = {}
    architecture, current = "", Counter[str]()
    for line in text.splitlines():
        if not any(word in line for word in ("128", "256", "arch =", "Function")):
            continue  # eight times faster than the pattern; a large object has half a million lines
        if match := re.search(r"arch = sm_(\d+)|Function : (\w+)|\b(LD|ST)G?\.\S*\b(?:128|256)\b", line):
            if match[1]:
                architecture = _architecture(match[1])
            elif match[2]:
                current = counts.setdefault((match[2], architecture), Counter())
            else:
                current[match[3]] += 1
    return {key: (count["LD"], count["ST"]) for key, count in counts.items()}


def _short_name(mangled: str) -> str:
    return _shortened(subprocess.run(["c++filt", mangled], capture_output=True, text=True, check=True).stdout)


def _shortened(name: str) -> str:
    """A kernel's name and template arguments, without namespaces and parameters."""
    match = re.search(r"(\w+_kernel)(?:<([^(]*)>)?", name.replace("(anonymous namespace)::", "").replace("(int)", ""))
    assert match is not None, name
    arguments = re.sub(r"\w+::", "", match[2] or "").replace("__nv_bfloat16", "bfloat16").replace("__half", "half")
    return f"{match[1]}<{arguments}>" if arguments else match[1]


def network_launches() -> dict[str, dict[str, int]]:
    """Threads and dynamic shared memory of the launches that the emulator sees in a network's last stage.

    That is the block of Lite-HRNet at 256x192, in inference with one image, in a training step with two, in all four
    element types: each kernel's largest.
    """
    import op_cases

    found: dict[str, dict[str, int]] = {}
    for dtype in op_cases.DTYPES:
        for launch in (*_inference_launches(dtype), *_training_launches(dtype)):
            seen = {"threads": math.prod(launch["block"]), "shared_bytes": launch["shared_bytes"]}
            known = found.setdefault(_shortened(launch["kernel"]), seen)
            known |= {key: max(known[key], seen[key]) for key in seen}
    return found


def _inference_launches(dtype: torch.dtype) -> list[dict[str, Any]]:
    import emulation
    import inference_kernels as native
    import torch

    kernels = native.Kernels(emulation.load(native.SOURCES, includes=[ROOT / "csrc"]))
    kernels.library.reset()

    def zeros(*shape: int) -> torch.Tensor:
        return torch.zeros(shape, dtype=dtype)

    kernels.conditional_channel_weighting(
        [zeros(1, 2 * c, *size) for c, size in zip(HALVES, SIZES, strict=True)],
        [zeros(HIDDEN, sum(HALVES)), zeros(HIDDEN), zeros(sum(HALVES), HIDDEN), zeros(sum(HALVES))],
        [(zeros(c, 3, 3), zeros(c)) for c in HALVES],
        [[zeros(c // 4, c), zeros(c // 4), zeros(c, c // 4), zeros(c)] for c in HALVES],
    )
    return kernels.library.launches()


def _training_launches(dtype: torch.dtype) -> list[dict[str, Any]]:
    """Forward, update of the running statistics, backward."""
    import emulated_ops
    import torch
    import training_cases

    from litehrnet_cuda import functional

    library = emulated_ops.load()
    library.reset()
    block = training_cases.TRAINING_OPS["conditional_channel_weighting_batch_norm"]
    args = training_cases.cast_arguments(block.arguments(SIZES, HALVES, 2), dtype)
    running_mean, running_var = args[-4:-2]
    args = training_cases.require_grad(args, len(args) - 4)
    y, statistics = functional.conditional_channel_weighting_batch_norm(*args)
    functional.update_running_statistics(running_mean, running_var, [], statistics, 0.1)
    torch.autograd.backward(y, [torch.ones_like(s) for s in y])
    return library.launches()


def as_json(nvcc: str, table: dict[str, dict[str, Code]], launches: dict[str, dict[str, int]]) -> str:
    """One line for each launch, and one for each kernel and architecture."""

    def block(lines: dict[str, str], indent: str) -> str:
        inner = ",\n".join(f"{indent}  {json.dumps(key)}: {text}" for key, text in lines.items())
        return "{\n" + inner + "\n" + indent + "}"

    kernels = {
        kernel: block({name: json.dumps(asdict(rows[name])) for name in sorted(rows, key=float)}, "    ")
        for kernel, rows in table.items()
    }
    lines = {kernel: json.dumps(launches[kernel]) for kernel in sorted(launches)}
    return block({"nvcc": json.dumps(nvcc), "launches": block(lines, "  "), "kernels": block(kernels, "  ")}, "") + "\n"


def report(table: dict[str, dict[str, Code]], launches: dict[str, dict[str, int]]) -> str:
    """The table as text, with the occupancy of the network's launches."""
    columns = "{:<58}{:>6}{:>11}{:>8}{:>7}{:>8}{:>9}{:>14}{:>11}"
    head = ("kernel", "GPU", "registers", "spills", "loads", "stores", "threads", "shared bytes", "occupancy")
    lines = [columns.format(*head)]
    for kernel, rows in table.items():
        launch = launches.get(kernel)
        for name in sorted(rows, key=float):
            code = rows[name]
            ends = ["", "", ""]
            if launch is not None:
                shared = code.shared_bytes + launch["shared_bytes"]
                share = occupancy(name, code.registers, launch["threads"], shared)
                ends = [str(launch["threads"]), str(shared), f"{share:.0%}"]
            cells = (code.registers, code.spill_bytes, code.loads_16, code.stores_16)
            lines.append(columns.format(kernel, name, *cells, *ends))
    return "\n".join(lines)


def main() -> None:
    toolkit, reason = compilers.find_toolkit()
    cxx = compilers.find_cxx()
    if toolkit is None or cxx is None:
        raise SystemExit(reason or "no C++ compiler was found")
    cuobjdump = find_tool("cuobjdump", toolkit)
    if cuobjdump is None or find_tool("nvdisasm", toolkit) is None:
        raise SystemExit("cuobjdump or nvdisasm is missing; `pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm`")
    table = read(compile_kernels(toolkit, cxx), cuobjdump)
    launches = network_launches()
    TABLE.write_text(as_json(toolkit.version_text, table, launches), encoding="utf-8")
    print(report(table, launches))


if __name__ == "__main__":
    main()
