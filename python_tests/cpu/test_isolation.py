"""Code for one kind of processor is not reached on another one."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from pathlib import Path

import compilers
import pytest

ROOT = Path(__file__).resolve().parents[2]
KERNELS = sorted((ROOT / "csrc" / "cpu" / "kernels").glob("*.cpp"))
FLAGS = compilers.cpu_kernel_flags(platform.machine())


@pytest.mark.parametrize("source", KERNELS, ids=lambda path: path.stem)
@pytest.mark.skipif(shutil.which("nm") is None or shutil.which("c++") is None, reason="needs nm and a C++ compiler")
def test_nothing_is_shared_between_capabilities(source: Path, tmp_path: Path) -> None:
    """All that an object defines for others is in its capability's namespace.

    Of an inline function outside of it, the linker would keep one copy for the whole library, perhaps that of AVX-512.
    Without optimisation every function that is called is one of these symbols.
    """
    capability = list(FLAGS)[-1]
    target = tmp_path / "kernel.o"
    command = ["c++", "-std=c++17", "-Icsrc", *FLAGS[capability], "-O0", "-c", str(source), "-o", str(target)]
    subprocess.run(command, cwd=ROOT, check=True)
    listed = subprocess.run(["nm", "-C", "--defined-only", target], capture_output=True, text=True, check=True).stdout
    shared = [line for line in listed.splitlines() if re.match(r"\w* [TWVuRBwv] ", line)]
    shared = [line for line in shared if "__gxx_personality" not in line]  # data that is the same everywhere
    assert any(f"litehrnet::cpu::{capability}::{source.stem}(" in line for line in shared)
    assert [line for line in shared if f"litehrnet::cpu::{capability}::" not in line] == []
