"""The ops on the emulated backend: the kernels and adapters that ship, compiled for the CPU by the emulator."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import emulation
import pytest
import torch

from litehrnet_cuda import _extension, backends

ROOT = Path(__file__).resolve().parents[1]
CSRC = ROOT / "csrc"
KERNELS = sorted((CSRC / "cuda").glob("*.cu"))
ADAPTERS = sorted((CSRC / "ops").glob("*.cpp"))

# UndefinedBehaviorSanitizer, which mode "asan" takes as well; types at run time would need those of torch's library.
UNDEFINED = ("-fsanitize=undefined", "-fno-sanitize=vptr", "-fno-sanitize-recover=undefined")


def build(
    mode: str = "plain",
    *,
    defines: Mapping[str, object] | None = None,
    kernels: Sequence[Path] | None = None,
    adapters: Sequence[Path] | None = None,
    flags: Sequence[str] = (),
) -> Path:
    """A library with the operators in a namespace of their own, `litehrnet_emulated`, with kernels for the CPU.

    Args:
        mode: of `emulation.build`.
        defines: macros.
        kernels: replace csrc/cuda/*.cu.
        adapters: replace csrc/ops/*.cpp.
        flags: more arguments of the compiler and the linker.
    """
    torch_folder = Path(torch.__file__).parent
    return emulation.build(
        [*(adapters or ADAPTERS), *(kernels or KERNELS)],
        mode=mode,
        defines=defines,
        includes=[CSRC],
        flags=[
            *("-isystem", str(torch_folder / "include")),
            *("-DTORCH_STABLE_ONLY", "-DTORCH_TARGET_VERSION=0x020a000000000000ULL"),
            *flags,
        ],
        link=[f"-L{torch_folder / 'lib'}", "-ltorch_cpu", *flags],
    )


_in_place: list[torch.library.Library] = []
_schemas: list[torch.library.Library] = []


def load(mode: str = "plain") -> emulation.Library:
    """The library, whose operators take the place of the CPU's until `unload`: one mode per process."""
    loaded = _extension.load()
    if not loaded.ok:
        pytest.skip(f"needs the native library, which has the ops' schemas: {loaded.reason}")
    path = _path(mode)
    if not _in_place:
        put_in_place(path)
    return _library(path)


@cache
def _path(mode: str) -> Path:
    return build(mode)


@cache
def _library(path: Path) -> emulation.Library:
    return emulation.Library(path)


def put_in_place(path: Path) -> None:
    """Loads a library of `build`, and makes its operators those of the CPU."""
    _extension.load()
    if not _schemas:
        _schemas.append(torch.library.Library("litehrnet_emulated", "DEF"))
        for name in _operators():
            schema = str(getattr(torch.ops.litehrnet_cuda, name).default._schema)
            _schemas[0].define(schema.removeprefix("litehrnet_cuda::"))
    torch.ops.load_library(str(path))
    place = torch.library.Library("litehrnet_cuda", "IMPL")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?s).*Overriding a previously registered kernel")
        for name in _operators():
            if torch._C._dispatch_has_kernel_for_dispatch_key(f"litehrnet_emulated::{name}", "CPU"):
                place.impl(name, getattr(torch.ops.litehrnet_emulated, name).default, "CPU", allow_override=True)
    _in_place.append(place)
    backends.emulator_is_in_place = True


def unload() -> None:
    """Gives the CPU's own kernels their place back."""
    backends.emulator_is_in_place = False
    while _in_place:
        _in_place.pop()._destroy()


def _operators() -> list[str]:
    names = (name.partition("::") for name in torch._C._dispatch_get_all_op_names())
    return sorted(name for namespace, _, name in names if namespace == "litehrnet_cuda" and name != "build_info")
