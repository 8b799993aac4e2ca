"""What the launches of a block in training read and write, against what each has to, given what the ones before left.

The block is the four-branch one of the published networks at 256x192, two images in fp32: 5 launches forward, 8
backward. What they have to move is said in benchmarks/ops/bench_conditional_channel_weighting_batch_norm.py and in the
headers of the kernels. Counts are the emulator's and exact: of sectors of 32 bytes that a launch touches, each once,
which is what goes through memory with caches that hold all of it, and of sectors that warps ask for, as without any.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import emulated_ops
import pytest

# Launches that read or write whole maps, and how many times the bytes that they have to read warps may ask for, with
# why: what is read again comes from caches, in which a tile's rows, weights and parts stay.
MAPS = {
    ("forward", 1): 7,  # 96 blocks read W1, 44 KB, once each: 4.3 MB beside maps of 0.9 MB
    ("forward", 3): 2.1,  # a row above and below each tile of 8 rows; nine weights, and the gates' parts in each group
    ("forward", 5): 1.5,  # a tile reads its image's sums and W1 anew
    ("backward", 1): 1.1,
    ("backward", 4): 1.4,  # rows above and below, of two of three maps
    ("backward", 5): 1.2,
    ("backward", 8): 1.7,  # gates and gradients of pooled maps, by each pixel; parts of the matrices' gradients
}
OTHERS = [("forward", 2), ("forward", 4), ("backward", 2), ("backward", 3), ("backward", 6), ("backward", 7)]

Launches = dict[tuple[str, int], dict[str, Any]]


@pytest.fixture(scope="module")
def launches() -> Launches:
    script = (
        "import json, sys; sys.path.append(sys.argv[1])\n"
        "from benchmarks import cases, emulated\n"
        "from benchmarks.ops.bench_conditional_channel_weighting_batch_norm import BENCHMARK\n"
        "case = cases.Case(cases.STAGES['stage4'], 2, cases.DTYPES['float32'])\n"
        "print(json.dumps(list(emulated.rows(emulated.load_emulator(), BENCHMARK, case))))\n"
    )
    # A process can load the emulated ops once, and here it is the build that counts.
    command = [sys.executable, "-c", script, str(emulated_ops.ROOT)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if "needs the native library" in result.stderr:
        pytest.skip("needs the native library, which has the ops' schemas")
    assert result.returncode == 0, result.stderr
    return {(row["mode"], row["launch"]): row for row in json.loads(result.stdout)}


def touched(row: dict[str, Any]) -> int:
    return int(row["touched_read"] + row["touched_written"])


def test_launches_are_those_of_this_file(launches: Launches) -> None:
    assert sorted(launches) == sorted([*MAPS, *OTHERS])


@pytest.mark.parametrize("launch", MAPS, ids=lambda launch: f"{launch[0]}_{launch[1]}")
def test_maps_go_through_memory_once(launches: Launches, launch: tuple[str, int]) -> None:
    row = launches[launch]
    # Beside the maps there are parts of sums and parameters: a tenth in the last launch, which sums the parts of the
    # matrices' gradients.
    assert touched(row) <= 1.11 * (row["boundary_read"] + row["boundary_written"])


@pytest.mark.parametrize("launch", MAPS, ids=lambda launch: f"{launch[0]}_{launch[1]}")
def test_what_is_asked_for_again(launches: Launches, launch: tuple[str, int]) -> None:
    row = launches[launch]
    assert row["sector_read"] <= MAPS[launch] * row["boundary_read"]
    # Rows of less than a sector are written by several requests: those of 6 pixels, and parts of sums. Hidden values,
    # which the first launch writes, are 28 KB in all.
    if launch != ("forward", 1):
        assert row["sector_written"] <= 1.4 * row["boundary_written"]


def test_what_lies_between_is_small(launches: Launches) -> None:
    """Launches without maps, which the sums over the whole batch make necessary, move a twelfth of all bytes."""
    others = sum(touched(launches[launch]) for launch in OTHERS)
    assert others <= 0.09 * sum(touched(row) for row in launches.values())
