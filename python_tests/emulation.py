"""Builds CUDA sources for the CPU with the project's emulator, and drives it from tests.

    library = emulation.load([CSRC / "cuda/op.cu"], mode="checked", includes=[CSRC])
    x = library.copy(array, "x")                      # a guarded copy that kernels may read and write
    y = library.empty((4, 5), np.float32, "y")        # the same without a value
    library.call("extern_c_function", x, y, 20)       # pointers of arrays; Python int, float as int, float
    assert library.errors() == []

Modes
    plain    -O2, barriers and warp collectives are checked: the fastest
    checked  -O1, every access to memory is checked, and counted where statistics are wanted
    asan     AddressSanitizer: the process must have its runtime preloaded, see `asan_environment`

Libraries are kept in build/emulated under a hash of all that went into them.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

ROOT = Path(__file__).resolve().parents[1]
EMULATOR = ROOT / "emulator"
CACHE = ROOT / "build" / "emulated"

COMPILER = os.environ.get("CXX", "g++")
COMMON = ("-std=c++17", "-fPIC", "-g1", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas")
# -fno-gnu-unique and -Bsymbolic keep the static variables of two libraries in one process apart. Without
# -fno-extern-tls-init an `extern thread_local` is read through a call to a function that may not exist.
KERNELS = ("-DLITEHRNET_EMULATED", "-fno-extern-tls-init", "-fno-gnu-unique", "-fno-strict-aliasing")
RUNTIME_FLAGS = {"plain": ("-O2",), "checked": ("-O2",), "asan": ("-O0", "-fsanitize=address")}
KERNEL_FLAGS = {
    "plain": ("-O2",),
    # Compiled, never linked, with the sanitizers' libraries: their hooks are the emulator's own. Without -fno-tree-sra
    # a load of 16 bytes would fall apart into four before it is seen.
    "checked": ("-O1", "-fsanitize=thread", "-fsanitize=alignment,bounds", "-fno-tree-sra"),
    "asan": ("-O1", "-fsanitize=address"),
}


def _run(command: Sequence[str | Path]) -> None:
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{result.stderr}")


def _headers(folders: Sequence[Path]) -> list[Path]:
    return sorted(path for folder in folders for pattern in ("*.h", "*.cuh") for path in folder.rglob(pattern))


def _digest(files: Sequence[Path], *texts: object) -> str:
    digest = hashlib.sha256()
    for text in (COMPILER, *texts):
        digest.update(repr(text).encode())
    for path in files:
        digest.update(str(path).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@contextmanager
def _locked(name: str) -> Iterator[None]:
    """Lets one process at a time build `name`, and the others wait for it."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _object(source: Path, flags: Sequence[str], headers: Sequence[Path]) -> Path:
    """The compiled source; made when it is not there yet. Libraries that differ in one source share the others."""
    target = CACHE / f"{source.stem}_{_digest([source, *headers], flags)}.o"
    if not target.exists():
        with _locked(target.stem):
            if not target.exists():
                partial = target.with_suffix(".partial")
                _run([COMPILER, *flags, "-x", "c++", "-c", source, "-o", partial])
                partial.rename(target)
    return target


def _compile_all(sources: Sequence[Path], flags: Sequence[str], headers: Sequence[Path]) -> list[Path]:
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        return list(pool.map(lambda source: _object(source, flags, headers), sources))


def runtime(mode: str = "plain") -> Path:
    """The emulator's own objects as one archive, to link into a library of kernels; built when it is not there yet."""
    flags = [*COMMON, *RUNTIME_FLAGS[mode], "-fvisibility=hidden", f"-I{EMULATOR / 'include'}"]
    sources, headers = sorted((EMULATOR / "src").glob("*.cpp")), _headers([EMULATOR])
    name = f"runtime_{_digest([*sources, *headers], flags)}"
    target = CACHE / f"{name}.a"
    if not target.exists():
        with _locked(name):
            if not target.exists():
                objects = _compile_all(sources, flags, headers)
                partial = target.with_suffix(".partial")
                partial.unlink(missing_ok=True)
                _run(["ar", "rcs", partial, *objects])
                partial.rename(target)
    return target


def build(
    sources: Sequence[Path],
    *,
    mode: str = "plain",
    defines: Mapping[str, object] | None = None,
    includes: Sequence[Path] = (),
    flags: Sequence[str] = (),
    link: Sequence[str] = (),
) -> Path:
    """Builds a shared library out of CUDA (or C++) sources and the emulator.

    Args:
        sources: files whose `extern "C"` functions tests call.
        mode: "plain", "checked" or "asan".
        defines: macros, such as `{"MISSING_BARRIER": 1}`.
        includes: folders of headers; every header in them counts as part of the sources.
        flags: further arguments of the compiler, such as the folders of torch's headers.
        link: further arguments of the linker.

    Returns:
        The library, in build/emulated.
    """
    if mode not in KERNEL_FLAGS:
        raise ValueError(f"mode: expected one of {', '.join(KERNEL_FLAGS)}, got {mode!r}")
    macros = [f"-D{name}={value}" for name, value in (defines or {}).items()]
    folders = [f"-I{folder}" for folder in (*includes, EMULATOR / "include")]
    arguments = [*COMMON, *KERNELS, *KERNEL_FLAGS[mode], *folders, *macros, *flags]
    archive = runtime(mode)
    headers = _headers([*includes, EMULATOR / "include"])
    name = f"{sources[0].stem}_{mode}_{_digest([*sources, *headers], arguments, link, archive.name)}"
    target = CACHE / f"{name}.so"
    if not target.exists():
        with _locked(name):
            if not target.exists():
                objects = _compile_all(sources, arguments, headers)
                whole: list[str | Path] = ["-Wl,--whole-archive", archive, "-Wl,--no-whole-archive"]
                sanitizer = ["-fsanitize=address"] if mode == "asan" else []
                partial = target.with_suffix(".partial")
                _run(
                    [COMPILER, "-shared", *objects, *whole, "-Wl,-Bsymbolic", "-ldl", *sanitizer, *link, "-o", partial]
                )
                partial.rename(target)
    return target


