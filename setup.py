"""Builds the native library `litehrnet_cuda/_C.so` with plain compiler calls; all metadata is in pyproject.toml.

Torch is never imported here: its headers and libtorch are found by path, also from inside pip's isolated build.
The library uses the libtorch stable ABI and no Python API, so one binary serves every Python and every torch >= 2.10,
with or without CUDA: the CUDA runtime is inside, and of torch it needs what both kinds have.

Environment variables
    LITEHRNET_CUDA_BUILD   auto (default): as much as this machine can: with kernels if there is an nvcc, without them
                           if there is none, and no library if the compiler or torch is missing
                           1: the library with its kernels, or fail
                           cpu: the library without kernels, or fail
                           0: no library
    LITEHRNET_CUDA_DEBUG   1: no optimisation of C++, debug symbols, warnings are errors; kernels stay optimised
    CUDA_HOME              the CUDA toolkit (default: NVIDIA's wheels, nvcc on the PATH, /usr/local/cuda)
    TORCH_CUDA_ARCH_LIST   the GPUs to compile for (default: 7.5;8.0;8.6;9.0;10.0;12.0+PTX)
    CXX                    the C++ compiler (default: c++, g++ or clang++)
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
sys.path.insert(0, str(ROOT / "build_support"))

from compilers import (  # noqa: E402
    DEFAULT_ARCHITECTURES,
    Toolkit,
    choose_architectures,
    cpu_kernel_flags,
    find_cxx,
    find_toolkit,
    kernel_step,
    version_of,
)
from object_cache import CompilationError, Step, compile_all  # noqa: E402

CORE_SOURCES = ("csrc/core/*.cpp", "csrc/cpu/*.cpp")  # know nothing of torch; CMakeLists.txt builds the same
CPU_KERNEL_SOURCES = ("csrc/cpu/kernels/*.cpp",)  # neither do these, compiled for every capability of processors
CUDA_SOURCES = ("csrc/cuda/*.cu",)  # know nothing of torch either, and CMakeLists.txt builds them too
LIBRARY_SOURCES = ("csrc/library.cpp",)  # the schemas
CPU_ADAPTER_SOURCES = ("csrc/ops/cpu/*.cpp",)  # between torch and the CPU's kernels
ADAPTER_SOURCES = ("csrc/ops/*.cpp",)  # between torch and the kernels, so in a library with kernels only
OLDEST_TORCH = (2, 10)
BUILD = os.environ.get("LITEHRNET_CUDA_BUILD") or "auto"


def say(sentence: str) -> None:
    print(f"litehrnet_cuda: {sentence}", file=sys.stderr, flush=True)


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


def cuda_of(torch: Path) -> int | None:
    """The major version of the CUDA that a torch is built for."""
    found = re.search(r"^cuda\b.*= '(\d+)", (torch / "version.py").read_text(encoding="utf-8"), re.MULTILINE)
    return int(found[1]) if found else None


def find_kernels_build() -> tuple[Toolkit | None, list[str], str]:
    """The CUDA compiler with the architectures to compile for, or why kernels are left out."""
    if BUILD == "cpu":
        return None, [], "LITEHRNET_CUDA_BUILD=cpu asked to leave them out"
    toolkit, reason = find_toolkit(TORCH_CUDA)
    if toolkit is None:
        return None, [], reason
    asked_for = os.environ.get("TORCH_CUDA_ARCH_LIST") or DEFAULT_ARCHITECTURES
    try:
        architectures, unknown = choose_architectures(asked_for, toolkit.architectures)
    except ValueError as error:
        raise SystemExit(f"litehrnet_cuda: {error}") from None
    if not architectures:
        return None, [], f"nvcc {toolkit.version_text} knows none of the architectures {asked_for}"
    if unknown:
        say(
            f"nvcc {toolkit.version_text} does not know {', '.join(unknown)}; compiling for {', '.join(architectures)}."
        )
    return toolkit, architectures, ""


if BUILD not in ("auto", "1", "cpu", "0"):
    raise SystemExit(f"LITEHRNET_CUDA_BUILD: expected auto, 1, cpu or 0, got {BUILD!r}")
TORCH = find_torch()
TORCH_CUDA = cuda_of(TORCH) if TORCH else None
COMPILER = find_cxx()
WHY_NOT = why_no_library(TORCH, COMPILER)
TOOLKIT, ARCHITECTURES, WHY_NO_KERNELS = (None, [], "") if WHY_NOT else find_kernels_build()

if BUILD in ("1", "cpu") and WHY_NOT:
    raise SystemExit(
        f"litehrnet_cuda: the native library cannot be built: {WHY_NOT}. "
        "Or set LITEHRNET_CUDA_BUILD=0 to install the package without it."
    )
if BUILD == "1" and WHY_NO_KERNELS:
    raise SystemExit(
        f"litehrnet_cuda: the CUDA kernels cannot be built: {WHY_NO_KERNELS}. "
        "Or set LITEHRNET_CUDA_BUILD=cpu to install the package without them."
    )


def expand(*patterns: str) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.glob(pattern))


class BuildLibrary(build_ext):
    """Compiles each source with one compiler call and links the objects against libtorch and the CUDA runtime."""

    def get_ext_filename(self, fullname: str) -> str:
        return fullname.replace(".", "/") + ".so"  # no Python version or ABI in the name: the library has neither

    def build_extension(self, ext: Extension) -> None:
        assert TORCH is not None
        assert COMPILER is not None
        if TOOLKIT is None:
            say(f"the native library is built without CUDA kernels: {WHY_NO_KERNELS}.")
        elif TORCH_CUDA is not None and TORCH_CUDA < TOOLKIT.version[0]:
            say(
                f"torch is built for CUDA {TORCH_CUDA} and the kernels with {TOOLKIT.version_text}, which needs a "
                f"driver for CUDA {TOOLKIT.version[0]}; for an older one, name CUDA {TORCH_CUDA} in CUDA_HOME."
            )
        library = Path(self.get_ext_fullpath(ext.name)).resolve()
        library.parent.mkdir(parents=True, exist_ok=True)
        try:
            objects = compile_all(self.steps(ext.sources), root=ROOT, include="csrc")
        except CompilationError as error:
            self.fail(f"{error} does not compile")
        # The loaded torch provides its libraries under these names, so no path to them is stored; undefined symbols are
        # found here rather than by the user.
        link = ["-shared", *map(str, objects), f"-L{TORCH / 'lib'}", "-ltorch_cpu", "-Wl,-z,defs"]
        if TOOLKIT is not None:
            # libtorch is empty, but in a torch with CUDA it depends on libtorch_cuda, and brings within reach what we
            # refer to weakly there: the current stream.
            link += ["-Wl,--push-state,--no-as-needed", "-ltorch", "-Wl,--pop-state"]
            # Static, so that the one library needs no CUDA to be imported; hidden, so that it is no one else's runtime.
            folder = [f"-L{TOOLKIT.library}"] if TOOLKIT.library else []
            link += [*folder, "-lcudart_static", "-Wl,--exclude-libs,ALL", "-ldl", "-lrt", "-lpthread"]
        command = [*COMPILER, *link, "-o", str(library)]
        print(shlex.join(command), flush=True)
        if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
            self.fail("the objects do not link")

    def steps(self, sources: list[str]) -> list[Step]:
        """One compilation for each source, the slow ones first."""
        assert TORCH is not None
        assert COMPILER is not None
        debug = enabled("LITEHRNET_CUDA_DEBUG")
        flags = ["-std=c++17", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Icsrc"]
        flags += ["-O0", "-g", "-Werror"] if debug else ["-O3", "-DNDEBUG"]
        core_flags = [f'-DLITEHRNET_VERSION="{self.distribution.get_version()}"']
        if TOOLKIT is not None:
            core_flags += [f'-DLITEHRNET_CUDA_VERSION="{TOOLKIT.version_text}"']
            core_flags += [f'-DLITEHRNET_CUDA_ARCHITECTURES="{" ".join(ARCHITECTURES)}"']
        torch_flags = ["-isystem", str(TORCH / "include"), "-DTORCH_STABLE_ONLY"]
        torch_flags += [f"-DTORCH_TARGET_VERSION=0x{OLDEST_TORCH[0]:02x}{OLDEST_TORCH[1]:02x}000000000000ULL"]
        identity = version_of(COMPILER) + (TORCH / "version.py").read_text(encoding="utf-8")
        # Of the toolkit only what sees it depends, so that builds with and without kernels share the rest.
        cuda_flags = ["-isystem", str(TOOLKIT.include)] if TOOLKIT and TOOLKIT.include else []
        cuda_identity = identity + (TOOLKIT.version_text if TOOLKIT else "")

        adapters = expand(*ADAPTER_SOURCES)
        kernels, core, cpu_kernels = expand(*CUDA_SOURCES), expand(*CORE_SOURCES), expand(*CPU_KERNEL_SOURCES)
        cpu_adapters = expand(*CPU_ADAPTER_SOURCES)
        steps = []
        for source in sorted(
            sources, key=lambda source: (source in kernels, (ROOT / source).stat().st_size), reverse=True
        ):
            if source in kernels:
                assert TOOLKIT is not None
                steps.append(kernel_step(TOOLKIT, ARCHITECTURES, COMPILER, source, debug=debug))
            elif source in cpu_kernels:
                for special in cpu_kernel_flags(platform.machine()).values():
                    steps.append(Step((*COMPILER, *flags, *special, "-c", source), identity))
            elif source in adapters:
                steps.append(Step((*COMPILER, *flags, *cuda_flags, *torch_flags, "-c", source), cuda_identity))
            else:
                special = core_flags if source in core else torch_flags
                special = [*special, "-DLITEHRNET_CPU"] if source in cpu_adapters else special
                steps.append(Step((*COMPILER, *flags, *special, "-c", source), identity))
        return steps

    @staticmethod
    def fail(what: str) -> None:
        raise SystemExit(
            f"litehrnet_cuda: the native library is not built: {what}, see the compiler's messages above. "
            "Set LITEHRNET_CUDA_BUILD=cpu to install without CUDA kernels, 0 to install without the library."
        )


class BuildPackage(build_py):
    """Leaves a note in the place of a library that is not built, which `litehrnet env` shows."""

    def run(self) -> None:
        if not self.editable_mode:
            shutil.rmtree(self.build_lib, ignore_errors=True)  # else a module removed since the last build is packed
        super().run()
        if WHY_NOT and not self.editable_mode:
            say(f"built without its native library: {WHY_NOT}.")
            note = Path(self.build_lib) / "litehrnet_cuda" / "_C.absent"
            note.write_text(WHY_NOT + "\n", encoding="utf-8")


class BuildWheel(bdist_wheel):
    def get_tag(self) -> tuple[str, str, str]:
        return ("py3", "none", super().get_tag()[2])  # any Python; the platform only if the library is inside


sources = expand(
    *(CORE_SOURCES + CPU_KERNEL_SOURCES + CPU_ADAPTER_SOURCES + LIBRARY_SOURCES),
    *(CUDA_SOURCES + ADAPTER_SOURCES if TOOLKIT else ()),
)
setup(
    ext_modules=[] if WHY_NOT else [Extension("litehrnet_cuda._C", sources, depends=expand("csrc/**/*.h"))],
    cmdclass={"build_ext": BuildLibrary, "build_py": BuildPackage, "bdist_wheel": BuildWheel},
)
