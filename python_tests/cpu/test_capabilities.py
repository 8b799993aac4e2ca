"""The ops' suites once more with what lesser processors can do."""

from __future__ import annotations

import platform
from pathlib import Path

import compilers
import pytest
from cpu_op_suites import run_op_suites

from litehrnet_cuda.backends import can_run_cpu

CAPABILITIES = list(compilers.cpu_kernel_flags(platform.machine()))


@pytest.mark.slow
@pytest.mark.parametrize("capability", CAPABILITIES[:-1])
@pytest.mark.skipif(not can_run_cpu().ok, reason=can_run_cpu().reason)
def test_ops_with_less(capability: str, tmp_path: Path) -> None:
    run_op_suites(tmp_path, capability, "matches_reference or same_bits or layouts")
