"""Functions run in several processes that form a group of ``torch.distributed`` over loopback."""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed as dist
import torch.multiprocessing as multiprocessing


def run_together(folder: Path, function: Callable[..., Any], *arguments: Any, count: int = 2) -> list[Any]:
    """What a function returns in each process of a group.

    Args:
        folder: an empty one, for what the processes leave.
        function: of a module that can be imported, as everything it gets and returns can be pickled.
        count: number of processes.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(_run, (count, port, folder, function, arguments), nprocs=count)
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(count)]


def _run(rank: int, count: int, port: int, folder: Path, function: Callable[..., Any], arguments: Any) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": str(count)}
    dist.init_process_group("gloo")
    try:
        result = function(*arguments)
    finally:
        dist.destroy_process_group()
    (folder / f"{rank}.pickle").write_bytes(pickle.dumps(result))
