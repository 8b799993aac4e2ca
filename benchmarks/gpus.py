"""The GPU at hand and the sources that are measured on it; those of data sheets are in litehrnet_cuda/plan/gpus.py."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def peak_gigabytes_per_second(properties: Any) -> float | None:
    """Twice the memory clock (two transfers a cycle) times the width of the bus.

    Args:
        properties: of `torch.cuda.get_device_properties`; None is returned for a torch that does not tell them.
    """
    clock = getattr(properties, "memory_clock_rate", 0)  # kHz
    width = getattr(properties, "memory_bus_width", 0)  # bits
    return 2 * clock * 1e3 * width / 8 / 1e9 if clock > 0 and width > 0 else None


def driver_version() -> str:
    """The driver's version as nvidia-smi tells it, else "unknown"."""
    versions = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return versions.splitlines()[0] if versions else "unknown"


def commit() -> str:
    """The commit of the source tree, with "+" where files differ from it, else "unknown"."""
    git = ("git", "-C", str(ROOT))
    head = _output(*git, "rev-parse", "--short", "HEAD")
    if not head:
        return "unknown"
    return head + ("+" if _output(*git, "status", "--porcelain", "--untracked-files=no") else "")


def _output(*command: str) -> str:
    """What a program prints; nothing where it is missing or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
