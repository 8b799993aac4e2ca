"""`make gpu-check` as far as a machine without a GPU can tell."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import gpu_check
import pytest
from gpu_check import Part, main, parts, run, summary

ROOT = Path(__file__).resolve().parents[1]
HIDDEN = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}


def python(code: str, name: str = "part", skipped: str = "") -> Part:
    return Part(name, (sys.executable, "-c", code), skipped)


def test_without_a_gpu_it_says_so_in_one_line_and_fails(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, str(ROOT / "python_tests/gpu_check.py"), "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        env=HIDDEN,
        check=False,
    )
    assert result.returncode == 2
    assert result.stdout == ""
    assert re.fullmatch(r"gpu-check: the kernels cannot run here: .+\n", result.stderr)
    assert not (tmp_path / "out").exists()


def test_a_part_leaves_its_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    result = run(python("print('one'); print('two')"), tmp_path)
    assert (result.status, result.last_line) == ("ok", "two")
    assert (tmp_path / "part.log").read_text() == "one\ntwo\n"
    assert "one\ntwo\n" in capfd.readouterr().out


def test_a_failing_part_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = [
        python("raise SystemExit('broken')", "tests"),
        python("print('fine')", "racecheck"),
        python("", "memcheck", "no tool"),
        Part("benchmarks", ("/there/is/no/such/program",)),
    ]
    monkeypatch.setattr(gpu_check, "parts", lambda _out: chosen)
    monkeypatch.setattr(gpu_check, "reason_against", lambda: "")
    assert main(["--out", str(tmp_path / "a")]) == 1
    lines = (tmp_path / "a" / "summary.txt").read_text().splitlines()
    assert [line.split()[:2] for line in lines[:4]] == [
        ["tests", "FAILED"],
        ["racecheck", "ok"],
        ["memcheck", "skipped"],
        ["benchmarks", "FAILED"],
    ]
    assert "broken" in lines[0]
    assert "No such file" in lines[3]
    assert str(tmp_path / "a") in lines[-1]
    assert main(["--out", str(tmp_path / "b"), "--only", "racecheck", "memcheck"]) == 0
    assert not (tmp_path / "b" / "tests.log").exists()


def test_environment_of_a_part(tmp_path: Path) -> None:
    part = Part("part", (sys.executable, "-c", "import os; print(os.environ['VALUE'])"), environment=(("VALUE", "7"),))
    assert run(part, tmp_path).last_line == "7"


def test_sanitizers_are_left_out_where_they_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_check, "find_sanitizer", lambda: None)
    found = {part.name: part for part in parts(tmp_path)}
    assert list(found) == ["tests", *gpu_check.SANITIZERS, "benchmarks", "networks"]
    assert all("compute-sanitizer" in found[tool].skipped for tool in gpu_check.SANITIZERS)
    assert "skipped" in summary([run(found["memcheck"], tmp_path)], tmp_path)
    monkeypatch.setattr(gpu_check, "find_sanitizer", lambda: "/opt/compute-sanitizer")
    command = {part.name: part for part in parts(tmp_path)}["initcheck"].command
    assert command[:3] == ("/opt/compute-sanitizer", "--tool", "initcheck")


def test_all_that_parts_run_is_there(tmp_path: Path) -> None:
    for part in parts(tmp_path):
        for word in part.command[1:]:
            if word.startswith(str(ROOT)):
                assert Path(word).exists()


def test_tests_for_a_gpu_are_marked_and_skip_here() -> None:
    command = [sys.executable, "-m", "pytest", str(ROOT / "python_tests/gpu"), "-q", "-m", "not gpu"]
    result = subprocess.run(command, capture_output=True, text=True, env=HIDDEN, check=False, cwd=ROOT)
    assert " deselected" in result.stdout, result.stdout + result.stderr
    assert result.returncode == 5, result.stdout  # nothing is left


def test_make_refuses_without_a_gpu() -> None:
    environment = {**HIDDEN, "PATH": "/usr/bin:/bin"}
    result = subprocess.run(
        ["make", "-n", "gpu-check", "LITEHRNET_CUDA_BUILD=cpu", "VENV=/nowhere"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=environment,
    )
    assert "nvidia-smi" in result.stdout + result.stderr
