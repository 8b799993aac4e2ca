"""Compiles sources to objects that are kept under a hash of all that went into them, so that nothing is compiled twice.

The messages of the compiler are kept beside each object: the tests of machine code read what ptxas reported.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple


class Step(NamedTuple):
    """One compilation.

    Args:
        command: ends with ``-c SOURCE``; ``-o`` is added when it runs.
        identity: what the command does not tell: versions of the compiler and of headers outside the project.
    """

    command: tuple[str, ...]
    identity: str


class CompilationError(Exception):
    """A compiler failed; it has said why on the standard output."""


def compile_all(steps: Sequence[Step], *, root: Path, include: str) -> list[Path]:
    """Takes each step unless its object is there, ``MAX_JOBS`` at a time.

    Args:
        steps: in the order in which they are begun.
        root: where the commands run; objects go to ``build/objects`` below it.
        include: folder below it of the headers that sources include in quotes.

    Returns:
        the objects in the order of the steps.

    Raises:
        CompilationError: if a command fails.
    """
    targets = targets_of(steps, root=root, include=include)
    with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS") or os.cpu_count() or 1)) as pool:
        list(pool.map(lambda step, target: _compile(step.command, target, root), steps, targets))
    return targets


def targets_of(steps: Sequence[Step], *, root: Path, include: str) -> list[Path]:
    """Where the object of each step is, or will be."""
    return [_target(step, root, root / include) for step in steps]


def messages(object_file: Path) -> str:
    """What the compiler said when it made the object."""
    return object_file.with_suffix(".log").read_text(encoding="utf-8")


def _target(step: Step, root: Path, include: Path) -> Path:
    source = root / step.command[-1]
    digest = hashlib.sha256("\0".join([step.identity, *step.command]).encode())
    for path in _with_included(source, include):
        digest.update(path.read_bytes())
    return root / "build" / "objects" / f"{source.name}-{digest.hexdigest()[:16]}.o"


def _with_included(source: Path, include: Path) -> list[Path]:
    """The source, and the headers that it and they include in quotes."""
    found = [source]
    for path in found:  # grows while it is walked
        for name in re.findall(r'^\s*#\s*include\s+"(.+?)"', path.read_text(encoding="utf-8"), re.MULTILINE):
            header = include / name
            if header.is_file() and header not in found:
                found.append(header)
    return found


def _compile(command: Sequence[str], target: Path, root: Path) -> None:
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    print(shlex.join(command), flush=True)
    partial = target.with_suffix(f".{os.getpid()}.o")  # another process may be at the same object
    run = subprocess.run(
        [*command, "-o", str(partial)],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    said = [line for line in run.stdout.splitlines() if not is_resource_report(line)]
    if said:
        print("\n".join(said), flush=True)
    if run.returncode != 0:
        partial.unlink(missing_ok=True)
        raise CompilationError(command[-1])
    target.with_suffix(".log").write_text(run.stdout, encoding="utf-8")
    partial.rename(target)


def is_resource_report(line: str) -> bool:
    """Lines of ``ptxas -v``, of no interest to one who installs."""
    return line.startswith("ptxas info") or "bytes stack frame" in line
