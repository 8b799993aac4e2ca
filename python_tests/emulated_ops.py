"""The ops on the emulated backend: the kernels and adapters that ship, compiled for the CPU by the emulator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import emulation
import pytest
import torch

from litehrnet_cuda import _extension

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
    """A library that registers the ops' kernels for the CPU; the schemas come from the package's own library.

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


@cache
def load(mode: str = "plain") -> emulation.Library:
    """The library, with its ops registered in this process: one mode per process."""
    loaded = _extension.load()
    if not loaded.ok:
        pytest.skip(f"needs the native library, which has the ops' schemas: {loaded.reason}")
    path = build(mode)
    torch.ops.load_library(str(path))
    return emulation.Library(path)
