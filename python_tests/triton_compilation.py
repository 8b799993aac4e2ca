"""What Triton makes of the kernels for a GPU that is not there, by the path of a launch up to the machine code."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest


class Code(NamedTuple):
    """A kernel's machine code for one architecture, and what ``ptxas -v`` says of it."""

    kernel: str
    target: str  # of the assembly, such as "sm_80"
    cubin: bytes
    registers: int  # of a thread
    spill_bytes: int  # stored and loaded because registers ran out


class Driver:
    """Takes the place of Triton's driver: it says which GPU there is, and launches nothing."""

    def __init__(self, architecture: int) -> None:
        from triton.backends.compiler import GPUTarget

        self.target = GPUTarget("cuda", architecture, 32)

    def get_current_target(self) -> Any:
        return self.target

    def get_current_device(self) -> Any:
        return self.target.arch  # kernels are cached by device

    def get_current_stream(self, device: Any) -> int:
        return 0


class Compiled:
    """Takes a kernel's place, and compiles what would be launched."""

    def __init__(self, kernel: Any, codes: list[Code]) -> None:
        self.kernel, self.codes = kernel, codes

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        def compile_only(*args: Any, **options: Any) -> None:
            log = io.StringIO()
            with contextlib.redirect_stdout(log):
                assembly = self.kernel.warmup(*args, grid=grid, **options).asm
            target = re.search(r"\.target (sm_\d+)", assembly["ptx"])
            registers = re.search(r"Used (\d+) registers", log.getvalue())
            assert target is not None
            assert registers is not None, log.getvalue()
            spills = sum(map(int, re.findall(r"(\d+) bytes spill (?:stores|loads)", log.getvalue())))
            self.codes.append(Code(self.kernel.fn.__name__, target[1], assembly["cubin"], int(registers[1]), spills))

        return compile_only


def compile_launches(
    op: str, args: list[Any], architecture: int, cache: str, monkeypatch: pytest.MonkeyPatch
) -> list[Code]:
    """What an op's launches would run.

    Args:
        op: name of the op.
        args: its arguments, on the CPU.
        architecture: 80 for compute capability 8.0.
        cache: an empty folder for Triton's results: what it finds there has no report of the assembler.
    """
    import triton

    import litehrnet_cuda.triton as package
    from litehrnet_cuda.triton import checks

    codes: list[Code] = []
    with monkeypatch.context() as patch:
        patch.setattr(checks, "is_interpreted", lambda: True)  # tensors of the CPU will do
        patch.setattr(triton.runtime.driver, "_active", Driver(architecture))
        patch.setattr(triton.knobs.cache, "dir", cache)
        patch.setattr(triton.knobs.nvidia, "dump_ptxas_log", True)
        for module in [sys.modules[f"{package.__name__}.{name}"] for name in package.__all__]:
            for name in [name for name in vars(module) if name.endswith("_kernel")]:
                patch.setattr(module, name, Compiled(getattr(module, name), codes))
        getattr(package, op)(*args)
    return codes
