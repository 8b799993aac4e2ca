"""Every step of a plan on the CPU, for all that processors like this one can do, against the reference executor."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import emulation
import pytest
from cpu_op_suites import run_op_suites

from litehrnet_cuda import _extension
from litehrnet_cuda.backends import CPU_CAPABILITY_VARIABLE

ROOT = Path(__file__).resolve().parents[2]
CAPABILITIES = ("baseline", "avx2", "avx512")
UNUSUAL = ("three_blocks", "five_blocks", "no_blocks", "wide_stem", "returned", "returned_head", "top")


def try_steps(*arguments: str, capability: str, environment: dict[str, str] | None = None) -> int:
    """How many steps were tried."""
    best = (_extension.build_info() or {})["cpu_capability"]
    if CAPABILITIES.index(capability) > CAPABILITIES.index(best):
        pytest.skip(f"this processor has {best} alone")
    program = [sys.executable, str(ROOT / "python_tests" / "cpu_trials.py"), *arguments]
    paths = [str(Path(_extension.__file__).parents[1]), str(ROOT / "python_tests"), str(ROOT)]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), CPU_CAPABILITY_VARIABLE: capability}
    # More threads than the tests' own, which share the processor.
    variables.pop("OMP_NUM_THREADS", None)
    result = subprocess.run(program, capture_output=True, text=True, env={**variables, **(environment or {})})
    assert result.returncode == 0, result.stdout + result.stderr[-4000:]
    used, trials = result.stdout.split()
    assert used == capability
    return int(trials)


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_steps_of_all_kinds(capability: str) -> None:
    networks = ("litehrnet_18", "naive_litehrnet_18", "unusual_steps")
    assert try_steps("--networks", *networks, "--sizes", "50x71", capability=capability) > 60


def test_types_and_addresses() -> None:
    best = (_extension.build_info() or {})["cpu_capability"]
    assert try_steps("--dtypes", "float16", "bfloat16", "float64", "--shift", "8", "--batch", "3", capability=best) > 60


@pytest.mark.slow
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_more_steps(capability: str) -> None:
    networks = ("litehrnet_18", "wider_naive_litehrnet_18", *UNUSUAL, "unusual_steps")
    arguments = ("--networks", *networks, "--sizes", "33x97", "--dtypes", "float32", "bfloat16", "--shift", "4")
    assert try_steps(*arguments, "--threads", "1", "2", "5", capability=capability) > 200


@pytest.mark.slow
def test_large_maps() -> None:
    """In types whose bounds do not hang on the order in which PyTorch adds up; for float32 there are whole networks."""
    best = (_extension.build_info() or {})["cpu_capability"]
    arguments = ("--networks", "litehrnet_18", "--sizes", "256x192", "250x333", "--dtypes", "float16", "float64")
    assert try_steps(*arguments, "--batch", "1", capability=best) > 100


@pytest.mark.slow
def test_steps_and_ops_under_address_sanitizer(tmp_path: Path) -> None:
    """Scratch memory is as large as a step or an op asked for, and NaN, there."""
    # After the build's own flags: what is optimised less takes a third of the time to compile.
    flags = "-O1 -fsanitize=address,undefined -fno-sanitize=vptr -fno-sanitize-recover=undefined -g1"
    compiler = tmp_path / "c++"
    compiler.write_text(f'#!/bin/sh\nexec {emulation.COMPILER} "$@" {flags}\n', encoding="utf-8")
    compiler.chmod(0o755)
    command = [sys.executable, "setup.py", "build_ext", "--build-lib", str(tmp_path), "--build-temp", str(tmp_path)]
    variables = {**os.environ, "CXX": str(compiler), "LITEHRNET_CUDA_BUILD": "cpu"}
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=variables)
    assert built.returncode == 0, built.stdout[-4000:] + built.stderr[-4000:]
    (library,) = tmp_path.rglob("_C.so")
    asan = emulation.asan_environment()
    environment = {name: asan[name] for name in ("LD_PRELOAD", "ASAN_OPTIONS")}
    for capability in {"baseline", (_extension.build_info() or {})["cpu_capability"]}:
        select = "matches_reference and (odd or four_exact or low_is_larger or thin or 33 or eight)"
        run_op_suites(tmp_path, capability, select, library=library, environment=environment)
        trials = try_steps(
            *("--library", str(library), "--networks", "litehrnet_18", "naive_litehrnet_18", "unusual_steps"),
            *("--sizes", "50x71", "--dtypes", "float32", "float16"),
            capability=capability,
            environment=environment,
        )
        assert trials > 100
