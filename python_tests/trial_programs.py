"""Runs a program of trials many times, each in a process of its own, which has what the program imports from the start.

A library of ops replaces torch's own for good, hence a process each, and importing torch costs more than most trials:
a server imports the program and forks for every run.

    result = trial_programs.run(__file__, "library.so", "--sizes", "odd", sanitized=False)

The program ends with `trial_programs.main(main)`, where `main(arguments)` returns an exit status. What it does before
that is done once.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from functools import cache
from typing import IO, NoReturn

import emulation

SERVE = "--serve"


def run(program: str, *arguments: str, sanitized: bool = False) -> subprocess.CompletedProcess[str]:
    """The program in a process of its own, with AddressSanitizer's runtime for a library that needs it.

    Raises:
        RuntimeError: if it cannot be imported.
    """
    server = _server(program, sanitized)
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        print(json.dumps(arguments), file=server.stdin, flush=True)
        answer = server.stdout.readline()
    except BrokenPipeError:
        answer = ""
    if not answer:
        raise RuntimeError(f"{program} did not start, or stopped: exit status {server.wait()}")
    return subprocess.CompletedProcess([program, *arguments], *json.loads(answer))


@cache
def _server(program: str, sanitized: bool) -> subprocess.Popen[str]:
    """Ends with the process that started it, when its input does."""
    environment = emulation.asan_environment() if sanitized else dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, program, SERVE]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def main(program: Callable[[Sequence[str]], int]) -> int:
    """The exit status of a program that is run by hand; or serves runs until its input ends."""
    if sys.argv[1:] != [SERVE]:
        return program(sys.argv[1:])
    gc.freeze()  # what is imported stays, and its pages in common
    for line in sys.stdin:
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            child = os.fork()
            if child == 0:
                os.dup2(out.fileno(), sys.stdout.fileno())
                os.dup2(err.fileno(), sys.stderr.fileno())
                _run_and_exit(program, json.loads(line))
            _, status = os.waitpid(child, 0)
            texts = [_text(out), _text(err)]
        print(json.dumps([os.waitstatus_to_exitcode(status), *texts]), flush=True)
    return 0


def _run_and_exit(program: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> NoReturn:
    status = 1
    try:
        status = program(arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # without taking all modules apart, which costs more than most trials


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
