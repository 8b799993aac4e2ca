"""Everything that needs a GPU, one part after the other; `make gpu-check` runs it.

    python python_tests/gpu_check.py [--only PART ...] [--out runs/gpu-check]

Parts are the tests of python_tests/gpu, compute-sanitizer's four tools over a small program (where it is installed),
and the benchmarks. Each writes <out>/<part>.log, and goes on whatever became of the others. The exit status is 0 if no
part failed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SANITIZERS = ("memcheck", "racecheck", "initcheck", "synccheck")
FOUND = 9  # what compute-sanitizer is told to exit with if it finds something

# Tells in one line why nothing can be checked here, or nothing at all.
PROBE = """
from litehrnet_cuda import backends
availability = backends.can_run_cuda()
print("" if availability.ok else availability.reason)
"""


@dataclass(frozen=True)
class Part:
    """A program to run, or the reason not to.

    Args:
        name: of the part and its log.
        command: the program and its arguments.
        skipped: why it isn't run, or nothing.
        environment: variables that it gets in addition.
    """

    name: str
    command: Sequence[str]
    skipped: str = ""
    environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Result:
    part: Part
    status: str  # "ok", "FAILED" or "skipped"
    seconds: float
    last_line: str


def parts(out: Path) -> list[Part]:
    """All of them, in order. Programs start elsewhere than at the root, so that the installed package is checked."""
    python = sys.executable
    tests = ("-m", "pytest", str(ROOT / "python_tests" / "gpu"), "-m", "gpu", "-q", "-rs", "--color=no")
    found = [Part("tests", (python, *tests, f"--junitxml={out / 'tests.xml'}"))]
    sanitizer = find_sanitizer()
    # Without torch's cache each tensor is an allocation of its own, whose end memcheck knows.
    environment = (("PYTORCH_NO_CUDA_MEMORY_CACHING", "1"),)
    for tool in SANITIZERS:
        options = ("--tool", tool, "--error-exitcode", str(FOUND), "--target-processes", "all")
        program = (python, str(ROOT / "python_tests" / "gpu_steps.py"))
        missing = "" if sanitizer else "compute-sanitizer isn't installed; the CUDA toolkit has it"
        found.append(Part(tool, (sanitizer or "compute-sanitizer", *options, *program), missing, environment))
    # The last stage, without torch.compile, which takes hours for all shapes: `python -m benchmarks` does everything.
    choice = ("--stage", "stage4", "--dtype", "float32", "float16", "--provider", "ours", "reference")
    found.append(Part("benchmarks", (python, str(ROOT / "benchmarks"), *choice)))
    found.append(Part("networks", (python, str(ROOT / "benchmarks"), "networks", "inference")))
    return found


def find_sanitizer() -> str | None:
    """compute-sanitizer on the PATH, of CUDA_HOME, or where toolkits are installed."""
    home = os.environ.get("CUDA_HOME", "/usr/local/cuda")
    return shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path=str(Path(home) / "bin"))


def run(part: Part, out: Path) -> Result:
    """Runs a part, what it prints going to its log and to the terminal."""
    if part.skipped:
        return Result(part, "skipped", 0.0, part.skipped)
    start, last = time.monotonic(), ""
    print(f"\n== {part.name}: {' '.join(part.command)}", flush=True)
    try:
        with (
            (out / f"{part.name}.log").open("w", encoding="utf-8") as log,
            subprocess.Popen(
                part.command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                cwd=out,
                env={**os.environ, **dict(part.environment)},
            ) as process,
        ):
            assert process.stdout is not None
            for line in process.stdout:
                log.write(line)
                print(line, end="", flush=True)
                last = line.strip() or last
        status = process.returncode
    except OSError as error:
        status, last = 1, str(error)
    return Result(part, "FAILED" if status else "ok", time.monotonic() - start, last)


def summary(results: Sequence[Result], out: Path) -> str:
    lines = [f"{r.part.name:<12}{r.status:<9}{r.seconds:>7.0f} s  {r.last_line[:90]}" for r in results]
    return "\n".join(["", *lines, "", f"Logs: {out}. Benchmarks: {ROOT / 'benchmarks' / 'results'}"])


def reason_against() -> str:
    """Why nothing can be checked here; nothing if it can."""
    result = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, check=False, cwd=ROOT / "build_support"
    )
    lines = (result.stdout if result.returncode == 0 else result.stderr).strip().splitlines()
    return lines[-1] if lines else ""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ("tests", *SANITIZERS, "benchmarks", "networks")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="PART", help=" ".join(names))
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "gpu-check", help="default: runs/gpu-check")
    options = parser.parse_args(arguments)
    reason = reason_against()
    if reason:
        print(f"gpu-check: the kernels cannot run here: {reason}", file=sys.stderr)
        return 2
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    results = [run(part, out) for part in parts(out) if part.name in options.only]
    text = summary(results, out)
    (out / "summary.txt").write_text(text.lstrip() + "\n", encoding="utf-8")
    print(text)
    return 1 if any(result.status == "FAILED" for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
