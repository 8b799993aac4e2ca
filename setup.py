"""Builds the native library `litehrnet_cuda/_C.so` with plain compiler calls; all metadata is in pyproject.toml.

Torch is never imported here: its headers and libtorch are found by path, also from inside pip's isolated build.
The library uses the libtorch stable ABI and no Python API, so one binary serves every Python and every torch >= 2.10.

Environment variables
    LITEHRNET_CUDA_BUILD   auto (default): build the library if a compiler and torch are there, else leave it out
                           1: build it or fail        0: leave it out
    LITEHRNET_CUDA_DEBUG   1: no optimisation, debug symbols, warnings are errors
    CXX                    the compiler (default: c++, g++ or clang++)
    MAX_JOBS               compiler processes at a time (default: one per core)
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import setuptools

if int(setuptools.__version__.split(".")[0]) < 77:  # can happen with --no-build-isolation only
    raise SystemExit(
        f"litehrnet_cuda: building needs setuptools 77 or newer, and {setuptools.__version__} is installed; "
        "run `pip install --upgrade setuptools`, or leave --no-build-isolation out."
    )

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
CORE_SOURCES = ("csrc/core/*.cpp", "csrc/cpu/*.cpp")  # know nothing of torch; CMakeLists.txt builds the same
TORCH_SOURCES = ("csrc/ops/*.cpp", "csrc/library.cpp")
OLDEST_TORCH = (2, 10)
BUILD = os.environ.get("LITEHRNET_CUDA_BUILD") or "auto"


def enabled(variable: str) -> bool:
    return os.environ.get(variable, "0").lower() not in ("", "0", "false", "off", "no")


def find_torch() -> Path | None:
    """The folder of the installed torch package, found without importing it."""
    spec = importlib.util.find_spec("torch")
    if spec is not None and spec.origin is not None:
        return Path(spec.origin).parent
    # pip's isolated build runs the target environment's interpreter and hides that environment's packages through
    # PYTHONPATH. The same interpreter with -E sees them again, .pth files and system packages included.
    probe = "import importlib.util as u; s = u.find_spec('torch'); print(s.origin if s and s.origin else '')"
    run = subprocess.run([sys.executable, "-E", "-c", probe], cwd=ROOT, capture_output=True, text=True, check=False)
    return Path(run.stdout.strip()).parent if run.stdout.strip() else None


def find_compiler() -> list[str] | None:
    """The C++ compiler as the beginning of a command, such as ``["ccache", "g++"]``."""
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        command = shlex.split(name) if name else []
        if command and shutil.which(command[0]):
            return command
    return None


def why_no_library(torch: Path | None, compiler: list[str] | None) -> str | None:
    """What stands against building the library, with the way out, or None."""
    if BUILD == "0":
        return "LITEHRNET_CUDA_BUILD=0 asked to leave it out"
    if platform.system() != "Linux":
        return f"it is built on Linux only, and this is {platform.system()}"
    if compiler is None:
        return "no C++ compiler was found; install g++ or clang++, or name one in CXX"
    if torch is None:
        return (
            f"torch was not found in the environment of the build; first `pip install 'torch>={OLDEST_TORCH[0]}."
            f"{OLDEST_TORCH[1]}'`, then install litehrnet_cuda, with --no-build-isolation if the installer is not pip"
        )
    version = re.search(r"__version__ = '(\d+)\.(\d+)", (torch / "version.py").read_text(encoding="utf-8"))
    if version is None or (int(version[1]), int(version[2])) < OLDEST_TORCH:
        found = f"{version[1]}.{version[2]}" if version else "of an unknown version"
        return f"torch {found} is installed, and the library needs at least {OLDEST_TORCH[0]}.{OLDEST_TORCH[1]}"
    return None


TORCH = find_torch()
COMPILER = find_compiler()
WHY_NOT = why_no_library(TORCH, COMPILER)

if BUILD not in ("auto", "1", "0"):
    raise SystemExit(f"LITEHRNET_CUDA_BUILD: expected auto, 1 or 0, got {BUILD!r}")
if BUILD == "1" and WHY_NOT:
    raise SystemExit(
        f"litehrnet_cuda: the native library cannot be built: {WHY_NOT}. "
        "Or set LITEHRNET_CUDA_BUILD=0 to install the package without it."
    )


def expand(patterns: tuple[str, ...]) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.glob(pattern))


class BuildLibrary(build_ext):
    """Compiles each source with one compiler call and links the objects against libtorch_cpu."""

    def get_ext_filename(self, fullname: str) -> str:
        return fullname.replace(".", "/") + ".so"  # no Python version or ABI in the name: the library has neither

    def build_extension(self, ext: Extension) -> None:
        assert TORCH is not None
        assert COMPILER is not None
        debug = enabled("LITEHRNET_CUDA_DEBUG")
        flags = ["-std=c++17", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", f"-I{ROOT / 'csrc'}"]
        flags += ["-O0", "-g", "-Werror"] if debug else ["-O3", "-DNDEBUG"]
        flags += [f'-DLITEHRNET_VERSION="{self.distribution.get_version()}"']
        torch_flags = ["-isystem", str(TORCH / "include"), "-DTORCH_STABLE_ONLY"]
        torch_flags += [f"-DTORCH_TARGET_VERSION=0x{OLDEST_TORCH[0]:02x}{OLDEST_TORCH[1]:02x}000000000000ULL"]

        objects_folder = Path(self.build_temp).resolve() / "litehrnet"
        library = Path(self.get_ext_fullpath(ext.name)).resolve()
        objects_folder.mkdir(parents=True, exist_ok=True)
        library.parent.mkdir(parents=True, exist_ok=True)

        core_sources = expand(CORE_SOURCES)
        objects = {source: str(objects_folder / (source.replace("/", "_") + ".o")) for source in ext.sources}
        commands = [
            [*COMPILER, *flags, *([] if source in core_sources else torch_flags), "-c", source, "-o", object_file]
            for source, object_file in objects.items()
        ]
        with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS") or os.cpu_count() or 1)) as pool:
            list(pool.map(self.call, commands))
        # The loaded torch provides libtorch_cpu under this name, so no path to it is stored; undefined symbols are
        # found here rather than by the user.
        link = ["-shared", *objects.values(), f"-L{TORCH / 'lib'}", "-ltorch_cpu", "-Wl,-z,defs"]
        self.call([*COMPILER, *link, "-o", str(library)])

    @staticmethod
    def call(command: list[str]) -> None:
        print(shlex.join(command), flush=True)
        if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
            raise SystemExit(
                "litehrnet_cuda: the native library does not compile, see the compiler's messages above. "
                "Set LITEHRNET_CUDA_BUILD=0 to install the package without it."
            )


class BuildPackage(build_py):
    """Leaves a note in the place of a library that is not built, which `litehrnet env` shows."""

    def run(self) -> None:
        if not self.editable_mode:
            shutil.rmtree(self.build_lib, ignore_errors=True)  # else a module removed since the last build is packed
        super().run()
        if WHY_NOT and not self.editable_mode:
            print(f"litehrnet_cuda: built without its native library: {WHY_NOT}.", file=sys.stderr)
            note = Path(self.build_lib) / "litehrnet_cuda" / "_C.absent"
            note.write_text(WHY_NOT + "\n", encoding="utf-8")


class BuildWheel(bdist_wheel):
    def get_tag(self) -> tuple[str, str, str]:
        return ("py3", "none", super().get_tag()[2])  # any Python; the platform only if the library is inside


sources = expand(CORE_SOURCES + TORCH_SOURCES)
headers = expand(("csrc/**/*.h",))
setup(
    ext_modules=[] if WHY_NOT else [Extension("litehrnet_cuda._C", sources, depends=headers)],
    cmdclass={"build_ext": BuildLibrary, "build_py": BuildPackage, "bdist_wheel": BuildWheel},
)
