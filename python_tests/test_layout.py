"""Tests mirror the package, and no file outgrows one purpose."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "litehrnet_cuda"
TESTS = ROOT / "python_tests"
MODULES = sorted(
    path.relative_to(PACKAGE)
    for path in PACKAGE.rglob("*.py")
    if path.name not in ("__init__.py", "__main__.py")  # test_import.py and cli/test_main.py cover these
)
SOURCES = sorted(
    path.relative_to(ROOT)
    for folder in ("litehrnet_cuda", "python_tests", "csrc", "benchmarks")
    for pattern in ("*.py", "*.h", "*.cuh", "*.cpp", "*.cu")
    for path in (ROOT / folder).rglob(pattern)
)
MOST_LINES = 500


def has_public_code(path: Path) -> bool:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.ClassDef)
    return any(isinstance(node, kinds) and not node.name.startswith("_") for node in tree.body)


# The commands' tests lie beside those of the command line's frame. A folder `triton` would be importable as such.
FOLDERS = {Path("cli/commands"): Path("cli"), Path("triton"): Path("triton_ops")}


def mirror_of(module: Path) -> Path:
    """a/b.py has a/test_b.py."""
    folder = FOLDERS.get(module.parent, module.parent)
    return TESTS / folder / f"test_{module.name.lstrip('_')}"


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_module_has_its_test_file(module: Path) -> None:
    test = mirror_of(module)
    assert test.is_file() or not has_public_code(PACKAGE / module), f"expected {test.relative_to(ROOT)}"


def test_every_test_file_of_a_folder_has_its_module() -> None:
    # In subfolders only: the tests of the whole package lie at the top.
    mirrors = {mirror_of(module) for module in MODULES}
    # These mirror emulator/, csrc/cuda and csrc/cpu, whole networks on fused ops, and what `make gpu-check` runs.
    others = {TESTS / "emulator", TESTS / "cuda", TESTS / "cpu", TESTS / "networks", TESTS / "gpu"}
    strays = [str(test.relative_to(ROOT)) for test in TESTS.glob("*/**/test_*.py") if test not in mirrors]
    assert [stray for stray in strays if not others & set((ROOT / stray).parents)] == []


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_file_is_short_enough_to_read(source: Path) -> None:
    lines = len((ROOT / source).read_text(encoding="utf-8").splitlines())
    assert lines <= MOST_LINES, f"{source} has {lines} lines, expected at most {MOST_LINES}: one file, one purpose"
