"""What is built, what is shipped, and what an installer says where something is missing."""

from __future__ import annotations

import ast
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import backend
import compilers
import machine_code
import pytest

import litehrnet_cuda

ROOT = Path(__file__).resolve().parents[1]
SETUP = (ROOT / "setup.py").read_text(encoding="utf-8")
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
CMAKE = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")


def setup_patterns(name: str) -> set[str]:
    """A constant tuple of setup.py, which cannot be imported without building."""
    for node in ast.parse(SETUP).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return set(ast.literal_eval(node.value))
    raise AssertionError(f"setup.py defines no {name}")


def run(*command: str | Path, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a command with the output of both streams as stdout, away from settings of the tests' own run."""
    ours = ("LITEHRNET_", "PYTHON", "TORCH_CUDA_ARCH_LIST")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=inherited | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize("name", ["CORE_SOURCES", "CPU_KERNEL_SOURCES", "CUDA_SOURCES"])
def test_setup_and_cmake_build_the_same_sources(name: str) -> None:
    globbed = re.search(rf"file\(GLOB {name} CONFIGURE_DEPENDS ([^)]*)\)", CMAKE)
    assert globbed is not None
    assert set(globbed[1].split()) == setup_patterns(name)


def test_every_native_source_is_built_exactly_once() -> None:
    names = ("CORE_SOURCES", "CPU_KERNEL_SOURCES", "CPU_ADAPTER_SOURCES")
    names += ("CUDA_SOURCES", "LIBRARY_SOURCES", "ADAPTER_SOURCES")
    tests = ("csrc/tests/*_test.cpp", "csrc/tests/*_entry.cu")  # the latter by the tests of emulated kernels
    built = [path for name in names for pattern in setup_patterns(name) for path in ROOT.glob(pattern)]
    built += [path for pattern in tests for path in ROOT.glob(pattern)]
    sources = [path for pattern in ("*.cpp", "*.cu") for path in (ROOT / "csrc").rglob(pattern)]
    assert sorted(built) == sorted(sources)


def test_setup_and_cmake_compile_for_the_same_processors() -> None:
    flags = compilers.cpu_kernel_flags("x86_64")
    assert list(compilers.cpu_kernel_flags("aarch64")) == ["baseline"]
    listed = re.search(r"target_compile_options\(litehrnet_cpu_\S+ PRIVATE ([^$]*)", CMAKE)
    assert listed is not None
    common = set(flags["baseline"]) - {"-DLITEHRNET_CPU_TARGET=baseline", "-O3"}  # which is CMake's build type
    assert common <= set(listed[1].split())
    for capability in flags:
        special = re.search(rf"set\({capability}_FLAGS ?(.*)\)", CMAKE)
        assert special is not None
        assert special[1].split() == [flag for flag in flags[capability] if flag.startswith("-m")]


def test_setup_and_cmake_compile_for_the_same_architectures() -> None:
    listed = re.search(r"set\(CMAKE_CUDA_ARCHITECTURES ([^)]*)\)", CMAKE)
    assert listed is not None
    numbers = [number.removesuffix("-real").removesuffix("+PTX").replace(".", "") for number in listed[1].split()]
    by_setup = compilers.DEFAULT_ARCHITECTURES.split(";")
    assert numbers == [name.removesuffix("+PTX").replace(".", "") for name in by_setup]
    # In CMake's notation one without -real has PTX.
    assert [number.endswith("-real") for number in listed[1].split()] == ["+PTX" not in name for name in by_setup]
    assert compilers.DEFAULT_ARCHITECTURES in SETUP


def test_version_has_one_source() -> None:
    assert re.search(r'^dynamic = \["version"\]$', PYPROJECT, re.MULTILINE)
    assert 'attr = "litehrnet_cuda.__version__"' in PYPROJECT
    for path in ("pyproject.toml", "setup.py", "CMakeLists.txt"):
        assert litehrnet_cuda.__version__ not in (ROOT / path).read_text(encoding="utf-8"), path
    assert f"## {litehrnet_cuda.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, True),
        ({"LITEHRNET_CUDA_BUILD": "auto", "CUDA_HOME": ""}, True),
        ({"LITEHRNET_CUDA_BUILD": "1"}, True),
        ({"LITEHRNET_CUDA_BUILD": "cpu"}, False),
        ({"LITEHRNET_CUDA_BUILD": "0"}, False),
        ({"CUDA_HOME": "/usr/local/cuda"}, False),
    ],
)
@pytest.mark.parametrize("product", ["wheel", "editable", "sdist"])
def test_a_compiler_is_required_where_kernels_are_built_and_torch_never(
    product: str, variables: dict[str, str], wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LITEHRNET_CUDA_BUILD", "CUDA_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    hook = getattr(backend, f"get_requires_for_build_{product}")
    wanted = wanted and (product != "sdist" or variables.get("LITEHRNET_CUDA_BUILD") == "1")
    assert hook() == (list(backend.COMPILER) if wanted else [])


@pytest.mark.parametrize("machine", [("linux", "ppc64le"), ("darwin", "arm64"), ("win32", "AMD64")])
def test_no_compiler_is_required_where_there_is_none(machine: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LITEHRNET_CUDA_BUILD", "CUDA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", machine[0])
    monkeypatch.setattr(platform, "machine", lambda: machine[1])
    assert backend.compiler_wheels() == ()


def test_oldest_torch_is_the_same_everywhere() -> None:
    oldest = re.search(r"OLDEST_TORCH = \((\d+), (\d+)\)", SETUP)
    assert oldest is not None
    assert f'"torch>={oldest[1]}.{oldest[2]}"' in PYPROJECT


def test_importing_setup_never_imports_torch() -> None:
    for path in (ROOT / "setup.py", *(ROOT / "build_support").glob("*.py")):
        assert not re.search(r"^\s*(import torch|from torch)", path.read_text(encoding="utf-8"), re.MULTILINE), path


def test_readme_documents_the_variables() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    listed = re.search(r"^Environment variables\n(.*?)^\"\"\"", SETUP, re.MULTILINE | re.DOTALL)
    assert listed is not None
    variables = re.findall(r"^    ([A-Z_]+) ", listed[1], re.MULTILINE)
    assert set(re.findall(r"environ\.get\(\"([A-Z_]+)\"", SETUP)) <= set(variables)
    for variable in variables:
        assert f"`{variable}`" in readme, variable


@pytest.mark.slow
def test_native_tests_pass(tmp_path: Path) -> None:
    # The test requirements bring a cmake, which lies beside the interpreter rather than on the PATH.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    if shutil.which("cmake", path=path) is None or shutil.which("c++") is None:
        pytest.skip("needs cmake and a C++ compiler")
    for command in (
        # Optimisation would take most of the time, and is that of the library, which the other tests run.
        ["cmake", "-S", ROOT, "-B", tmp_path, "-DCMAKE_BUILD_TYPE=Debug"],
        ["cmake", "--build", tmp_path, "--parallel", "2"],
        ["ctest", "--test-dir", tmp_path, "--output-on-failure", "--no-tests=error"],
    ):
        done = run("env", *command, folder=tmp_path, PATH=path)
        assert done.returncode == 0, done.stdout
    assert (tmp_path / "compile_commands.json").is_file()


def test_an_unknown_build_mode_is_refused() -> None:
    done = run(sys.executable, "setup.py", "--version", folder=ROOT, LITEHRNET_CUDA_BUILD="yes")
    assert done.returncode != 0
    assert "LITEHRNET_CUDA_BUILD: expected auto, 1, cpu or 0, got 'yes'" in done.stdout


def test_kernels_that_were_asked_for_and_cannot_be_built_are_an_error(tmp_path: Path) -> None:
    done = run(sys.executable, "setup.py", "--version", folder=ROOT, LITEHRNET_CUDA_BUILD="1", CUDA_HOME=str(tmp_path))
    assert done.returncode != 0
    reason = f"{tmp_path}/bin/nvcc does not run or is no nvcc"
    assert f"the CUDA kernels cannot be built: {reason}. Or set LITEHRNET_CUDA_BUILD=cpu" in done.stdout
    assert "Traceback" not in done.stdout


def test_a_wrong_list_of_architectures_is_an_error() -> None:
    if compilers.find_toolkit()[0] is None:
        pytest.skip("needs an nvcc")
    done = run(sys.executable, "setup.py", "--version", folder=ROOT, TORCH_CUDA_ARCH_LIST="sm_75")
    assert done.returncode != 0
    assert "litehrnet_cuda: TORCH_CUDA_ARCH_LIST: expected a list such as '7.5;" in done.stdout
    assert "Traceback" not in done.stdout


def test_an_old_setuptools_is_refused(tmp_path: Path) -> None:
    (tmp_path / "setuptools.py").write_text('__version__ = "65.5.0"\n', encoding="utf-8")
    done = run(sys.executable, "setup.py", "--version", folder=ROOT, PYTHONPATH=str(tmp_path))
    assert done.returncode != 0
    assert "building needs setuptools 77 or newer, and 65.5.0 is installed" in done.stdout


# The tests below install for real. They copy the sources, because a build writes beside them.


@pytest.fixture
def source(tmp_path: Path) -> Path:
    unwanted = shutil.ignore_patterns(".*", "build", "dist", "runs", "golden", "*.egg-info", "*.so", "__pycache__")
    return Path(shutil.copytree(ROOT, tmp_path / "source", ignore=unwanted))


def files(folder: Path) -> set[str]:
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(path) for path in found if "__pycache__" not in path.parts}


def bring_objects(source: Path) -> None:
    """What has been compiled here, so that nothing is compiled twice; an object is used for the same sources only."""
    if (ROOT / "build" / "objects").is_dir():
        shutil.copytree(ROOT / "build" / "objects", source / "build" / "objects")


class Environment:
    """A fresh virtual environment, optionally with the packages of the running one in sight."""

    def __init__(self, folder: Path, *, with_torch: bool) -> None:
        self.folder = folder
        venv.create(folder, with_pip=True)
        self.python = folder / "bin" / "python"
        self.packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
        if with_torch:
            import torch

            (self.packages / "borrowed.pth").write_text(f"{Path(torch.__file__).parents[1]}\n", encoding="utf-8")
            # An older setuptools that came with the environment would stand before the borrowed one.
            run(self.python, "-m", "pip", "uninstall", "--yes", "setuptools", folder=folder)

    def install(self, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        options = ("--no-deps", "--force-reinstall", "--verbose")
        return run(self.python, "-m", "pip", "install", *options, *arguments, folder=self.folder, **environment)

    def report(self) -> str:
        """What `litehrnet env` prints, after a check that it is this environment's own installation."""
        done = run(self.folder / "bin" / "litehrnet", "env", folder=self.folder)
        assert done.returncode == 0, done.stdout
        assert (self.packages / "litehrnet_cuda" / "__init__.py").is_file()
        return done.stdout


needs_compiler = pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("options", [(), ("--no-build-isolation",)], ids=["isolated", "not_isolated"])
def test_pip_install_builds_the_kernels(options: tuple[str, ...], source: Path, tmp_path: Path) -> None:
    if options and compilers.find_toolkit()[0] is None:
        pytest.skip("needs an nvcc; only an isolated build brings its own")
    environment = Environment(tmp_path / "venv", with_torch=True)
    # Isolated, the compiler is that of NVIDIA's wheels. One architecture, because all of them take minutes, unless they
    # have been compiled here.
    toolkit, architectures = (os.environ.get("CUDA_HOME", ""), "8.0") if options else ("", "9.0+PTX")
    if options and machine_code.are_compiled():
        architectures = compilers.DEFAULT_ARCHITECTURES
    bring_objects(source)
    variables = {"LITEHRNET_CUDA_BUILD": "1", "TORCH_CUDA_ARCH_LIST": architectures, "CUDA_HOME": toolkit}
    done = environment.install(*options, source, **variables)
    assert done.returncode == 0, done.stdout
    if not options:
        assert re.search(r"/nvidia/cu13/bin/nvcc .*-c csrc/cuda/", done.stdout)
    report = environment.report()
    assert f"native library     {environment.packages / 'litehrnet_cuda' / '_C.so'}" in report
    assert f"version {litehrnet_cuda.__version__}" in report
    assert f"CUDA architectures: {architectures.replace(';', ', ')}" in report


@pytest.mark.slow
@needs_compiler
def test_pip_install_without_nvcc_says_so_once(source: Path, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "venv", with_torch=True)
    # A debug build optimises kernels too, which takes most of its time and says nothing here.
    compiler = tmp_path / "c++"
    compiler.write_text('#!/bin/sh\nexec c++ "$@" -O0\n', encoding="utf-8")
    compiler.chmod(0o755)
    variables = {"LITEHRNET_CUDA_DEBUG": "1", "CUDA_HOME": str(tmp_path), "CXX": str(compiler)}
    done = environment.install("--no-build-isolation", source, **variables)
    assert done.returncode == 0, done.stdout
    reason = f"{tmp_path}/bin/nvcc does not run or is no nvcc"
    assert done.stdout.count(f"the native library is built without CUDA kernels: {reason}.") == 1
    report = environment.report()
    assert "debug" in report
    assert "CUDA architectures: none" in report
    assert "backend cuda       no: the native library was built without CUDA" in report


@pytest.mark.slow
@needs_compiler
def test_wheel_from_the_source_distribution(source: Path, tmp_path: Path) -> None:
    build = (sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path)
    done = run(*build, "--sdist", source, folder=tmp_path, LITEHRNET_CUDA_BUILD="cpu")
    assert done.returncode == 0, done.stdout
    (archive,) = tmp_path.glob("*.tar.gz")
    shutil.unpack_archive(archive, tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    # An object is taken if all that it was made of is there; so a header that is missing fails, and a source is missed.
    for folder in ("csrc", "build_support"):
        assert files(unpacked / folder) == files(source / folder)
    bring_objects(unpacked)
    done = run(*build, "--wheel", unpacked, folder=tmp_path, LITEHRNET_CUDA_BUILD="cpu")
    assert done.returncode == 0, done.stdout
    (wheel,) = tmp_path.glob("*.whl")
    assert re.fullmatch(rf"litehrnet_cuda-{re.escape(litehrnet_cuda.__version__)}-py3-none-linux_\w+\.whl", wheel.name)
    names = zipfile.ZipFile(wheel).namelist()
    assert {"litehrnet_cuda/py.typed", "litehrnet_cuda/_C.so"} <= set(names)
    recipes = {path.name for path in (ROOT / "litehrnet_cuda" / "recipes").glob("*.toml")}
    assert recipes
    assert {f"litehrnet_cuda/recipes/{name}" for name in recipes} <= set(names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"litehrnet_cuda"}
    modules = {str(path.relative_to(source)) for path in (source / "litehrnet_cuda").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == modules
    assert not [name for name in names if re.search(r"csrc|build_support|tests|emulat|\.(cpp|cu|cuh|h|o)$", name)]
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.slow
def test_without_torch_the_installer_says_what_to_do(source: Path, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "venv", with_torch=False)
    way_out = "first `pip install 'torch>=2.10'`, then install litehrnet_cuda"

    done = environment.install(source, LITEHRNET_CUDA_BUILD="1")
    assert done.returncode != 0
    assert way_out in done.stdout
    assert "Or set LITEHRNET_CUDA_BUILD=0" in done.stdout
    assert "Traceback" not in done.stdout

    done = environment.install(source)
    assert done.returncode == 0, done.stdout
    assert (
        f"built without its native library: torch was not found in the environment of the build; {way_out}"
        in done.stdout
    )
    assert "py3-none-any.whl" in done.stdout
    assert way_out in environment.report()


@pytest.mark.slow
def test_without_a_compiler_the_installer_says_what_to_do(source: Path, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "venv", with_torch=True)
    path = str(environment.folder / "bin")
    reason = "no C++ compiler was found; install g++ or clang++, or name one in CXX"

    done = environment.install("--no-build-isolation", source, PATH=path, CXX="", LITEHRNET_CUDA_BUILD="1")
    assert done.returncode != 0
    assert reason in done.stdout
    assert "Traceback" not in done.stdout

    done = environment.install("--no-build-isolation", source, PATH=path, CXX="")
    assert done.returncode == 0, done.stdout
    assert f"native library     not built: {reason}" in environment.report()


@pytest.mark.slow
@needs_compiler
def test_a_source_that_does_not_compile_fails_the_install(source: Path, tmp_path: Path) -> None:
    bring_objects(source)
    (source / "csrc" / "library.cpp").write_text("not C++\n", encoding="utf-8")
    environment = Environment(tmp_path / "venv", with_torch=True)
    done = environment.install("--no-build-isolation", source, LITEHRNET_CUDA_BUILD="cpu")
    assert done.returncode != 0
    assert "the native library is not built: csrc/library.cpp does not compile, see the compiler's" in done.stdout
    assert "library.cpp:1:1: error" in done.stdout
