"""Which backends can run here, for those that cannot, why, and which one a tensor is given to.

``reference`` is plain PyTorch. ``cuda`` are the fused kernels on a GPU. ``cpu`` is vectorised C++ that runs the plans
of :func:`litehrnet_cuda.optimize_for_inference`. ``triton`` are kernels that Triton compiles when they are first
called, for blocks in inference on GPUs that the native library has no kernels for. ``emulated`` are the CUDA kernels
run on the CPU by the project's emulator: test equipment, never chosen by itself.

``auto`` takes ``cuda`` for CUDA tensors where it can, else ``triton``, and ``cpu`` for those on the CPU; ``reference``
is what is left. The environment variable ``LITEHRNET_CUDA_BACKEND`` or :func:`use_backend` ask for one by name, and get
it or an error; what ``triton`` has nothing for, such as gradients, is plain PyTorch's.
``LITEHRNET_CUDA_CPU_CAPABILITY`` asks for no more than ``baseline``, ``avx2`` or ``avx512`` of what the processor has.
"""

from __future__ import annotations

import functools
import os
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple

from litehrnet_cuda import _extension
from litehrnet_cuda.errors import InputError

VARIABLE = "LITEHRNET_CUDA_BACKEND"
INTERPRETER_VARIABLE = "TRITON_INTERPRET"  # Triton's own: runs kernels on the CPU, one program after the other
TRITON_CAPABILITY = (8, 0)  # the least that it supports
CPU_CAPABILITY_VARIABLE = "LITEHRNET_CUDA_CPU_CAPABILITY"
CPU_CAPABILITIES = ("baseline", "avx2", "avx512")

# Set by the project's tests while the emulator's kernels stand in the place of the CPU's.
emulator_is_in_place = False

_asked_for: ContextVar[str | None] = ContextVar("backend", default=None)


class Availability(NamedTuple):
    """Whether a backend can run on this machine, and one clause that says why or why not."""

    ok: bool
    reason: str


def can_run_reference() -> Availability:
    """The plain PyTorch definitions run wherever torch does."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return Availability(False, f"torch cannot be imported: {error}")
    return Availability(True, f"plain PyTorch {torch.__version__}, on every device that it supports")


@functools.cache
def can_run_cuda() -> Availability:
    """The kernels need a library that was built with them, and a device."""
    library = _extension.load()
    if not library.ok:
        return Availability(False, f"the native library is not there: {library.reason}")
    architectures = (_extension.build_info() or {}).get("cuda_architectures")
    if not architectures:
        return Availability(False, "the native library was built without CUDA")
    import torch

    if torch.version.cuda is None:
        return Availability(False, f"torch {torch.__version__} is built without CUDA")
    if not torch.cuda.is_available():
        return Availability(False, "torch finds no CUDA device")
    capability = torch.cuda.get_device_capability()
    if not covers(architectures, capability):
        number = f"{capability[0]}.{capability[1]}"
        return Availability(
            False,
            f"the kernels were built for {', '.join(architectures)}, and {torch.cuda.get_device_name()} is {number}; "
            f"TORCH_CUDA_ARCH_LIST={number} builds for it",
        )
    return Availability(True, f"kernels for {', '.join(architectures)}")


def covers(architectures: Sequence[str], capability: tuple[int, int]) -> bool:
    """Whether code for architectures such as ``["8.0", "9.0+PTX"]`` runs on a GPU of a compute capability.

    Machine code runs on later minor versions of its major version, PTX on all later versions.
    """
    for architecture in architectures:
        major, minor = map(int, architecture.removesuffix("+PTX").split("."))
        if major == capability[0] and minor <= capability[1]:
            return True
        if architecture.endswith("+PTX") and (major, minor) <= capability:
            return True
    return False


@functools.cache
def can_run_triton() -> Availability:
    """Triton's kernels need Triton, a GPU that it compiles for, and what it builds their launchers with."""
    missing = "" if is_interpreted() else _missing_gpu_of_triton() or _missing_compiler_of_triton()
    if missing:
        return Availability(False, missing)
    try:
        import triton
    except (ImportError, OSError) as error:
        return Availability(False, f"triton cannot be imported, and `pip install triton` installs it: {error}")
    how = "interprets kernels on the CPU, for tests" if is_interpreted() else "compiles kernels for blocks in inference"
    return Availability(True, f"Triton {triton.__version__} {how}")


