"""Code in several processes of this machine that are connected as `torchrun` connects them."""

from __future__ import annotations

import importlib
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import litehrnet_cuda

_ROOT = str(Path(litehrnet_cuda.__file__).parents[1])
_TESTS = str(Path(__file__).parent)


def run_processes(count: int, *command: str, expected: int = 0, timeout: float = 120) -> list[str]:
    """Runs a Python command line in each of ``count`` processes, and returns what each printed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    common |= {"LOCAL_WORLD_SIZE": str(count), "PYTHONPATH": os.pathsep.join((_ROOT, _TESTS))}
    runs = []
    for rank in map(str, range(count)):
        environment = os.environ | common | {"RANK": rank, "LOCAL_RANK": rank}
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


def run_together(folder: Path, function: Callable[..., Any], *arguments: Any, count: int = 2) -> list[Any]:
    """What a function returns in each of several processes.

    Args:
        folder: an empty one, for what the processes leave.
        function: of a module that can be imported, called with the
            :class:`~litehrnet_cuda.engine.distributed.Processes` and the arguments, which can be pickled.
        count: number of processes.
    """
    call = (function.__module__, function.__name__, arguments)
    (folder / "call.pickle").write_bytes(pickle.dumps(call))
    run_processes(count, "-m", "processes", str(folder))
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(count)]


def _call(folder: Path) -> None:
    import torch

    from litehrnet_cuda.engine.distributed import connected

    module, name, arguments = pickle.loads((folder / "call.pickle").read_bytes())
    function = getattr(importlib.import_module(module), name)
    with connected(torch.device("cpu")) as processes:
        result = function(processes, *arguments)
    (folder / f"{processes.rank}.pickle").write_bytes(pickle.dumps(result))


if __name__ == "__main__":
    _call(Path(sys.argv[1]))
