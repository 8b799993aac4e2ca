"""Finds the compilers, and decides for which GPUs kernels are compiled, and how; for setup.py and the tests.

No GPU is asked, nothing is downloaded, and torch is not imported.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from object_cache import Step

OLDEST_NVCC = (12, 0)
DEFAULT_ARCHITECTURES = "7.5;8.0;8.6;9.0;10.0;12.0+PTX"
# As PyTorch's TORCH_CUDA_ARCH_LIST understands them.
NAMED_ARCHITECTURES = {
    "Volta": "7.0+PTX",
    "Turing": "7.5+PTX",
    "Ampere": "8.0;8.6+PTX",
    "Ada": "8.9+PTX",
    "Hopper": "9.0+PTX",
    "Blackwell": "10.0;10.3;12.0;12.1+PTX",
}


@dataclass(frozen=True)
class Toolkit:
    """A CUDA compiler and what belongs to it.

    Args:
        nvcc: the compiler.
        version: major and minor.
        include: folder of the runtime's headers, or None where the C++ compiler finds them by itself.
        library: folder of the static runtime, or None where the linker finds it by itself.
        architectures: those that the compiler knows, such as ``"7.5"``.
    """

    nvcc: Path
    version: tuple[int, int]
    include: Path | None
    library: Path | None
    architectures: frozenset[str]

    @property
    def version_text(self) -> str:
        return f"{self.version[0]}.{self.version[1]}"


def find_cxx() -> list[str] | None:
    """The C++ compiler as the beginning of a command, such as ``["ccache", "g++"]``."""
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        command = shlex.split(name) if name else []
        if command and shutil.which(command[0]):
            return command
    return None


def version_of(compiler: Sequence[str | Path]) -> str:
    """What a compiler says about itself; two that say the same make the same objects."""
    return _output(*compiler, "--version")


def find_toolkit(preferred: int | None = None) -> tuple[Toolkit | None, str]:
    """A usable toolkit, or None with the reason and what to do.

    Looks at ``CUDA_HOME``, which alone counts where it is set; then at NVIDIA's wheels, which pip installs into an
    isolated build; then at the PATH and /usr/local/cuda. The first one is taken, unless a later one is of the preferred
    major version.

    Args:
        preferred: the major version of torch's CUDA, whose driver the machine is sure to have.
    """
    first = None
    reason = (
        "no nvcc was found; install the CUDA toolkit and name its folder in CUDA_HOME, "
        "or `pip install nvidia-cuda-nvcc nvidia-cuda-crt nvidia-nvvm nvidia-cuda-runtime nvidia-cuda-cccl`"
    )
    for nvcc in _compilers():
        toolkit, problem = _inspect(nvcc)
        if toolkit is None:
            reason = problem
        elif preferred is None or toolkit.version[0] == preferred:
            return toolkit, ""
        else:
            first = first or toolkit
    return first, "" if first else reason


def wheel_folders() -> Iterator[Path]:
    """The folders ``nvidia/cu13`` of NVIDIA's wheels in the running environment."""
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        yield from sorted(Path(folder).glob("cu[0-9]*"))


def _compilers() -> Iterator[Path]:
    if os.environ.get("CUDA_HOME"):
        yield Path(os.environ["CUDA_HOME"]) / "bin" / "nvcc"
        return
    for folder in wheel_folders():
        if (folder / "bin" / "nvcc").is_file():
            yield folder / "bin" / "nvcc"
    on_path = shutil.which("nvcc")
    if on_path is not None:
        yield Path(on_path)
    if Path("/usr/local/cuda/bin/nvcc").is_file():
        yield Path("/usr/local/cuda/bin/nvcc")


def _inspect(nvcc: Path) -> tuple[Toolkit | None, str]:
    version = re.search(r"release (\d+)\.(\d+)", version_of([nvcc]))
    if version is None:
        return None, f"{nvcc} does not run or is no nvcc"
    found = int(version[1]), int(version[2])
    if found < OLDEST_NVCC:
        oldest = ".".join(map(str, OLDEST_NVCC))
        return None, f"{nvcc} is CUDA {version[1]}.{version[2]}, and the kernels need at least {oldest}"
    # The nvcc on the PATH may be a script or a link; only the compiler itself knows its folder.
    top = re.search(r"^#\$ TOP=(.+)$", _output(nvcc, "--dryrun", "-E", "-x", "cu", os.devnull), re.MULTILINE)
    root = Path(os.path.normpath(top[1].strip())) if top else nvcc.resolve().parents[1]
    # sm_75 is 7.5 and sm_120 is 12.0; sm_90a is not offered, because its code runs on no later GPU.
    numbers = re.findall(r"^sm_(\d+)(\d)\s*$", _output(nvcc, "--list-gpu-code"), re.MULTILINE)
    target = {"x86_64": "x86_64-linux", "aarch64": "sbsa-linux"}.get(platform.machine(), platform.machine())
    includes = [root / "include", root / "targets" / target / "include"]
    libraries = [root / "lib64", root / "lib", root / "targets" / target / "lib"]
    toolkit = Toolkit(
        nvcc=root / "bin" / "nvcc" if (root / "bin" / "nvcc").is_file() else nvcc,
        version=found,
        include=next((folder for folder in includes if (folder / "cuda_runtime.h").is_file()), None),
        library=next((folder for folder in libraries if (folder / "libcudart_static.a").is_file()), None),
        architectures=frozenset(f"{major}.{minor}" for major, minor in numbers),
    )
    return toolkit, ""