def is_interpreted() -> bool:
    """Whether Triton has been told to interpret kernels on the CPU, which tests do."""
    return os.environ.get(INTERPRETER_VARIABLE) == "1"


def _missing_gpu_of_triton() -> str:
    reference = can_run_reference()
    if not reference.ok:
        return reference.reason
    import torch

    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    if not torch.cuda.is_available():
        return "torch finds no CUDA device"
    capability = torch.cuda.get_device_capability()
    if capability >= TRITON_CAPABILITY:
        return ""
    least, number = (".".join(map(str, version)) for version in (TRITON_CAPABILITY, capability))
    return f"Triton compiles for {least} and later, and {torch.cuda.get_device_name()} is {number}"


def _missing_compiler_of_triton() -> str:
    if sys.platform == "win32":  # where Triton brings its own
        return ""
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return "Triton builds what launches kernels with gcc or clang, and there is neither"
    include = sysconfig.get_paths()["include"]
    if not Path(include, "Python.h").is_file():
        return f"Triton builds what launches kernels with Python's headers, and {include} (python3-dev) has none"
    return ""


def can_run_cpu() -> Availability:
    """The CPU's kernels need a library alone."""
    if emulator_is_in_place:
        return Availability(False, "the emulator of the project's tests is in its place")
    return _can_run_cpu(os.environ.get(CPU_CAPABILITY_VARIABLE))


@functools.cache
def _can_run_cpu(asked_for: str | None) -> Availability:
    library = _extension.load()
    if not library.ok:
        return Availability(False, f"the native library is not there: {library.reason}")
    capability = (_extension.build_info() or {}).get("cpu_capability", "")
    if asked_for and asked_for not in CPU_CAPABILITIES:
        raise InputError(f"{CPU_CAPABILITY_VARIABLE}: expected {', '.join(CPU_CAPABILITIES)}, got {asked_for!r}")
    if asked_for and CPU_CAPABILITIES.index(capability) > CPU_CAPABILITIES.index(asked_for):
        return Availability(False, f"{CPU_CAPABILITY_VARIABLE} was set too late: {capability} is in use already")
    return Availability(True, f"vectorised C++ for plans, {capability}")


def can_run_emulated() -> Availability:
    """Only tests load the emulated kernels, which are no part of the package."""
    if not emulator_is_in_place:
        return Availability(False, "the kernels run on the emulator in the project's own tests only")
    return Availability(True, "the CUDA kernels on the CPU, for tests")


_PREDICATES: dict[str, Callable[[], Availability]] = {
    "cuda": can_run_cuda,
    "triton": can_run_triton,
    "cpu": can_run_cpu,
    "reference": can_run_reference,
    "emulated": can_run_emulated,
}


def backends() -> dict[str, Availability]:
    """Every backend by name with its availability on this machine."""
    return {name: predicate() for name, predicate in _PREDICATES.items()}


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Runs what is inside on a backend: ``"auto"``, or one of :func:`backends`.

    Raises:
        InputError: for an unknown name, or a backend that cannot run here, with the reason.
    """
    _check(name, "use_backend")
    token = _asked_for.set(name)
    try:
        yield
    finally:
        _asked_for.reset(token)


def select_backend(device_type: str) -> str:
    """The backend that modules and plans use for tensors on a type of device (``"cpu"``, ``"cuda"``, ...).

    Raises:
        InputError: if a backend was asked for that cannot run here, or not on the tensor's device.
    """
    name = _asked_for.get()
    if name is None:
        name = os.environ.get(VARIABLE) or "auto"
        _check(name, VARIABLE)
    if name == "auto":
        if device_type == "cuda":
            return next((own for own in ("cuda", "triton") if _PREDICATES[own]().ok), "reference")
        return "cpu" if device_type == "cpu" and can_run_cpu().ok else "reference"
    triton = "cpu" if is_interpreted() else "cuda"
    expected = {"cuda": "cuda", "triton": triton, "cpu": "cpu", "emulated": "cpu"}.get(name, device_type)
    if device_type != expected:
        raise InputError(f"backend {name!r}: expected tensors on {expected}, got one on {device_type}")
    return name


def _check(name: str, where: str) -> None:
    if name == "auto":
        return
    if name not in _PREDICATES:
        raise InputError(f"{where}: expected auto, {', '.join(_PREDICATES)}, got {name!r}")
    availability = _PREDICATES[name]()
    if not availability.ok:
        raise InputError(f"{where}: backend {name!r} cannot run here: {availability.reason}")
