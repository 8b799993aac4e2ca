"""Each mistake that the emulator looks for is found in a kernel that has it, at its line, and in no other kernel."""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass
from pathlib import Path

import emulation
import numpy as np
import pytest

SOURCE = Path(__file__).with_name("seeded_bugs.cu")
TEXT = SOURCE.read_text(encoding="utf-8")
ENUM = re.search(r"enum Bug \{(.*?)\}", TEXT, re.DOTALL)
assert ENUM is not None
BUGS = [name.strip() for name in ENUM.group(1).split(",") if name.strip()]
SEEDS = range(6)

ILLEGAL_ADDRESS, MISALIGNED_ADDRESS, LAUNCH_FAILURE = 700, 716, 719


@dataclass
class Expected:
    function: str
    kinds: set[str]  # one of these must be reported at a line with the bug's name
    error: int = LAUNCH_FAILURE


EXPECTED = {
    "MISSING_BARRIER": Expected("reverse", {"race"}),
    "DIVERGENT_BARRIER": Expected("reverse", {"divergent barrier"}),
    "SKIPPED_BARRIER": Expected("reverse", {"barrier not reached"}),
    "CONDITIONAL_BARRIER": Expected("warp_sum", {"deadlock"}),
    "GLOBAL_READ": Expected("reverse", {"out of bounds"}, ILLEGAL_ADDRESS),
    "GLOBAL_WRITE": Expected("reverse", {"out of bounds"}, ILLEGAL_ADDRESS),
    "STATIC_SHARED": Expected("reverse", {"out of bounds"}, ILLEGAL_ADDRESS),
    "DYNAMIC_SHARED": Expected("reverse_dynamic", {"out of bounds"}, ILLEGAL_ADDRESS),
    "MISALIGNED": Expected("reverse_dynamic", {"misaligned access"}, MISALIGNED_ADDRESS),
    "UNINITIALISED_SHARED": Expected("reverse", {"uninitialised read"}),
    "UNINITIALISED_GLOBAL": Expected("copy_twice", {"uninitialised read"}),
    "BLOCKS_SHARE_A_SUM": Expected("last_block", {"race"}),
    "MISSING_FENCE": Expected("last_block", {"race"}),
    "MISSING_GRID_BARRIER": Expected("neighbours", {"race"}),
    "SHUFFLE_UNNAMED": Expected("warp_sum", {"shuffle from an absent lane"}),
    "SHUFFLE_EXITED": Expected("warp_sum", {"shuffle from an absent lane"}),
    "ABSENT_LANES": Expected("warp_sum", {"mask names absent lanes"}),
    "MISSING_SYNCWARP": Expected("warp_exchange", {"race"}),
    "SYNCWARP_OF_A_HALF": Expected("warp_exchange", {"race"}),
    "SHUFFLE_AS_BARRIER": Expected("warp_exchange", {"race"}),
    "DIVERGENT_SHUFFLE": Expected("warp_sum", {"divergent collective"}),
}


def marked_lines(bug: str) -> set[int]:
    """The lines whose comment names the bug."""
    return {
        number
        for number, line in enumerate(TEXT.splitlines(), 1)
        if "//" in line and bug in re.split(r"[ ,]+", line.split("//")[1].strip())
    }


@pytest.fixture(scope="module")
def library() -> emulation.Library:
    return emulation.load([SOURCE], mode="checked", includes=[emulation.ROOT / "csrc"])


