"""Code in several processes that are connected as `torchrun` connects them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import litehrnet_cuda

_ROOT = str(Path(litehrnet_cuda.__file__).parents[1])
_TESTS = str(Path(__file__).parent)


def run_processes(count: int, *command: str, expected: int = 0, timeout: float = 120) -> list[str]:
    """Runs a Python command line in each of ``count`` processes of one machine, and returns what each printed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    path = os.pathsep.join((_ROOT, _TESTS))
    runs = []
    for rank in map(str, range(count)):
        environment = os.environ | common | {"RANK": rank, "LOCAL_RANK": rank, "PYTHONPATH": path}
        runs.append(
            subprocess.Popen(
                [sys.executable, *command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        )
    try:
        printed = [run.communicate(timeout=timeout)[0] for run in runs]
    finally:
        for run in runs:
            run.kill()
    assert [run.returncode for run in runs] == [expected] * count, "\n".join(printed)
    return printed
