"""The kernels compile for every architecture without a warning, and their machine code is as good as it was.

The table machine_code.json is written by `python python_tests/machine_code.py`, after a change of kernels that is
wanted; `git diff` then shows what it did to registers, occupancy and wide memory accesses.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import machine_code
import pytest
from machine_code import Code, occupancy

TABLE = json.loads(machine_code.TABLE.read_text(encoding="utf-8"))
LAUNCHES: dict[str, dict[str, int]] = TABLE["launches"]
TOOLKIT, WHY_NOT = machine_code.compilers.find_toolkit()
KERNELS: dict[str, dict[str, Code]] = {
    kernel: {architecture: Code(**row) for architecture, row in rows.items()}
    for kernel, rows in TABLE["kernels"].items()
}


@pytest.fixture(scope="module")
def objects() -> list[Path]:
    cxx = machine_code.compilers.find_cxx()
    if TOOLKIT is None or cxx is None:
        pytest.skip(WHY_NOT or "needs a C++ compiler")
    if not {name.removesuffix("+PTX") for name in machine_code.ARCHITECTURES} <= TOOLKIT.architectures:
        pytest.skip(f"nvcc {TOOLKIT.version_text} does not know all of {', '.join(machine_code.ARCHITECTURES)}")
    return machine_code.compile_kernels(TOOLKIT, cxx)


@pytest.fixture(scope="module")
def measured(objects: list[Path]) -> dict[str, dict[str, Code]]:
    assert TOOLKIT is not None
    if shutil.which("c++filt") is None:
        pytest.skip("needs c++filt, of binutils")
    cuobjdump = machine_code.find_tool("cuobjdump", TOOLKIT)
    if cuobjdump is None or machine_code.find_tool("nvdisasm", TOOLKIT) is None:
        pytest.skip("needs cuobjdump and nvdisasm; the test requirements bring them")
    return machine_code.read(objects, cuobjdump)


def test_kernels_compile_without_warnings(objects: list[Path]) -> None:
    assert {path.name: machine_code.warnings(path) for path in objects} == {path.name: [] for path in objects}


def test_the_table_has_every_kernel_on_every_architecture(measured: dict[str, dict[str, Code]]) -> None:
    architectures = {name.removesuffix("+PTX") for name in machine_code.ARCHITECTURES}
    assert set(measured) == set(KERNELS), "run `python python_tests/machine_code.py` after adding or removing kernels"
    for kernel, rows in measured.items():
        assert set(rows) == architectures, kernel
        assert set(KERNELS[kernel]) == architectures, kernel


def test_nothing_spills(measured: dict[str, dict[str, Code]]) -> None:
    spilling = {
        (kernel, architecture): code
        for kernel, rows in measured.items()
        for architecture, code in rows.items()
        if code.spill_bytes or code.stack_bytes
    }
    assert spilling == {}


@pytest.mark.parametrize("kernel", KERNELS)
def test_machine_code_is_no_worse_than_the_table(kernel: str, measured: dict[str, dict[str, Code]]) -> None:
    assert TOOLKIT is not None
    if TOOLKIT.version_text != TABLE["nvcc"]:
        pytest.skip(f"the table is of nvcc {TABLE['nvcc']}, and this is {TOOLKIT.version_text}")
    for architecture, expected in KERNELS[kernel].items():
        got = measured[kernel][architecture]
        where = f"{kernel} on {architecture}: expected {expected}, got {got}"
        # Registers are given in eights, so less than that costs nothing.
        unit = machine_code.REGISTER_UNIT
        assert -(-got.registers // unit) <= -(-expected.registers // unit), where
        assert got.shared_bytes <= expected.shared_bytes, where
        assert got.loads_16 >= expected.loads_16, where
        assert got.stores_16 >= expected.stores_16, where


# Kernels for training that write no maps, only hidden values, logits, statistics or parts of sums, in an order in which
# neighbouring threads write neighbours, an accumulator each. Some read no maps either. Vectors of depthwise
# convolution's backward pass are of 16 bytes of accumulators, hence of 8 bytes of 16-bit maps; and so are those that
# steps of a plan write after a matrix product, 4 pixels of a tile. Gates are written position by position.
NO_MAPS_WRITTEN = (
    "depthwise_conv_batch_norm_statistics_kernel",
    "hidden_kernel",
    "logits_kernel",
    "plan_resolution_gates_kernel",
    "reductions_kernel",
    "update_running_statistics_kernel",
    "weighting_backward_hidden_kernel",
    "weighting_backward_logits_kernel",
    "weighting_backward_windows_kernel",
)
MAPS_READ = ("hidden_kernel", "plan_resolution_gates_kernel", "weighting_backward_windows_kernel")
NO_MAPS_READ = tuple(kernel for kernel in NO_MAPS_WRITTEN if kernel not in MAPS_READ)
HALF_VECTORS = tuple(
    f"{kernel}<{dtype}>"
    for kernel in (
        "depthwise_conv_batch_norm_backward_kernel",
        "plan_fuse_downward_kernel",
        "plan_head_convolution_kernel",
        "plan_pointwise_convolution_kernel",
        "plan_separable_convolution_kernel",
        "plan_stem_convolution_kernel",
    )
    for dtype in ("half", "bfloat16")
)


def test_kernels_read_and_write_maps_sixteen_bytes_at_a_time() -> None:
    for kernel, rows in KERNELS.items():
        if kernel in HALF_VECTORS:
            continue
        for architecture, code in rows.items():
            assert code.loads_16 or kernel.startswith(NO_MAPS_READ), (kernel, architecture)
            assert code.stores_16 or kernel.startswith(NO_MAPS_WRITTEN), (kernel, architecture)


# Expected is what cudaOccMaxActiveBlocksPerMultiprocessor of CUDA's cuda_occupancy.h gives. Each limit bites somewhere.
@pytest.mark.parametrize(
    ("architecture", "registers", "threads", "shared_bytes", "expected"),
    [
        ("7.5", 64, 256, 0, 1),
        ("7.5", 64, 256, 16384, 1),
        ("8.0", 32, 32, 0, 0.5),
        ("8.0", 72, 64, 2944, 0.4375),
        ("8.0", 113, 256, 2944, 0.25),
        ("8.6", 40, 512, 40000, 0.666667),
        ("8.6", 72, 64, 2944, 0.583333),
        ("8.9", 32, 32, 0, 0.5),
        ("9.0", 40, 256, 16384, 0.75),
        ("9.0", 168, 512, 928, 0),
        ("10.0", 64, 1024, 0, 0.5),
        ("12.0", 32, 96, 0, 1),
        ("12.0", 255, 256, 0, 0.166667),
        ("12.0", 255, 512, 928, 0),
    ],
)
def test_occupancy(architecture: str, registers: int, threads: int, shared_bytes: int, expected: float) -> None:
    assert occupancy(architecture, registers, threads, shared_bytes) == pytest.approx(expected, rel=1e-5)


def test_recorded_launches_fit_on_every_architecture() -> None:
    assert LAUNCHES
    for kernel, launch in LAUNCHES.items():
        for architecture, code in KERNELS[kernel].items():
            shared = code.shared_bytes + launch["shared_bytes"]
            assert occupancy(architecture, code.registers, launch["threads"], shared) > 0, (kernel, architecture)


@pytest.mark.slow
def test_the_network_launches_what_the_table_says() -> None:
    assert machine_code.network_launches() == LAUNCHES