def run(library: emulation.Library, function: str, seed: int) -> tuple[int, bool]:
    """Runs one of the kernels, and returns its error and whether its result is right."""
    library.reset()
    library.configure(seed=seed)
    numbers = np.arange(1, 257, dtype=np.float32)
    x = library.copy(numbers, "x")
    if function == "reverse":
        y = library.empty(256, np.float32, "y")
        error = library.call("reverse", x, y, 256)
        return error, np.array_equal(y.reshape(4, 64), numbers.reshape(4, 64)[:, ::-1])
    if function == "reverse_dynamic":
        y = library.empty(256, np.float32, "y")
        error = library.call("reverse_dynamic", x, y)
        return error, np.array_equal(y, numbers[::-1])
    if function == "copy_twice":
        between, y = library.empty(100, np.float32, "between"), library.empty(100, np.float32, "y")
        error = library.call("copy_twice", x, between, y, 100)
        return error, np.array_equal(y, 4 * numbers[:100])
    if function == "last_block":
        parts, total = library.empty(9, np.float32, "parts"), library.copy(np.zeros(1, np.float32), "total")
        ticket = library.copy(np.zeros(1, np.uint32), "ticket")
        error = library.call("last_block", x, parts, ticket, total, 9)
        return error, total[0] == 45
    if function == "neighbours":
        scratch, y = library.empty(9, np.float32, "scratch"), library.empty(9, np.float32, "y")
        error = library.call("neighbours", x, scratch, y, 9)
        return error, np.array_equal(y, numbers[:9] + np.roll(numbers[:9], -1))
    y = library.empty(32, np.float32, "y")
    error = library.call(function, x, y)
    wanted = np.full(32, numbers[:32].sum()) if function == "warp_sum" else numbers[np.arange(32) ^ 16]
    return error, np.array_equal(y, wanted)


def test_every_bug_is_expected_to_be_found() -> None:
    assert [*EXPECTED] == BUGS[1:]


@pytest.mark.parametrize("function", sorted({expected.function for expected in EXPECTED.values()}))
@pytest.mark.parametrize("seed", SEEDS)
def test_correct_kernel_is_clean(library: emulation.Library, function: str, seed: int) -> None:
    library.set_bug(0)
    error, right = run(library, function, seed)
    assert (error, right, library.errors()) == (0, True, [])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("bug", EXPECTED)
def test_bug_is_found(library: emulation.Library, bug: str, seed: int) -> None:
    expected = EXPECTED[bug]
    library.set_bug(BUGS.index(bug))
    error, _ = run(library, expected.function, seed)
    library.set_bug(0)
    assert error == expected.error
    lines = marked_lines(bug)
    found = [
        report
        for report in library.errors()
        if report["kind"] in expected.kinds and {report["line"], report["other_line"]} & lines
    ]
    assert found, f"expected {expected.kinds} at line {lines}, got {library.errors()}"
    assert found[0]["file"] == str(SOURCE)
    kernel = {"copy_twice": "copy_kernel"}.get(expected.function, f"{expected.function}_kernel")
    assert found[0]["kernel"] == kernel


def test_report_names_all_there_is_to_know(library: emulation.Library) -> None:
    library.set_bug(BUGS.index("GLOBAL_WRITE"))
    run(library, "reverse", 0)
    library.set_bug(0)
    (report,) = library.errors()
    (line,) = marked_lines("GLOBAL_WRITE")
    assert report["buffer"] == "y"
    assert report["block"] == [3, 0, 0]
    assert report["thread"] == [63, 0, 0]
    assert report["message"] == (
        "reverse_kernel: out of bounds in y: a write of 4 bytes that ends 4 bytes behind the 1024 that there are, "
        f"block (3, 0, 0), thread (63, 0, 0), at {SOURCE}:{line}"
    )


def test_race_names_both_sides(library: emulation.Library) -> None:
    library.set_bug(BUGS.index("MISSING_FENCE"))
    run(library, "last_block", 0)
    library.set_bug(0)
    (report,) = library.errors()
    assert report["buffer"] == "parts"
    assert "a read after a write by thread 0 of block 0" in report["message"]
    assert "parts[blockIdx.x] = x[blockIdx.x]" in TEXT.splitlines()[report["other_line"] - 1]


def test_error_string_tells_the_first_report(library: emulation.Library) -> None:
    library.set_bug(BUGS.index("GLOBAL_READ"))
    error, _ = run(library, "reverse", 0)
    library.set_bug(0)
    assert error == ILLEGAL_ADDRESS
    library.error_string.restype = ctypes.c_char_p
    text = library.error_string(error).decode()
    assert text.startswith("cudaErrorIllegalAddress: reverse_kernel: out of bounds in x: a read of 4 bytes")
