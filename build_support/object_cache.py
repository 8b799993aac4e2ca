"""Compiles sources to objects that are kept under a hash of all that went into them, so that nothing is compiled twice.

The messages of the compiler are kept beside each object: the tests of machine code read what ptxas reported.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


class CompilationError(Exception):
    """A compiler failed; it has said why on the standard output."""


def compile_all(
    commands: Sequence[Sequence[str]], headers: Iterable[Path], *, root: Path, identity: str = ""
) -> list[Path]:
    """Runs each command unless its object is there, ``MAX_JOBS`` at a time.

    Args:
        commands: each ends with ``-c SOURCE``; ``-o`` is added here.
        headers: files that any source may include.
        root: where the commands run; objects go to ``build/objects`` below it.
        identity: versions of the compilers and of headers outside the project.

    Returns:
        the objects in the order of the commands; messages are in ``.log`` files beside them.

    Raises:
        CompilationError: if a command fails.
    """
    digest = hashlib.sha256(identity.encode())
    for header in sorted(headers):
        digest.update(header.read_bytes())
    targets = [_target(command, digest.copy(), root) for command in commands]
    with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS") or os.cpu_count() or 1)) as pool:
        list(pool.map(lambda command, target: _compile(command, target, root), commands, targets))
    return targets


def messages(object_file: Path) -> str:
    """What the compiler said when it made the object."""
    return object_file.with_suffix(".log").read_text(encoding="utf-8")


def _target(command: Sequence[str], digest: hashlib._Hash, root: Path) -> Path:
    source = root / command[-1]
    digest.update("\0".join(command).encode())
    digest.update(source.read_bytes())
    return root / "build" / "objects" / f"{source.name}-{digest.hexdigest()[:16]}.o"


def _compile(command: Sequence[str], target: Path, root: Path) -> None:
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    print(shlex.join(command), flush=True)
    partial = target.with_suffix(f".{os.getpid()}.o")  # another process may be at the same object
    run = subprocess.run(
        [*command, "-o", str(partial)], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    said = [line for line in run.stdout.splitlines() if not _is_resource_report(line)]
    if said:
        print("\n".join(said), flush=True)
    if run.returncode != 0:
        partial.unlink(missing_ok=True)
        raise CompilationError(command[-1])
    target.with_suffix(".log").write_text(run.stdout, encoding="utf-8")
    partial.rename(target)


def _is_resource_report(line: str) -> bool:
    """Lines of ``ptxas -v``, of no interest to one who installs."""
    return line.startswith("ptxas info") or "bytes stack frame" in line