def asan_environment() -> dict[str, str]:
    """The environment of a process that loads a library built in mode "asan"."""
    runtime_library = subprocess.run(
        [COMPILER, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    return {**os.environ, "LD_PRELOAD": runtime_library, "ASAN_OPTIONS": "detect_leaks=0"}


class Library:
    """A library of emulated kernels, with an emulator of its own."""

    GUARD = 512  # bytes on both sides of each array, so that a small overrun hits nothing else

    def __init__(self, path: Path) -> None:
        self.path = path
        self._library = ctypes.CDLL(str(path))
        self._library.emulator_error_count.restype = ctypes.c_uint64
        self._library.emulator_errors.restype = ctypes.c_char_p
        self._library.emulator_launches.restype = ctypes.c_char_p
        self._memory: list[Array] = []

    def configure(
        self, *, seed: int = 0, check: bool = True, statistics: bool = False, multiprocessors: int = 4
    ) -> None:
        """Sets the order of threads, what is checked and counted, and the size of the device.

        Args:
            seed: 0 for natural order, 1 for the reverse, others for random orders.
            check: check every access to memory (mode "checked" only).
            statistics: count memory traffic (mode "checked" only).
            multiprocessors: bounds cooperative launches.
        """
        self._library.emulator_configure(ctypes.c_uint64(seed), int(check), int(statistics))
        self._library.emulator_set_multiprocessors(multiprocessors)

    def reset(self) -> None:
        """Forgets arrays, errors and launches."""
        self._library.emulator_reset()
        self._memory.clear()

    def register(self, array: Array, name: str, *, initialised: bool = True) -> None:
        """Lets kernels use a C-contiguous array, without a guard around it; `copy` and `empty` have one."""
        if not array.flags.c_contiguous:
            raise ValueError(f"{name}: expected a C-contiguous array, got strides {array.strides}")
        self.register_memory(array.ctypes.data, array.nbytes, name, initialised=initialised)

    def register_memory(self, address: int, size: int, name: str, *, initialised: bool = True) -> None:
        """Lets kernels use `size` bytes at `address`."""
        self._library.emulator_register_buffer(
            ctypes.c_void_p(address), ctypes.c_size_t(size), name.encode(), int(initialised)
        )

    def empty(self, shape: Sequence[int] | int, dtype: Any, name: str) -> Array:
        """An array without a value, aligned to 256 bytes as cudaMalloc does, guarded and registered."""
        return self._allocate(shape, np.dtype(dtype), name, initialised=False)

    def copy(self, array: Array, name: str) -> Array:
        """A copy, aligned to 256 bytes as cudaMalloc does, guarded and registered."""
        array = np.asarray(array)
        result = self._allocate(array.shape, array.dtype, name, initialised=True)
        result[...] = array
        return result

    def _allocate(self, shape: Sequence[int] | int, dtype: np.dtype[Any], name: str, *, initialised: bool) -> Array:
        count = int(np.prod(shape))
        size = count * dtype.itemsize
        memory = np.full(size + 2 * self.GUARD + 256, 0xFF, np.uint8)  # NaN in every floating-point type
        start = self.GUARD + -(memory.ctypes.data + self.GUARD) % 256
        array = memory[start : start + size].view(dtype).reshape(shape)
        self._memory.append(memory)
        self.register_memory(memory.ctypes.data + start, size, name, initialised=initialised)
        return array

    def call(self, function: str, *arguments: Any) -> int:
        """Calls an `extern "C"` function that returns an int, and returns that.

        Args:
            function: its name.
            arguments: arrays become pointers, int and float their C namesakes, None a null pointer.
        """
        return int(self._library[function](*(self._convert(argument) for argument in arguments)))

    @staticmethod
    def _convert(argument: Any) -> Any:
        if isinstance(argument, np.ndarray):
            return ctypes.c_void_p(argument.ctypes.data)
        if isinstance(argument, bool | int | np.integer):
            return ctypes.c_int(int(argument))
        if isinstance(argument, float | np.floating):
            return ctypes.c_float(float(argument))
        return argument

    def errors(self) -> list[dict[str, Any]]:
        """What the checks found since the last reset: kind, kernel, buffer, block, thread, file, line, message..."""
        return list(json.loads(self._library.emulator_errors()))

    def kinds(self) -> set[str]:
        """The kinds of `errors()`."""
        return {error["kind"] for error in self.errors()}

    def launches(self) -> list[dict[str, Any]]:
        """The launches since the last reset, in order: kernel, grid, block, shared_bytes, threads, error..."""
        return list(json.loads(self._library.emulator_launches()))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._library, name)


def load(sources: Sequence[Path], **options: Any) -> Library:
    """`build`, loaded."""
    return Library(build(sources, **options))
