"""What the launches of a forward pass read and write, against what each has to, given what the ones before left.

The network is litehrnet_18 with one image. Counts are the emulator's and exact. What goes through memory once a launch
are the sectors of 32 bytes that it touches, each once, given caches that hold them; compulsory bytes are those of
litehrnet_cuda/plan/costs.py, to which tables of planes and the ends of sectors come.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from typing import Any

import plan_traffic
import pytest

MOST = 1.3  # bytes through memory, compared with compulsory ones

# How many times the compulsory bytes warps ask for in steps of a kind, at 256x192 in fp32: a few percent above the
# counts. What is asked for again comes from caches: L1 what a block asks for again, L2 what other blocks do. At batch 1
# blocks are many and small, so that all multiprocessors have some, and matrices are larger than their tiles of pixels.
ASKED = {
    "StemConvolution": 3.0,  # neighbours share nine taps of every channel, 9/4 a pixel
    "SeparableConvolution": 21,  # nine taps; parts of the rows filter the same pixels; matrices, by every tile
    "ResolutionGates": 12.3,  # 96 blocks read the pending gates' matrices, W1 and half of W2, 118 KB in the last stage
    "GatedDepthwise": 1.4,  # a row above and below each tile of 8 rows, nine weights
    "FuseUpward": 19.3,  # gates' matrices by every block, low positions by every group of rows, W by every tile
    "FuseDownward": 39,  # nine taps, 9/4 a pixel, and low positions, both by every group of 8 rows; W by every tile
    "HeadConvolution": 67,  # a tile of 4x4 with its edge is 36 pixels, four corners each, by every group of 8 rows
}

Rows = list[dict[str, Any]]


@cache
def counted(size: str, dtype: str) -> Rows:
    # A process can load the emulated ops once, and here it is the build that counts.
    command = [sys.executable, plan_traffic.__file__, "--size", size, "--dtype", dtype]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if "needs the native library" in result.stderr:
        pytest.skip("needs the native library, which has the ops' schemas")
    assert result.returncode == 0, result.stderr
    return list(json.loads(result.stdout))


def ratio(rows: Rows, what: str) -> float:
    return sum(row[what] for row in rows) / sum(row["compulsory"] for row in rows)


def by_kind(rows: Rows) -> dict[str, Rows]:
    return {kind: [row for row in rows if row["kind"] == kind] for kind in ASKED}


@pytest.mark.parametrize(
    ("size", "dtype"),
    [
        ("64x48", "float32"),
        pytest.param("256x192", "float32", marks=pytest.mark.slow),
        pytest.param("256x192", "float16", marks=pytest.mark.slow),
    ],
)
def test_bytes_through_memory(size: str, dtype: str) -> None:
    rows = counted(size, dtype)
    assert sum(map(len, by_kind(rows).values())) == len(rows) == 65
    assert ratio(rows, "touched") <= MOST
    for kind, of_kind in by_kind(rows).items():
        assert 1 <= ratio(of_kind, "touched") <= MOST, kind  # less: some operand is not read
    if size == "256x192":  # at 64x48, tables of planes are as large as the planes of the last branches
        for row in rows:
            assert ratio([row], "touched") <= MOST, row["step"]


@pytest.mark.slow
def test_bytes_that_are_asked_for() -> None:
    for kind, rows in by_kind(counted("256x192", "float32")).items():
        assert ratio(rows, "asked") <= ASKED[kind], kind
