"""Loads the native library when it is first asked for, and remembers why it could not."""

from __future__ import annotations

import functools
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIBRARY = Path(__file__).with_name("_C.so")
_ABSENT = LIBRARY.with_suffix(".absent")  # setup.py writes the reason here when it leaves the library out


@dataclass(frozen=True)
class Loaded:
    """The outcome of loading the native library.

    Args:
        path: where the library is or would be.
        reason: why it could not be loaded, with the loader's own message, or None where it is loaded.
    """

    path: Path
    reason: str | None

    @property
    def ok(self) -> bool:
        return self.reason is None


@functools.cache
def load() -> Loaded:
    """Loads the library once and registers its operators as ``torch.ops.litehrnet_cuda``.

    Never raises: a missing library is an outcome with a reason. One that is there and does not load also gives one
    RuntimeWarning, because then something is broken.
    """
    if not LIBRARY.is_file():
        why = (
            _ABSENT.read_text(encoding="utf-8").strip()
            if _ABSENT.is_file()
            else "this source tree has no library yet; `python setup.py build_ext --inplace` builds one"
        )
        return Loaded(LIBRARY, f"not built: {why}")
    try:
        import torch

        torch.ops.load_library(str(LIBRARY))  # type: ignore[no-untyped-call]
    except (ImportError, OSError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {error}"
        warnings.warn(f"litehrnet_cuda: the native library does not load: {reason}", RuntimeWarning, stacklevel=2)
        return Loaded(LIBRARY, reason)
    return Loaded(LIBRARY, None)


def build_info() -> dict[str, Any] | None:
    """How the library was built: version, compiler, C++ standard, CUDA architectures; None where it is not loaded."""
    if not load().ok:
        return None
    import torch

    info: dict[str, Any] = json.loads(torch.ops.litehrnet_cuda.build_info())
    return info
