"""What the persistent kernel writes in one phase it reads in another: its loads have to be coherent.

A compiler may read memory that a kernel never writes, as far as it knows, through a path that does not see what other
blocks have written: pointers that are `const __restrict__` say so, and `__ldg()`. That shows in the machine code alone.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import machine_code
import pytest
from machine_code import compilers, object_cache

SOURCES = [source for source in machine_code.SOURCES if "plan_persistent_" in source]
TOOLKIT, WHY_NOT = compilers.find_toolkit()
CXX = compilers.find_cxx()
NOT_COHERENT = re.compile(r"\.(CONSTANT|CI|NC)\b")


def compiled(source: str) -> Path:
    """The object that setup.py makes of a source by default."""
    if TOOLKIT is None or CXX is None:
        pytest.skip(WHY_NOT or "needs a C++ compiler")
    if not {name.removesuffix("+PTX") for name in machine_code.ARCHITECTURES} <= TOOLKIT.architectures:
        pytest.skip(f"nvcc {TOOLKIT.version_text} does not know all of {', '.join(machine_code.ARCHITECTURES)}")
    step = compilers.kernel_step(TOOLKIT, machine_code.ARCHITECTURES, CXX, source, debug=False)
    (path,) = object_cache.compile_all([step], root=machine_code.ROOT, include="csrc")
    return path


def loads_of(path: Path) -> list[tuple[str, str]]:
    """Architecture and instruction of every load from global memory."""
    assert TOOLKIT is not None
    cuobjdump = machine_code.find_tool("cuobjdump", TOOLKIT)
    if cuobjdump is None or machine_code.find_tool("nvdisasm", TOOLKIT) is None:
        pytest.skip("needs cuobjdump and nvdisasm; the test requirements bring them")
    text = subprocess.run([cuobjdump, "-sass", path], capture_output=True, text=True, check=True).stdout
    loads, architecture = [], ""
    for match in re.finditer(r"arch = (sm_\d+)|\b(LDG?\.\S+)", text):
        if match[1]:
            architecture = match[1]
        else:
            loads.append((architecture, match[2]))
    return loads


def test_there_is_a_source_for_every_element_type() -> None:
    assert [Path(source).stem for source in SOURCES] == [
        f"plan_persistent_{dtype}" for dtype in ("bfloat16", "float16", "float32")
    ]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: Path(source).stem)
def test_every_load_is_coherent(source: str) -> None:
    loads = loads_of(compiled(source))
    assert len({architecture for architecture, _ in loads}) == len(machine_code.ARCHITECTURES)
    assert [load for load in loads if NOT_COHERENT.search(load[1])] == []


def test_other_loads_would_be_noticed(tmp_path: Path) -> None:
    if TOOLKIT is None or CXX is None or shutil.which(str(TOOLKIT.nvcc)) is None:
        pytest.skip(WHY_NOT or "needs a C++ compiler")
    (tmp_path / "copy.cu").write_text(
        "__global__ void copy(const float* __restrict__ from, float* to) { to[threadIdx.x] = from[threadIdx.x]; }\n"
    )
    for architecture in machine_code.ARCHITECTURES:
        number = architecture.removesuffix("+PTX").replace(".", "")
        command = [TOOLKIT.nvcc, f"-arch=sm_{number}", "-ccbin", CXX[-1], "-cubin", "copy.cu", "-o", f"{number}.cubin"]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
        loads = loads_of(tmp_path / f"{number}.cubin")
        assert [NOT_COHERENT.search(load) is not None for _, load in loads] == [True], loads
