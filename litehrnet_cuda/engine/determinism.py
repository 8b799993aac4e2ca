"""Equal results to the bit from one run to the next."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def deterministic_algorithms(enabled: bool) -> Iterator[None]:
    """Lets PyTorch choose algorithms that add in a fixed order, and restores what was chosen before.

    The fused ops are deterministic by design. What PyTorch has no such algorithm for, it warns of.

    Args:
        enabled: False leaves everything as it is, but lets cuDNN try out which algorithm is the fastest.
    """
    cudnn = torch.backends.cudnn
    memory: Any = torch.utils.deterministic
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        cudnn.deterministic,
        cudnn.benchmark,
        memory.fill_uninitialized_memory,
    )
    if enabled:
        # Read when cuBLAS is first used; without it, a fixed order is not promised from CUDA 10.2 on.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        cudnn.deterministic = True
        memory.fill_uninitialized_memory = False  # costs time, and none is read here before it is written
    cudnn.benchmark = not enabled
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        cudnn.deterministic, cudnn.benchmark, memory.fill_uninitialized_memory = before[2:]
