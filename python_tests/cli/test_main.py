"""The command line's frame: help, exit statuses, and what is imported when."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import litehrnet_cuda
from litehrnet_cuda.cli import main as cli
from litehrnet_cuda.errors import InputError

HEAVY = ("torch", "numpy", "cv2", "matplotlib", "pycocotools")


def litehrnet(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs the command line in a fresh interpreter, which ends by printing the heavy modules that were imported."""
    code = (
        f"import sys; sys.path.insert(0, {str(Path(litehrnet_cuda.__file__).parents[1])!r})\n"
        "from litehrnet_cuda.cli.main import main\n"
        "try: status = main()\n"
        "except SystemExit as stop: status = stop.code\n"
        f"print('imported:', *(set({HEAVY}) & set(sys.modules)))\n"
        "sys.exit(status)"
    )
    return subprocess.run([sys.executable, "-c", code, *arguments], cwd=folder, capture_output=True, text=True)


def test_help_fits_a_screen_and_names_every_command(tmp_path: Path) -> None:
    run = litehrnet("--help", folder=tmp_path)
    assert run.returncode == 0
    assert run.stdout.count("\n") <= 24
    for name in cli.COMMANDS:
        assert f"\n    {name} " in run.stdout


def test_help_is_instant(tmp_path: Path) -> None:
    # Asked for: 0.3 s. 0.05 s on a 2-core machine; the best of three, because other work may be running.
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        litehrnet("--help", folder=tmp_path)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.3


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_a_command_fits_a_screen_and_imports_nothing_heavy(name: str, tmp_path: Path) -> None:
    run = litehrnet(name, "--help", folder=tmp_path)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(f"usage: litehrnet {name}")
    assert run.stdout.count("\n") <= 50
    assert run.stdout.endswith("imported:\n")


def test_version(tmp_path: Path) -> None:
    run = litehrnet("--version", folder=tmp_path)
    assert run.returncode == 0
    assert run.stdout == f"litehrnet_cuda {litehrnet_cuda.__version__}\nimported:\n"


def test_module_is_the_same_command(tmp_path: Path) -> None:
    code = "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); runpy.run_module('litehrnet_cuda', alter_sys=True)"
    package = str(Path(litehrnet_cuda.__file__).parents[1])
    run = subprocess.run(
        [sys.executable, "-c", code, package, "--version"], cwd=tmp_path, capture_output=True, text=True
    )
    assert run.stdout == f"litehrnet_cuda {litehrnet_cuda.__version__}\n"


def test_no_command_prints_help_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "usage: litehrnet" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["dance"], ["--loud"], ["env", "--loud"]])
def test_unknown_argument_fails_with_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2
    assert arguments[-1] in capsys.readouterr().err


def command_that(outcome: int | BaseException) -> SimpleNamespace:
    def run(args: argparse.Namespace) -> int:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    return SimpleNamespace(add_arguments=lambda parser: None, run=run)


@pytest.mark.parametrize(
    ("outcome", "status", "message"),
    [
        (0, 0, ""),
        (1, 1, ""),
        (
            InputError("boxes: expected shape [N, 4], got [3]"),
            2,
            "litehrnet env: boxes: expected shape [N, 4], got [3]\n",
        ),
        (KeyboardInterrupt(), 130, "litehrnet env: interrupted\n"),
    ],
)
def test_outcomes_become_exit_statuses(
    outcome: int | BaseException,
    status: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cli, "load_command", lambda name: command_that(outcome))
    assert cli.main(["env"]) == status
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == message


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "load_command", lambda name: command_that(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        cli.main(["env"])


def test_another_pipe_that_breaks_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a process that reads images has died."""
    monkeypatch.setattr(cli, "load_command", lambda name: command_that(BrokenPipeError(32, "Broken pipe")))
    with pytest.raises(BrokenPipeError):
        cli.main(["train"])


@pytest.mark.parametrize("buffered", [True, False])
def test_a_reader_that_has_had_enough_is_no_error(buffered: bool, tmp_path: Path) -> None:
    """As `head` has, after the first of many lines; here it is gone from the beginning."""
    code = "import sys; from litehrnet_cuda.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, *([] if buffered else ["-u"]), "-c", code, "summary", "litehrnet_18", "--plan"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(command, cwd=tmp_path, env=environment, stdout=writer, stderr=subprocess.PIPE, text=True)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
