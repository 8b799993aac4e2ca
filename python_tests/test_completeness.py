"""Every operator has all its files, and every such file has its operator."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from litehrnet_cuda import functional
from litehrnet_cuda.plan.steps import STEPS

ROOT = Path(__file__).resolve().parents[1]
SCHEMAS = (ROOT / "csrc" / "library.cpp").read_text(encoding="utf-8")
ALL = sorted(set(re.findall(r'library\.def\(\s*"(\w+)\(', SCHEMAS)) - {"build_info"})
OPERATORS = [name for name in ALL if not name.startswith("_")]
PLAN = ["_run_plan", "_run_plan_steps"]  # of whole networks, not of the network's code; see litehrnet_cuda/plan
# _<operator>_backward, each registered beside its operator
BACKWARD = [name for name in ALL if name.startswith("_") and name not in PLAN]
FILES = (
    "csrc/params/{}.h",
    "csrc/cuda/{}.cu",
    "csrc/cuda/{}.h",
    "csrc/ops/{}.cpp",
    "litehrnet_cuda/ops/{}.py",
    "litehrnet_cuda/reference/{}.py",
    "python_tests/ops/test_{}.py",
    "python_tests/reference/test_{}.py",
)
NATIVE_FILES = FILES[:4]
NO_OPERATORS = {"__init__", "batch_norm", "registration", "run_plan"}
DTYPES = ("float32", "float16", "bfloat16")
STEP_FILES = ("csrc/params/plan_{}.h", "csrc/cuda/plan_{}.cu", "csrc/cuda/plan_{}.h", "csrc/cpu/kernels/plan_{}.cpp")
# What steps share, and what launches them all.
NO_STEPS = {"lower_products", "phase", "reader", "program", "persistent", *(f"persistent_{dtype}" for dtype in DTYPES)}


def test_there_are_operators() -> None:
    assert "conditional_channel_weighting" in OPERATORS


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("file", FILES)
def test_operator_has_its_file(operator: str, file: str) -> None:
    assert (ROOT / file.format(operator)).is_file(), f"expected {file.format(operator)}"


@pytest.mark.parametrize("operator", BACKWARD)
@pytest.mark.parametrize("file", NATIVE_FILES)
def test_backward_operator_has_its_file(operator: str, file: str) -> None:
    assert operator.removeprefix("_").removesuffix("_backward") in OPERATORS
    assert (ROOT / file.format(operator.removeprefix("_"))).is_file(), f"expected {file.format(operator[1:])}"


@pytest.mark.parametrize("file", FILES)
def test_file_has_its_operator(file: str) -> None:
    before, after = Path(file).name.split("{}")
    names = {path.name.removeprefix(before).removesuffix(after) for path in ROOT.glob(file.format("*"))}
    names = {name for name in names if not name.startswith("plan_")}
    backward = {name.removeprefix("_") for name in BACKWARD} if file in NATIVE_FILES else set()
    assert names - NO_OPERATORS == set(OPERATORS) | backward


@pytest.mark.parametrize("file", STEP_FILES)
def test_every_step_of_a_plan_has_its_kernel(file: str) -> None:
    steps = {re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower() for kind in STEPS}
    before, after = Path(file).name.split("{}")
    names = {path.name.removeprefix(before).removesuffix(after) for path in ROOT.glob(file.format("*"))}
    assert steps <= names
    assert names - steps <= NO_STEPS


def test_functional_has_every_operator() -> None:
    assert sorted(functional.__all__) == OPERATORS


@pytest.mark.parametrize("operator", ALL)
def test_adapter_registers_its_operator_for_the_devices_key(operator: str) -> None:
    file = "run_plan" if operator in PLAN else operator.removeprefix("_")
    adapter = (ROOT / "csrc" / "ops" / f"{file}.cpp").read_text(encoding="utf-8")
    assert "STABLE_TORCH_LIBRARY_IMPL(LITEHRNET_NAMESPACE, LITEHRNET_DISPATCH_KEY, library)" in adapter
    assert re.search(rf'library\.impl\("{operator}",\s*TORCH_BOX\(&', adapter)
