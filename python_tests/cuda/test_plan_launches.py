"""Kernels that may start before the launches before them have ended wait for those before anything else.

The emulator runs one launch after the other, so that it cannot find a wait that is missing.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from emulated_ops import KERNELS

from litehrnet_cuda.plan.steps import STEPS

DEPENDENT = [path for path in KERNELS if "launch_dependent(" in path.read_text(encoding="utf-8")]


def test_steps_are_launched_so() -> None:
    assert len(DEPENDENT) >= len(STEPS)


@pytest.mark.parametrize("path", DEPENDENT, ids=lambda path: path.stem)
def test_kernels_wait_first(path: Path) -> None:
    first_lines = re.findall(r"__global__[^{;]*{\s*([^\n]*)", path.read_text(encoding="utf-8"))
    assert first_lines
    assert set(first_lines) == {"wait_for_launches_before();"}
