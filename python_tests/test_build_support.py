"""What setup.py builds with: the compilers that it finds, the architectures that it chooses, objects compiled once."""

from __future__ import annotations

import shutil
from pathlib import Path

import compilers
import object_cache
import pytest

KNOWN = frozenset({"7.5", "8.0", "8.6", "8.9", "9.0", "10.0", "12.0"})


@pytest.mark.parametrize(
    ("asked_for", "chosen", "unknown"),
    [
        (compilers.DEFAULT_ARCHITECTURES, ["7.5", "8.0", "8.6", "9.0", "10.0", "12.0+PTX"], []),
        ("7.5;8.0 8.6+PTX", ["7.5", "8.0", "8.6+PTX"], []),
        ("9.0", ["9.0+PTX"], []),  # without any PTX no later GPU could run the kernels
        ("12.0, 8.0+PTX, 8.0", ["8.0+PTX", "12.0"], []),
        ("9.0a", ["9.0+PTX"], []),
        ("Ampere;Hopper", ["8.0", "8.6+PTX", "9.0+PTX"], []),
        ("turing+PTX", ["7.5+PTX"], []),
        ("5.2 7.5 13.0+PTX", ["7.5+PTX"], ["5.2", "13.0"]),
        ("5.2", [], ["5.2"]),
    ],
)
def test_architectures_in_pytorchs_notation(asked_for: str, chosen: list[str], unknown: list[str]) -> None:
    assert compilers.choose_architectures(asked_for, KNOWN) == (chosen, unknown)


@pytest.mark.parametrize("asked_for", ["sm_75", "7,5", "7.5+PTY", "Kepler"])
def test_no_list_of_architectures_is_refused(asked_for: str) -> None:
    with pytest.raises(ValueError, match="TORCH_CUDA_ARCH_LIST: expected a list such as"):
        compilers.choose_architectures(asked_for, KNOWN)


def fake_nvcc(folder: Path, version: str, top: Path | None = None) -> Path:
    """A script that answers what is asked of nvcc."""
    folder.mkdir(parents=True)
    script = folder / "nvcc"
    script.write_text(
        "#!/bin/sh\n"
        'case "$1" in\n'
        f'  --version) echo "Cuda compilation tools, release {version}, V{version}.1" ;;\n'
        f'  --dryrun) echo "#$ TOP={top or folder.parent}" >&2 ;;\n'
        "  --list-gpu-code) printf 'sm_75\\nsm_90\\nsm_90a\\nsm_120\\n' ;;\n"
        "esac\n",
        encoding="utf-8",
    )
    script.chmod(0o755)
    return script


def test_toolkit_named_in_cuda_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvcc = fake_nvcc(tmp_path / "cuda" / "bin", "12.8")
    (tmp_path / "cuda" / "include").mkdir()
    (tmp_path / "cuda" / "include" / "cuda_runtime.h").touch()
    (tmp_path / "cuda" / "lib").mkdir()
    (tmp_path / "cuda" / "lib" / "libcudart_static.a").touch()
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "cuda"))
    toolkit, reason = compilers.find_toolkit()
    assert reason == ""
    assert toolkit == compilers.Toolkit(
        nvcc=nvcc,
        version=(12, 8),
        include=tmp_path / "cuda" / "include",
        library=tmp_path / "cuda" / "lib",
        architectures=frozenset({"7.5", "9.0", "12.0"}),
    )


def test_script_on_the_path_leads_to_the_toolkit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvcc = fake_nvcc(tmp_path / "real" / "bin", "13.0")
    fake_nvcc(tmp_path / "bin", "13.0", top=tmp_path / "real" / "bin" / "..")
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(compilers, "wheel_folders", lambda: iter(()))
    toolkit, _ = compilers.find_toolkit()
    assert toolkit is not None
    assert toolkit.nvcc == nvcc


def test_toolkit_of_torchs_major_version_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of_wheel = fake_nvcc(tmp_path / "wheel" / "bin", "13.0")
    installed = fake_nvcc(tmp_path / "cuda" / "bin", "12.6")
    monkeypatch.setattr(compilers, "_compilers", lambda: iter([of_wheel, installed]))
    for preferred, expected in ((None, of_wheel), (13, of_wheel), (12, installed), (14, of_wheel)):
        toolkit, _ = compilers.find_toolkit(preferred)
        assert toolkit is not None
        assert toolkit.nvcc == expected, preferred


def test_cuda_home_without_a_compiler_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert compilers.find_toolkit() == (None, f"{tmp_path}/bin/nvcc does not run or is no nvcc")


def test_an_old_compiler_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvcc = fake_nvcc(tmp_path / "bin", "11.8")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert compilers.find_toolkit() == (None, f"{nvcc} is CUDA 11.8, and the kernels need at least 12.0")


@pytest.fixture
def step(tmp_path: Path) -> object_cache.Step:
    cxx = compilers.find_cxx()
    if cxx is None:
        pytest.skip("needs a C++ compiler")
    (tmp_path / "csrc").mkdir()
    (tmp_path / "csrc" / "inner.h").write_text("#define VALUE 1\n", encoding="utf-8")
    (tmp_path / "csrc" / "outer.h").write_text('#include "inner.h"\n', encoding="utf-8")
    (tmp_path / "one.cpp").write_text('#include "outer.h"\nint one() { return VALUE; }\n', encoding="utf-8")
    return object_cache.Step((*cxx, "-Icsrc", "-c", "one.cpp"), "version 1")


def compile_one(step: object_cache.Step, root: Path) -> Path:
    (path,) = object_cache.compile_all([step], root=root, include="csrc")
    return path


def test_objects_are_compiled_once(step: object_cache.Step, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    first = compile_one(step, tmp_path)
    assert first.is_file()
    assert "-c one.cpp" in capfd.readouterr().out
    assert compile_one(step, tmp_path) == first
    assert capfd.readouterr().out == ""


def test_all_that_goes_into_an_object_counts(step: object_cache.Step, tmp_path: Path) -> None:
    objects = {compile_one(step, tmp_path)}
    objects.add(compile_one(step._replace(identity="version 2"), tmp_path))
    objects.add(compile_one(step._replace(command=(*step.command[:-2], "-O1", *step.command[-2:])), tmp_path))
    (tmp_path / "csrc" / "inner.h").write_text("#define VALUE 2\n", encoding="utf-8")
    objects.add(compile_one(step, tmp_path))
    assert len(objects) == 4


def test_messages_are_kept_and_a_failure_leaves_nothing(
    step: object_cache.Step, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one.cpp").write_text("#warning look here\nint one();\n", encoding="utf-8")
    assert "look here" in object_cache.messages(compile_one(step, tmp_path))
    assert "look here" in capfd.readouterr().out
    shutil.rmtree(tmp_path / "build")
    (tmp_path / "one.cpp").write_text("no C++\n", encoding="utf-8")
    with pytest.raises(object_cache.CompilationError, match=r"one\.cpp"):
        compile_one(step, tmp_path)
    assert "error" in capfd.readouterr().out
    assert list((tmp_path / "build" / "objects").iterdir()) == []
