"""Every operator has all its files, and every such file has its operator."""

from __future__ import annotations

import ast
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
CUDA_FILES = ("csrc/cuda/{}.cu", "csrc/cuda/{}.h", "csrc/ops/{}.cpp")
CPU_FILES = ("csrc/params/{}.h", "csrc/ops/cpu/{}.cpp", "csrc/cpu/kernels/{}.cpp")
NATIVE_FILES = CPU_FILES + CUDA_FILES
PYTHON_FILES = (
    "litehrnet_cuda/ops/{}.py",
    "litehrnet_cuda/reference/{}.py",
    "python_tests/ops/test_{}.py",
    "python_tests/reference/test_{}.py",
)
FILES = NATIVE_FILES + PYTHON_FILES
# The CPU alone has these; on a GPU, stem, transitions, fuse steps and head are plain PyTorch in training.
CPU_ONLY = {"separable_conv_batch_norm", "weighted_sum"}
# One file has the backward kernel beside the forward one.
IN_ONE_FILE = {
    "csrc/ops/cpu/{}.cpp": CPU_ONLY,
    "csrc/cpu/kernels/{}.cpp": {"weighted_sum"},
    "csrc/params/{}.h": {"weighted_sum"},
}
NO_OPERATORS = {"__init__", "batch_norm", "registration", "run_plan", "torch_pool"}
DTYPES = ("float32", "float16", "bfloat16")
STEP_FILES = ("csrc/params/plan_{}.h", "csrc/cuda/plan_{}.cu", "csrc/cuda/plan_{}.h", "csrc/cpu/kernels/plan_{}.cpp")
# What steps share, and what launches them all.
NO_STEPS = {"lower_products", "phase", "reader", "program", "persistent", *(f"persistent_{dtype}" for dtype in DTYPES)}


def test_there_are_operators() -> None:
    assert "conditional_channel_weighting" in OPERATORS


def expected_names(file: str) -> set[str]:
    """Of the operators that have such a file."""
    backward = {name.removeprefix("_") for name in BACKWARD} if file in NATIVE_FILES else set()
    names = set(OPERATORS) | backward
    for name in CPU_ONLY if file in CUDA_FILES else IN_ONE_FILE.get(file, ()):
        names -= {name, f"{name}_backward"} if file in CUDA_FILES else {f"{name}_backward"}
    return names


@pytest.mark.parametrize("file", FILES)
def test_every_operator_has_its_file_and_every_file_its_operator(file: str) -> None:
    before, after = Path(file).name.split("{}")
    names = {path.name.removeprefix(before).removesuffix(after) for path in ROOT.glob(file.format("*"))}
    assert {name for name in names if not name.startswith("plan_")} - NO_OPERATORS == expected_names(file)


def test_backward_operators_are_those_of_operators() -> None:
    assert {name.removeprefix("_").removesuffix("_backward") for name in BACKWARD} <= set(OPERATORS)


@pytest.mark.parametrize("file", STEP_FILES)
def test_every_step_of_a_plan_has_its_kernel(file: str) -> None:
    steps = {re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower() for kind in STEPS}
    before, after = Path(file).name.split("{}")
    names = {path.name.removeprefix(before).removesuffix(after) for path in ROOT.glob(file.format("*"))}
    assert steps <= names
    assert names - steps <= NO_STEPS


def arguments_of(path: Path, function: str) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    (found,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function)
    return ast.unparse(found.args)


def test_triton_has_operators_under_their_names_with_their_arguments() -> None:
    names = {path.stem for path in (ROOT / "litehrnet_cuda" / "triton").glob("*.py")} - {"__init__", "checks", "tiles"}
    assert names
    for name in names:
        triton, op = (arguments_of(ROOT / "litehrnet_cuda" / part / f"{name}.py", name) for part in ("triton", "ops"))
        assert triton == op


def test_functional_has_every_operator() -> None:
    assert sorted(functional.__all__) == OPERATORS


@pytest.mark.parametrize("operator", ALL)
def test_adapter_registers_its_operator_for_the_devices_key(operator: str) -> None:
    file = "run_plan" if operator in PLAN else operator.removeprefix("_")
    if file.removesuffix("_backward") in CPU_ONLY:
        file = f"cpu/{file.removesuffix('_backward')}"
    content = (ROOT / "csrc" / "ops" / f"{file}.cpp").read_text(encoding="utf-8")
    assert "STABLE_TORCH_LIBRARY_IMPL(LITEHRNET_NAMESPACE, LITEHRNET_DISPATCH_KEY, library)" in content
    assert re.search(rf'library\.impl\("{operator}",\s*TORCH_BOX\(&', content)
