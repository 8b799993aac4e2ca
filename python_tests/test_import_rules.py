"""Who may import whom, so that each layer can be read and tested without the layers above it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "litehrnet_cuda"
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))

# Of the package, a part may import itself, what is listed here, and nothing else.
BASICS = {"errors", "files", "keypoints", "classes"}
ALLOWED = {
    "errors": set(),
    "files": {"errors"},
    "keypoints": {"errors"},
    "classes": {"errors"},
    "_extension": {"errors"},
    "backends": {"errors", "_extension"},
    "visualize": BASICS,
    "results": BASICS | {"visualize"},
    "codecs": BASICS,
    "data": BASICS | {"codecs"},
    "metrics": BASICS | {"results"},
    "reference": set(),
    "ops": {"_extension"},
    "functional": {"ops"},
    "triton": {"errors", "backends", "ops"},
    "nn": {"errors", "backends", "functional", "reference", "triton"},
    "models": BASICS | {"nn", "backends"},
    "plan": {"errors", "files", "nn", "models", "ops"},
    "inference": {"errors", "backends", "nn", "models", "plan"},
    "benchmarking": {"errors", "_extension", "backends", "nn", "inference", "export", "predictors"},
    "export": BASICS | {"backends", "nn", "models", "codecs", "data", "predictors"},
    "predictors": BASICS | {"models", "codecs", "data", "results", "backends", "inference"},
    "video": BASICS | {"data", "metrics", "predictors", "results", "visualize"},
    "engine": BASICS | {"models", "nn", "codecs", "data", "metrics", "results", "visualize", "backends", "predictors"},
}
MAY_IMPORT_ALL = {"__init__", "__main__", "cli"}
HEAVY = {"torch", "numpy", "cv2", "matplotlib", "pycocotools", "safetensors", "tqdm"}


def part_of(module: Path) -> str:
    return module.parts[0].removesuffix(".py")


def imported(nodes: Iterable[ast.AST], module: Path, *, deep: bool) -> Iterator[str]:
    """Dotted names of what code of a module imports; with ``deep`` also inside functions, never under TYPE_CHECKING."""
    for node in nodes:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from imported(node.orelse, module, deep=deep)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            folders = ("litehrnet_cuda", *module.parts[:-1])
            base = folders[: len(folders) - node.level + 1] if node.level else ()
            start = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{start}.{alias.name}" for alias in node.names)
        elif deep or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from imported(ast.iter_child_nodes(node), module, deep=deep)


def imports_of(module: Path, *, deep: bool = True) -> list[str]:
    tree = ast.parse((PACKAGE / module).read_text(encoding="utf-8"))
    return list(imported(tree.body, module, deep=deep))


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_module_imports_only_lower_layers(module: Path) -> None:
    part = part_of(module)
    if part in MAY_IMPORT_ALL:
        return
    assert part in ALLOWED, f"{part} is new: say in ALLOWED what it may import"
    own = [name.split(".")[1:] for name in imports_of(module) if name.startswith("litehrnet_cuda.")]
    above = {names[0] for names in own} - ALLOWED[part] - {part, "__version__"}
    assert not above, f"{part} may not import {', '.join(sorted(above))}"


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_nothing_imports_tests_or_benchmarks(module: Path) -> None:
    assert not {name.split(".")[0] for name in imports_of(module)} & {"python_tests", "benchmarks", "conftest"}


@pytest.mark.parametrize(
    "module", [module for module in MODULES if part_of(module) in MAY_IMPORT_ALL | {"_extension", "backends"}], ids=str
)
def test_heavy_imports_wait_until_they_are_needed(module: Path) -> None:
    assert not {name.split(".")[0] for name in imports_of(module, deep=False)} & HEAVY


def test_the_rules_have_no_cycle() -> None:
    ready: set[str] = set()
    while len(ready) < len(ALLOWED):
        added = {part for part, below in ALLOWED.items() if below <= ready} - ready
        assert added, f"a cycle among {sorted(set(ALLOWED) - ready)}"
        ready |= added


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import litehrnet_cuda.nn.blocks", ["litehrnet_cuda.nn.blocks"]),
        ("from litehrnet_cuda import nn", ["litehrnet_cuda.nn"]),
        ("from .litehrnet import A", ["litehrnet_cuda.models.litehrnet.A"]),
        ("from .. import nn", ["litehrnet_cuda.nn"]),
        ("from ..nn.blocks import A", ["litehrnet_cuda.nn.blocks.A"]),
        ("def f():\n    if x:\n        import torch", ["torch"]),
        ("class A:\n    def f(self):\n        import torch", ["torch"]),
        ("try:\n    import torch\nexcept ImportError:\n    pass", ["torch"]),
        ("if TYPE_CHECKING:\n    import torch\nelse:\n    import numpy", ["numpy"]),
    ],
)
def test_imports_are_found_where_they_hide(code: str, found: list[str]) -> None:
    body = ast.parse(code).body
    assert list(imported(body, Path("models/heads.py"), deep=True)) == found
    waits = "def f" in code
    assert list(imported(body, Path("models/heads.py"), deep=False)) == ([] if waits else found)


NATIVE = sorted(
    path.relative_to(ROOT) for path in (ROOT / "csrc").rglob("*") if path.suffix in (".h", ".cuh", ".cpp", ".cu")
)
NATIVE_ALLOWED = {"core": {"core"}, "cpu": {"core", "cpu"}, "cuda": {"core", "cuda"}, "tests": {"core", "cpu", "cuda"}}


@pytest.mark.parametrize("source", NATIVE, ids=str)
def test_native_code_includes_only_lower_layers(source: Path) -> None:
    included = re.findall(
        r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', (ROOT / source).read_text(encoding="utf-8"), re.MULTILINE
    )
    folders = {name.split("/")[0] for name in included if "/" in name}
    if source != Path("csrc/ops/torch_compat.h"):
        assert not folders & {"torch", "ATen", "c10"}, "only csrc/ops/torch_compat.h may include torch's headers"
    ours = folders & {"core", "cpu", "cuda", "ops", "tests"}
    assert ours <= NATIVE_ALLOWED.get(source.parts[1], {"core", "cpu", "cuda", "ops"})
