"""Importing the package costs next to nothing, and its public names lead where they say."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import litehrnet_cuda


def run_python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs code in a fresh interpreter that finds the same litehrnet_cuda as this one."""
    code = f"import sys; sys.path.insert(0, {str(Path(litehrnet_cuda.__file__).parents[1])!r})\n{code}"
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)


def test_import_is_silent_and_loads_nothing_heavy(tmp_path: Path) -> None:
    code = "import litehrnet_cuda\nassert not {'torch', 'numpy', 'cv2'} & set(sys.modules), set(sys.modules)"
    run = run_python(code, tmp_path)
    assert run.stdout == ""
    assert run.stderr == ""


def test_import_is_quick(tmp_path: Path) -> None:
    # 10 ms on a 2-core machine. The bound of 100 ms leaves room for a busy one, and importing torch or numpy breaks it.
    code = "import time; start = time.perf_counter(); import litehrnet_cuda; print(1e3 * (time.perf_counter() - start))"
    assert min(float(run_python(code, tmp_path).stdout) for _ in range(3)) < 100


@pytest.mark.parametrize("name", litehrnet_cuda.__all__)
def test_public_name_resolves(name: str) -> None:
    value = getattr(litehrnet_cuda, name)
    assert name in dir(litehrnet_cuda)
    if name in litehrnet_cuda._SUBMODULES:
        assert value is sys.modules[f"litehrnet_cuda.{name}"]
    elif name != "__version__":
        assert value.__name__ == name
        assert value.__module__ == litehrnet_cuda._MODULES[name]


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'create_modle'"):
        litehrnet_cuda.create_modle  # noqa: B018


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(litehrnet_cuda.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert typed == litehrnet_cuda._MODULES | dict.fromkeys(litehrnet_cuda._SUBMODULES, "litehrnet_cuda")
    assert {*typed, "__version__"} == set(litehrnet_cuda.__all__)
