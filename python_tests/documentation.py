"""Code blocks of the documentation, and what of them can be checked where they cannot be run.

A block that is not run has the reason on the line before it, as a comment that readers of the page do not see:

    <!-- not run: needs a GPU -->
    <!-- not run (train, --webcam): minutes, and a camera -->      only the commands with these words

Where neither runs, a block has to be checked by another test, which COVERED_BY names.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from torch.distributed.run import get_args_parser

from litehrnet_cuda.cli.main import COMMANDS, load_command
from litehrnet_cuda.engine.recipe_files import load_recipe, parse_value

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))  # for benchmarks; behind an installed package
_NO_SOURCES = {"build", "dist", "runs"}
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "*/*.md", "*/*/*.md")
    for path in ROOT.glob(pattern)
    if not any(part.startswith(".") or part in _NO_SOURCES for part in path.relative_to(ROOT).parts[:-1])
)

SHELLS = ("bash", "sh")
# What another test runs or reads, by page and language. Of Python and commands it is checked here that they could run.
COVERED_BY = {
    ("docs/deployment.md", "python"): "test_deployment_page.py",
    ("docs/deployment.md", "sh"): "test_deployment_page.py",
    ("docs/deployment.md", "cpp"): "test_deployment_page.py",
    ("docs/own_data.md", "toml"): "test_docs.py",
    ("docs/own_data.md", "json"): "test_docs.py",
    ("docs/training.md", "toml"): "test_documentation.py",
    ("docs/video.md", ""): "test_video_page.py",  # a line of JSON
}
# What others provide: known to exist, and none of this project's business.
PROGRAMS_OF_OTHERS = {"git", "cd", ".", "cmake", "ctest", "trtexec", "g++", "./serve"}
OWN_PROGRAMS = {"litehrnet", "python", "torchrun", "make", "pip"}
# Need not be installed.
_PACKAGES_OF_OTHERS = {"mmpose", "onnxruntime", "openvino"}
_FENCE = re.compile(r"^```(\w*)\s*$")
_OTHER_BLOCK = re.compile(r"^\s*(```|~~~|<pre|<code|\t)")
_MARKER = "<!-- not run"
_REASON = re.compile(r"^<!-- not run(?: \(([^)]+)\))?: (\S.*) -->$")
_ASSIGNMENT = re.compile(r"^\w+=")
_SUBSTITUTION = re.compile(r"^\w+=\$\((.*)\)$")


@dataclass(frozen=True)
class Block:
    """A code block.

    Args:
        document: the page.
        line: of its first line of code, counted from 1.
        language: as the fence says; of an indented block ``"bash"`` where it begins with a known program.
        text: its lines.
        reason: why it is not run; None if it is.
        excepted: words; of a block of commands those with such a word alone are not run. All if empty.
    """

    document: Path
    line: int
    language: str
    text: str
    reason: str | None = None
    excepted: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def blocks_of(document: Path) -> list[Block]:
    """The blocks of a page in order, those within fences and indented ones.

    Raises:
        AssertionError: something looks like a block and is none that is understood here, or a reason is no block's.
    """
    lines = document.read_text(encoding="utf-8").splitlines()
    page = document.relative_to(ROOT).as_posix() if document.is_relative_to(ROOT) else document.name
    found: list[Block] = []
    of_blocks = index = 0
    while index < len(lines):
        fence = _FENCE.match(lines[index])
        first = index
        if fence:
            index = first = index + 1
            while index < len(lines) and lines[index] != "```":
                index += 1
            assert index < len(lines), f"{page}:{first}: a fence without an end"
            language, text = fence[1], "\n".join(lines[first:index])
            index += 1
        elif lines[index].startswith("    ") and _begins_block(lines, index):
            while index < len(lines) and lines[index].startswith("    "):
                index += 1
            text = "\n".join(line[4:] for line in lines[first:index]).rstrip()
            language = "bash" if _first_program(text) in OWN_PROGRAMS | PROGRAMS_OF_OTHERS else ""
        else:
            assert not _OTHER_BLOCK.match(lines[index]), f"{page}:{index + 1}: expected ``` at the begin of a line"
            index += 1
            continue
        before = [line for line in lines[max(0, first - 3) : first] if line.strip() and not _FENCE.match(line)]
        marked = _REASON.match(before[-1]) if before else None
        excepted = frozenset(re.split(r",\s*", marked[1])) if marked and marked[1] else frozenset()
        for word in excepted:
            assert word in text.split(), f"{page}:{first + 1}: {word} is excepted, but not there"
        reason = marked[2] if marked else COVERED_BY.get((page, language))
        found.append(Block(document, first + 1, language, text, reason, excepted))
        of_blocks += marked is not None
    markers = [number for number, line in enumerate(lines, 1) if line.startswith(_MARKER)]
    assert len(markers) == of_blocks, f"{page}: a reason of lines {markers} is malformed, or stands before no block"
    return found


def _begins_block(lines: Sequence[str], index: int) -> bool:
    """Whether an indented line is code, rather than the rest of a paragraph or of a list item."""
    before = lines[index - 1] if index else ""
    return not before.strip() or before.startswith("<!--")


def _first_program(text: str) -> str:
    words = next(commands_of(text.split("\n")[0].rstrip("\\")), [])
    return words[0] if words else ""


def links_of(document: Path) -> list[str]:
    """The files that a page leads to, relative to its folder, and sections as ``file#section`` or ``#section``."""
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"^\[[^\]]+\]: (\S+)$", text, re.MULTILINE)
    return [target for target in targets if not target.startswith("http")]


