"""`litehrnet env`: what a bug report needs to say about a machine."""

from __future__ import annotations

import argparse
import json
import platform
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(args: argparse.Namespace) -> int:
    environment = describe()
    print(json.dumps(environment, indent=2) if args.json else as_text(environment))
    return 0


def describe() -> dict[str, Any]:
    """Versions, devices, native library and backends of this machine, as JSON types."""
    from litehrnet_cuda import __version__, _extension, backends

    library = _extension.load()
    return {
        "litehrnet_cuda": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": _torch(),
        "native_library": {
            "loaded": library.ok,
            "path": str(library.path),
            "reason": library.reason,
            "build": _extension.build_info(),
        },
        "backends": {
            name: {"available": availability.ok, "reason": availability.reason}
            for name, availability in backends.backends().items()
        },
    }


def _torch() -> dict[str, Any]:
    try:
        import torch
    except (ImportError, OSError) as error:  # a report is wanted most where torch is broken
        return {"version": None, "error": f"{type(error).__name__}: {error}", "cuda": None, "devices": []}
    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {"version": torch.__version__, "error": None, "cuda": torch.version.cuda, "devices": devices}


def as_text(environment: dict[str, Any]) -> str:
    """The report as aligned lines."""
    torch, library = environment["torch"], environment["native_library"]
    if torch["cuda"] is None:
        cuda = "this torch is built without CUDA"
    else:
        cuda = f"{torch['cuda']}, devices: {', '.join(torch['devices']) or 'none seen'}"
    rows = {
        "litehrnet_cuda": environment["litehrnet_cuda"],
        "python": f"{environment['python']} on {environment['platform']}",
        "torch": torch["version"] or torch["error"],
        "cuda": cuda if torch["version"] else "unknown without torch",
        "native library": library["path"] if library["loaded"] else library["reason"],
    }
    if library["build"]:
        build = library["build"]
        rows["built"] = (
            f"version {build['version']}, {build['compiler']}, C++ {build['cxx_standard']}"
            f"{', debug' if build['debug'] else ''}, "
            f"CUDA architectures: {', '.join(build['cuda_architectures']) or 'none'}"
        )
    for name, backend in environment["backends"].items():
        rows[f"backend {name}"] = f"{'yes' if backend['available'] else 'no'}: {backend['reason']}"
    width = max(map(len, rows)) + 2
    return "\n".join(f"{label:<{width}}{text}" for label, text in rows.items())
