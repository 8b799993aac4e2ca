"""Code blocks of the documentation, and what of them can be checked where they cannot be run.

A block that is not run has the reason on the line before it, as a comment that readers of the page do not see:

    <!-- not run: needs a GPU -->
    <!-- not run (train, benchmark): they take minutes -->      only these commands of the block
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from litehrnet_cuda.cli.main import COMMANDS, load_command

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(
    [
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / name for name in ("README.md", "csrc/README.md", "benchmarks/README.md", "emulator/README.md")),
    ]
)

SHELLS = ("bash", "sh")
# Pages whose blocks another test runs in full; here it is checked that they could run.
RUN_BY = {"docs/deployment.md": "test_deployment_page.py", "docs/video.md": "test_video_page.py"}
# What others provide: known to exist, and none of this project's business.
PROGRAMS_OF_OTHERS = {"git", "cd", ".", "cmake", "ctest", "trtexec", "g++", "./serve"}
OWN_PROGRAMS = {"litehrnet", "python", "torchrun", "make", "pip"}
_FENCE = re.compile(r"^```(\w*)\s*$")
_REASON = re.compile(r"^<!-- not run(?: \(([^)]+)\))?: (\S.*) -->$")
_ASSIGNMENT = re.compile(r"^\w+=")


@dataclass(frozen=True)
class Block:
    """A code block.

    Args:
        document: the page.
        line: of its first line of code, counted from 1.
        language: as the fence says; of an indented block ``"bash"`` where it begins with a known program.
        text: its lines.
        reason: why it is not run; None if it is.
        excepted: the commands of `litehrnet` that alone are not run; all if empty.
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
    """The blocks of a page in order: those within fences, and indented ones that are commands."""
    lines = document.read_text(encoding="utf-8").splitlines()
    elsewhere = RUN_BY.get(str(document.relative_to(ROOT))) if document.is_relative_to(ROOT) else None
    found, index = [], 0
    while index < len(lines):
        fence = _FENCE.match(lines[index])
        first = index
        if fence:
            index = first = index + 1
            while lines[index] != "```":
                index += 1
            language, text = fence[1], "\n".join(lines[first:index])
        elif lines[index].startswith("    ") and _begins_block(lines, index):
            while index < len(lines) and lines[index].startswith("    "):
                index += 1
            text = "\n".join(line[4:] for line in lines[first:index]).rstrip()
            language = "bash" if _first_program(text) in OWN_PROGRAMS | PROGRAMS_OF_OTHERS else ""
        else:
            index += 1
            continue
        before = [line for line in lines[max(0, first - 3) : first] if line.strip() and not _FENCE.match(line)]
        marked = _REASON.match(before[-1]) if before else None
        excepted = frozenset(re.split(r",\s*", marked[1])) if marked and marked[1] else frozenset()
        reason = marked[2] if marked else elsewhere
        found.append(Block(document, first + 1, language, text, reason, excepted))
        index += 1
    return found


def _begins_block(lines: Sequence[str], index: int) -> bool:
    """Whether an indented line is code, rather than the rest of a paragraph or of a list item."""
    before = lines[index - 1] if index else ""
    return not before.strip() or before.startswith("<!--")


def _first_program(text: str) -> str:
    words = [word for word in text.split() if not _ASSIGNMENT.match(word)]
    return words[0] if words else ""


def links_of(document: Path) -> list[str]:
    """The files that a page leads to, relative to its folder."""
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"^\[[^\]]+\]: (\S+)$", text, re.MULTILINE)
    return [target.split("#")[0] for target in targets if not target.startswith(("http", "#"))]


def commands_of(text: str) -> Iterator[list[str]]:
    """The commands of a shell block as words, without comments and without what is assigned before them."""
    for line in text.replace("\\\n", " ").splitlines():
        for command in re.split(r"\s&&\s", line.split(" #")[0]):
            words = shlex.split(command, comments=True)
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
    assert name in COMMANDS, f"litehrnet {name}: no such command"
    parser = argparse.ArgumentParser(prog=f"litehrnet {name}")
    load_command(name).add_arguments(parser)
    parser.parse_args(rest)


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
    """Fails unless code can be compiled, and what it takes of this package exists and has these parameters.

    Args:
        code: the block.
        aliases: names of this package's modules by those that earlier blocks gave them; this block's are added.
    """
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                if name.name.split(".")[0] == "litehrnet_cuda":
                    aliases[name.asname or name.name] = importlib.import_module(name.name)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "litehrnet_cuda":
            module = importlib.import_module(str(node.module))
            for name in node.names:
                if not hasattr(module, name.name):
                    importlib.import_module(f"{node.module}.{name.name}")
                aliases[name.asname or name.name] = getattr(module, name.name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            _resolve(node, aliases)
        elif isinstance(node, ast.Call) and (function := _resolve(node.func, aliases)) is not None:
            parameters = inspect.signature(function).parameters
            takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
            unknown = {keyword.arg for keyword in node.keywords if keyword.arg} - set(parameters)
            assert takes_all or not unknown, f"{ast.unparse(node.func)} has no parameter {', '.join(sorted(unknown))}"


def _resolve(node: ast.expr, aliases: dict[str, Any]) -> Any:
    """What a dotted name of this package stands for; None for other expressions."""
    if isinstance(node, ast.Name):
        return aliases.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = _resolve(node.value, aliases)
        if owner is None:
            return None
        assert hasattr(owner, node.attr), f"{ast.unparse(node)} does not exist"
        return getattr(owner, node.attr)
    return None