def _output(*command: str | Path) -> str:
    """Both streams of a command, empty if it cannot be run."""
    try:
        run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    except OSError:
        return ""
    return run.stdout


def choose_architectures(asked_for: str, known: frozenset[str]) -> tuple[list[str], list[str]]:
    """Which architectures to compile for, and which of those asked for the compiler does not know.

    Args:
        asked_for: PyTorch's notation, such as ``"7.5;8.0 8.6+PTX"`` or ``"Ampere;Hopper"``; ``+PTX`` adds code that
            later GPUs compile for themselves. Where nothing says so, the newest one gets it.
        known: what the compiler knows.

    Returns:
        sorted, such as ``["7.5", "12.0+PTX"]``, and ``["13.0"]``.

    Raises:
        ValueError: for a text that is no such list.
    """
    chosen: dict[str, bool] = {}
    unknown = []
    for name, numbers in NAMED_ARCHITECTURES.items():
        asked_for = re.sub(rf"\b{name}\b(\+PTX)?", f"{numbers};", asked_for, flags=re.IGNORECASE)
    for part in filter(None, re.split(r"[;,\s]+", asked_for)):
        number = re.fullmatch(r"(\d+\.\d)[af]?(\+PTX)?", part)  # the kernels use nothing that 9.0a adds to 9.0
        if number is None:
            raise ValueError(
                f"TORCH_CUDA_ARCH_LIST: expected a list such as {DEFAULT_ARCHITECTURES!r}, with numbers or the names "
                f"{', '.join(NAMED_ARCHITECTURES)}, got {part!r}"
            )
        if number[1] in known:
            chosen[number[1]] = chosen.get(number[1], False) or number[2] is not None
        elif number[1] not in unknown:
            unknown.append(number[1])
    ordered = sorted(chosen, key=float)
    if ordered and not any(chosen.values()):
        chosen[ordered[-1]] = True
    return [name + ("+PTX" if chosen[name] else "") for name in ordered], unknown


def kernel_step(
    toolkit: Toolkit, architectures: Sequence[str], cxx: Sequence[str], source: str, *, debug: bool
) -> Step:
    """The compilation of a kernel source; ptxas reports the resources of every kernel."""
    host_compiler = next(word for word in reversed(cxx) if not word.startswith("-"))
    warnings = "-Wall,-Wextra" + (",-Werror" if debug else "")
    command = [str(toolkit.nvcc), "-std=c++17", "-O3", "-Icsrc", "-ccbin", host_compiler]
    command += ["-Xcompiler", f"-fPIC,-fvisibility=hidden,{warnings}", "-Xptxas", "-v"]
    # Kernels stay optimised for debugging, or compute-sanitizer and profilers would see other kernels than users run.
    command += ["-lineinfo", "-Werror", "all-warnings"] if debug else ["-DNDEBUG"]
    for architecture in architectures:
        number = architecture.removesuffix("+PTX").replace(".", "")
        codes = [f"sm_{number}", f"compute_{number}"] if architecture.endswith("+PTX") else [f"sm_{number}"]
        command += ["-gencode", f"arch=compute_{number},code=[{','.join(codes)}]"]
    return Step((*command, "-c", source), version_of([toolkit.nvcc]) + version_of(cxx))


# What csrc/cpu/kernels is compiled for, beside any processor of the machine's kind.
_CPU_FLAGS = {
    "avx2": ("-mavx2", "-mfma", "-mf16c"),
    "avx512": ("-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma", "-mf16c"),
}


def cpu_kernel_flags(machine: str) -> dict[str, tuple[str, ...]]:
    """Flags for each of the capabilities in csrc/core/cpu_capability.h that a kind of machine may have."""
    # Without contraction all capabilities round alike where they do the same. Vectors as arguments would be passed
    # differently with and without AVX, but none are passed from file to file.
    common = ("-O3", "-ffp-contract=off", "-Wno-psabi", "-Wno-ignored-attributes", "-Wno-maybe-uninitialized")
    common += ("-Wno-unknown-warning-option",)
    names = {"baseline": (), **(_CPU_FLAGS if machine in ("x86_64", "AMD64") else {})}
    return {name: (f"-DLITEHRNET_CPU_TARGET={name}", *common, *flags) for name, flags in names.items()}