def sections_of(document: Path) -> set[str]:
    """The names by which links lead to a page's headings: without capitals and punctuation, with dashes for spaces."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands_of(text: str) -> Iterator[list[str]]:
    """The commands of a shell block as words, without comments and without what is assigned before them."""
    for line in text.replace("\\\n", " ").splitlines():
        for command in re.split(r"\s&&\s", line.split(" #")[0]):
            inner = _SUBSTITUTION.match(command.strip())
            words = shlex.split(inner[1] if inner else command, comments=True)
            while words and _ASSIGNMENT.match(words[0]):
                words = words[1:]
            if words:
                yield words


def litehrnet_arguments(words: Sequence[str]) -> list[str] | None:
    """The arguments of `litehrnet`, however it is called; None for other programs."""
    if words[0] == "litehrnet":
        return list(words[1:])
    if (
        words[0] in ("python", "torchrun")
        and "litehrnet_cuda" in words
        and words[words.index("litehrnet_cuda") - 1] == "-m"
    ):
        return list(words[words.index("litehrnet_cuda") + 1 :])
    return None


# ------------------------------------------------------------------------------- what can be said without running


def check_command(words: Sequence[str]) -> None:
    """Fails unless a command exists and takes these arguments."""
    arguments = litehrnet_arguments(words)
    if words[0] == "torchrun":
        get_args_parser().parse_args(words[1:])
    if arguments is not None:
        return _check_litehrnet(arguments)
    program, rest = words[0], list(words[1:])
    assert program in OWN_PROGRAMS | PROGRAMS_OF_OTHERS, f"{program}: no program that documentation is known to use"
    if program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        for target in rest:
            assert target in targets or _ASSIGNMENT.match(target), f"make {target}: no such target"
    elif program == "pip":
        for extra in re.findall(r"\[([\w,-]+)\]", " ".join(rest)):
            assert set(extra.split(",")) <= _extras(), f"[{extra}]: no such extra in pyproject.toml"
    elif program == "python" and rest[:2] == ["-m", "benchmarks"]:
        _check_benchmarks(rest[2:])
    elif program == "python" and rest[0] != "-c":
        files = [word for word in rest if word.endswith(".py")]
        assert files, f"{' '.join(words)}: expected a file"
        for file in files:
            assert (ROOT / file).is_file(), f"{file}: no such file"


def _extras() -> set[str]:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = text.split("[project.optional-dependencies]")[1].split("\n[")[0]
    return set(re.findall(r"^([\w-]+) = \[", section, re.MULTILINE))


def _check_litehrnet(arguments: Sequence[str]) -> None:
    name, *rest = arguments
    if name.startswith("-"):
        return
    given = parser_of(name).parse_args(rest)
    if name == "train" and given.recipe and not given.recipe.endswith((".toml", ".json")):
        changes = dict(text.split("=", 1) for text in given.set)
        load_recipe(given.recipe, {key: parse_value(value) for key, value in changes.items()})


def parser_of(name: str) -> argparse.ArgumentParser:
    """What reads the arguments of a command of `litehrnet`."""
    assert name in COMMANDS, f"litehrnet {name}: no such command"
    parser = argparse.ArgumentParser(prog=f"litehrnet {name}")
    load_command(name).add_arguments(parser)
    return parser


def check_inline_commands(document: Path) -> int:
    """Fails if text between blocks names a command of `litehrnet`, or an option of it, that does not exist.

    Returns:
        the number of commands that were found.
    """
    text = re.sub(r"^```.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    named = re.findall(r"`(?:litehrnet|torchrun [^`]*-m litehrnet_cuda) ([a-z][\w-]*)([^`]*)`", text)
    for name, rest in named:
        options = {option for action in parser_of(name)._actions for option in action.option_strings}
        unknown = [word for word in re.findall(r"--[\w-]+", rest) if word not in options]
        assert not unknown, f"{document.relative_to(ROOT)}: litehrnet {name} has no {', '.join(unknown)}"
    return len(named)


def _check_benchmarks(arguments: Sequence[str]) -> None:
    main: Any = importlib.import_module("benchmarks.__main__")
    networks: Any = importlib.import_module("benchmarks.networks.command")
    first = arguments[0] if arguments else ""
    if first in ("networks", "check"):
        networks.parser().parse_args(arguments[1:] if first == "networks" else arguments)
    elif first == "loader":
        importlib.import_module("benchmarks.loader")
    else:
        main.parser().parse_args(arguments)


def check_python(code: str, aliases: dict[str, Any]) -> None:
    """Fails unless code can be compiled, its imports exist, and what it takes of them exists and has these parameters.

    Args:
        code: the block.
        aliases: modules and other values by the names that earlier blocks gave them; this block's imports are added,
            and names that it gives to something else are left out.
    """
    tree = ast.parse(code)
    compile(tree, "block", "exec")
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                if module := _import(name.name):
                    aliases[name.asname or name.name.split(".")[0]] = module if name.asname else _import_root(name.name)
        elif isinstance(node, ast.ImportFrom) and (module := _import(str(node.module))):
            for name in node.names:
                if not hasattr(module, name.name):
                    importlib.import_module(f"{node.module}.{name.name}")
                aliases[name.asname or name.name] = getattr(module, name.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            aliases.pop(node.id, None)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            _resolve(node, aliases)
        elif isinstance(node, ast.Call) and (function := _resolve(node.func, aliases)) is not None:
            _check_keywords(node, function)


def _import(name: str) -> ModuleType | None:
    """A module; None of a package that need not be installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        if name.split(".")[0] in _PACKAGES_OF_OTHERS:
            return None
        raise


def _import_root(name: str) -> ModuleType:
    return importlib.import_module(name.split(".")[0])


def _check_keywords(call: ast.Call, function: Any) -> None:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # of native code, which does not tell
        return
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    unknown = {keyword.arg for keyword in call.keywords if keyword.arg} - set(parameters)
    assert takes_all or not unknown, f"{ast.unparse(call.func)} has no parameter {', '.join(sorted(unknown))}"


def _resolve(node: ast.expr, aliases: dict[str, Any]) -> Any:
    """What a dotted name that is known stands for; None for other expressions."""
    if isinstance(node, ast.Name):
        return aliases.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = _resolve(node.value, aliases)
        if owner is None:
            return None
        assert hasattr(owner, node.attr), f"{ast.unparse(node)} does not exist"
        return getattr(owner, node.attr)
    return None
