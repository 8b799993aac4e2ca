"""Runs of a program that a server forks are as those of processes of their own."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import trial_programs

PROGRAM = """
import os, sys
import trial_programs

runs = 0

def main(arguments):
    global runs
    runs += 1
    print("run", runs, *arguments)
    print("about", arguments[0], file=sys.stderr)
    if arguments[0] == "crash":
        os.abort()
    if arguments[0] == "raise":
        raise ValueError("wrong")
    return int(arguments[0])

sys.exit(trial_programs.main(main))
"""


@pytest.fixture
def program(tmp_path: Path) -> str:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("sanitized", [False, True])
def test_status_and_output_of_every_run(program: str, sanitized: bool) -> None:
    for status in (0, 3, 1):
        result = trial_programs.run(program, str(status), "a b", sanitized=sanitized)
        assert result.returncode == status
        assert result.stdout == f"run 1 {status} a b\n", "every run starts from what was imported"
        assert result.stderr == f"about {status}\n"


def test_a_run_that_fails_ends_no_other(program: str) -> None:
    raised = trial_programs.run(program, "raise")
    assert raised.returncode == 1
    assert raised.stdout == "run 1 raise\n"
    assert raised.stderr.endswith("ValueError: wrong\n")
    assert trial_programs.run(program, "crash").returncode == -signal.SIGABRT
    assert trial_programs.run(program, "0").returncode == 0


def test_a_program_that_does_not_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="did not start, or stopped: exit status 2"):
        trial_programs.run(str(tmp_path / "missing.py"), "0")
