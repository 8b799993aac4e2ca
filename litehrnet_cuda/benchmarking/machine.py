"""What has to be known about a machine to understand a time that was measured on it."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "onnxruntime", "onnxruntime-gpu", "onnxscript", "openvino", "tensorrt")
INSTRUCTION_SETS = ("avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd", "sve")


def describe_machine() -> dict[str, Any]:
    """Processor, its instruction sets, number of cores, memory, GPUs, and the runtimes' versions, as JSON types.

    ``capability`` is what our own kernels for CPUs use, ``torch_capability`` what PyTorch's do.
    """
    import torch

    from litehrnet_cuda import __version__, _extension

    cpu = _cpu_info()
    return {
        "cpu": cpu.get("model name") or platform.processor() or platform.machine(),
        "instruction_sets": [name for name in INSTRUCTION_SETS if name in _flags(cpu)],
        "cores": usable_cores(),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "capability": (_extension.build_info() or {}).get("cpu_capability", ""),
        "torch_capability": torch.backends.cpu.get_cpu_capability(),
        "versions": {"litehrnet_cuda": __version__, **installed(PACKAGES)},
    }


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def installed(packages: Sequence[str]) -> dict[str, str]:
    """The versions of those that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _cpu_info(path: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """The first processor's lines; nothing where the system has no such file."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return {}
    lines = re.findall(r"^([^:\n]+?)\s*: *(.*)$", text.split("\n\n")[0], re.MULTILINE)
    return dict(lines)


def _flags(cpu: dict[str, str]) -> set[str]:
    return set((cpu.get("flags") or cpu.get("Features") or "").split())


class Load:
    """How busy others kept the machine from here to :meth:`end`."""

    def __init__(self) -> None:
        self._average, self._start, self._busy = _load_average(), time.perf_counter(), self._others()

    def end(self) -> dict[str, Any]:
        """Load averages over a minute at begin and end, and the cores that others kept busy; None if not known."""
        seconds, busy = time.perf_counter() - self._start, self._others()
        others = None
        if busy is not None and self._busy is not None and seconds > 0:
            others = round(max(0.0, busy - self._busy) / seconds, 2)
        return {"begin": self._average, "end": _load_average(), "cores_busy_with_others": others}

    def _others(self) -> float | None:
        """Seconds that all cores were busy, but for this process and those of its children that have ended."""
        try:
            fields = Path("/proc/stat").read_text(encoding="utf-8").split("\n", 1)[0].split()[1:]
        except OSError:
            return None
        user, nice, system, _idle, _waiting, *interrupts = map(int, fields[:8])  # the last one: stolen by a host
        ticks = user + nice + system + sum(interrupts)
        return ticks / os.sysconf("SC_CLK_TCK") - sum(os.times()[:4])


def _load_average() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except (OSError, AttributeError):
        return None
