"""What the builds without memory checks do: AddressSanitizer, barriers, use from several threads."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import emulation
import numpy as np
import pytest

HERE = Path(__file__).parent
LANGUAGE, SEEDED_BUGS = HERE / "language.cu", HERE / "seeded_bugs.cu"
INCLUDES = [emulation.ROOT / "csrc"]

# Run in a process that has AddressSanitizer. The arrays are plain memory of exactly their size.
ASAN_SCRIPT = """
import sys
from pathlib import Path
import numpy as np
import emulation

language, seeded_bugs, bug = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
if bug == 0:
    library = emulation.Library(language)
    for seed in range(4):
        library.configure(seed=seed)
        scratch, y = np.zeros(11, np.int32), np.zeros(11, np.int32)
        assert library.call("rotate", scratch, y, 3, 11) == 0
        assert y.tolist() == [1000 * ((b + 3) % 11) + b for b in range(11)]
        x, argument, results = np.arange(32, dtype=np.int32), np.arange(32, dtype=np.int32), np.zeros(480, np.int32)
        assert library.call("collectives", x, argument, 32, results) == 0
        assert library.call("parameters", np.zeros(30)) == 0
library = emulation.Library(seeded_bugs)
library.set_bug(bug)
x, y = np.arange(256, dtype=np.float32), np.zeros(256, np.float32)
assert library.call("reverse_dynamic", x, y) == 0
assert (y == x[::-1]).all()
assert library.errors() == []
print("clean")
"""


def bug_number(name: str) -> int:
    enum = re.search(r"enum Bug \{(.*?)\}", SEEDED_BUGS.read_text(encoding="utf-8"), re.DOTALL)
    assert enum is not None
    return [part.strip() for part in enum.group(1).split(",")].index(name)


def run_with_asan(bug: str) -> subprocess.CompletedProcess[str]:
    libraries = [emulation.build([source], mode="asan", includes=INCLUDES) for source in (LANGUAGE, SEEDED_BUGS)]
    environment = {**emulation.asan_environment(), "PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", ASAN_SCRIPT, *map(str, libraries), str(bug_number(bug))]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_correct_kernels_are_clean_under_address_sanitizer() -> None:
    result = run_with_asan("NONE")
    assert (result.returncode, result.stdout.strip()) == (0, "clean"), result.stderr


def test_address_sanitizer_sees_the_end_of_dynamic_shared_memory() -> None:
    result = run_with_asan("DYNAMIC_SHARED")
    assert result.returncode != 0
    assert "ERROR: AddressSanitizer" in result.stderr
    assert "reverse_dynamic_kernel" in result.stderr


@pytest.fixture(scope="module")
def plain() -> emulation.Library:
    return emulation.load([SEEDED_BUGS], mode="plain", includes=INCLUDES)


@pytest.mark.parametrize(
    ("bug", "function", "kind"),
    [
        ("DIVERGENT_BARRIER", "reverse", "divergent barrier"),
        ("SKIPPED_BARRIER", "reverse", "barrier not reached"),
        ("CONDITIONAL_BARRIER", "warp_sum", "deadlock"),
        ("SHUFFLE_EXITED", "warp_sum", "shuffle from an absent lane"),
    ],
)
def test_plain_build_checks_barriers_and_collectives(
    plain: emulation.Library, bug: str, function: str, kind: str
) -> None:
    plain.reset()
    plain.set_bug(bug_number(bug))
    x, y = np.zeros(256, np.float32), np.zeros(256, np.float32)
    error = plain.call(function, x, y, 256) if function == "reverse" else plain.call(function, x, y)
    plain.set_bug(0)
    assert error != 0
    assert kind in plain.kinds()


def test_threads_of_the_host_take_turns() -> None:
    library = emulation.load([LANGUAGE], mode="plain", includes=INCLUDES)
    library.reset()

    def rotate(steps: int) -> list[int]:
        scratch, y = np.zeros(11, np.int32), np.zeros(11, np.int32)
        assert library.call("rotate", scratch, y, steps, 11) == 0
        return [int(value) for value in y]

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(rotate, range(40)))
    assert results == [[1000 * ((b + steps) % 11) + b for b in range(11)] for steps in range(40)]
    assert len(library.launches()) == 40


def test_two_builds_of_one_source_share_nothing() -> None:
    one = emulation.load([LANGUAGE], mode="plain", includes=INCLUDES)
    other = emulation.load([LANGUAGE], mode="plain", includes=INCLUDES, defines={"ANOTHER": 1})
    one.reset()
    other.reset()
    assert one.call("launch_nothing", 1, 1, 1, 32, 1, 1, 0) == 0
    assert (len(one.launches()), len(other.launches())) == (1, 0)


def test_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="mode: expected one of plain, checked, asan, got 'fast'"):
        emulation.build([LANGUAGE], mode="fast")
