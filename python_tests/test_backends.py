"""Each backend says whether it can run, and why."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from litehrnet_cuda import _extension
from litehrnet_cuda import backends as module
from litehrnet_cuda.backends import backends, can_run_cuda, can_run_triton, covers, select_backend, use_backend
from litehrnet_cuda.errors import InputError


def test_reference_runs_wherever_torch_does() -> None:
    available = backends()
    assert list(available) == ["cuda", "triton", "cpu", "reference", "emulated"]
    assert available["reference"].ok
    assert torch.__version__ in available["reference"].reason


def test_reference_without_torch_keeps_the_import_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # makes `import torch` raise ImportError
    monkeypatch.setattr(_extension, "load", lambda: _extension.Loaded(_extension.LIBRARY, "no torch"))
    reference = backends()["reference"]
    assert not reference.ok
    assert reference.reason.startswith("torch cannot be imported: ")


@pytest.mark.parametrize(
    ("architectures", "capability", "runs"),
    [
        (["8.0"], (8, 0), True),
        (["8.0"], (8, 9), True),  # a later minor version
        (["8.6"], (8, 0), False),
        (["8.0"], (9, 0), False),  # machine code of another major version
        (["8.0+PTX"], (9, 0), True),
        (["7.5", "12.0+PTX"], (10, 0), False),
        (["7.5", "12.0+PTX"], (12, 1), True),
        ([], (9, 0), False),
    ],
)
def test_which_gpus_the_kernels_run_on(architectures: list[str], capability: tuple[int, int], runs: bool) -> None:
    assert covers(architectures, capability) is runs


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A machine with a GPU of capability 9.0 and a torch that knows it, as far as the question goes."""
    monkeypatch.setattr(_extension, "load", lambda: _extension.Loaded(_extension.LIBRARY, None))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    monkeypatch.delenv(module.INTERPRETER_VARIABLE, raising=False)
    can_run_cuda.cache_clear()
    can_run_triton.cache_clear()
    yield monkeypatch
    can_run_cuda.cache_clear()
    can_run_triton.cache_clear()


def test_cuda_needs_kernels_for_the_gpu(gpu: pytest.MonkeyPatch) -> None:
    gpu.setattr(_extension, "build_info", lambda: {"cuda_architectures": ["7.5", "12.0+PTX"]})
    available = can_run_cuda()
    assert not available.ok
    assert "built for 7.5, 12.0+PTX, and Some GPU is 9.0; TORCH_CUDA_ARCH_LIST=9.0 builds for it" in available.reason
    can_run_cuda.cache_clear()
    gpu.setattr(_extension, "build_info", lambda: {"cuda_architectures": ["9.0+PTX"]})
    assert can_run_cuda() == (True, "kernels for 9.0+PTX")


def test_cuda_needs_a_library_with_kernels(gpu: pytest.MonkeyPatch) -> None:
    gpu.setattr(_extension, "build_info", lambda: {"cuda_architectures": []})
    assert can_run_cuda() == (False, "the native library was built without CUDA")


@pytest.fixture
def triton(gpu: pytest.MonkeyPatch) -> SimpleNamespace:
    """A Triton that can be imported, and what it needs."""
    fake = SimpleNamespace(__version__="9.9")
    gpu.setitem(sys.modules, "triton", fake)
    gpu.setattr(module, "_missing_compiler_of_triton", lambda: "")
    gpu.setattr(_extension, "build_info", lambda: {"cuda_architectures": []})
    return fake


@pytest.mark.usefixtures("triton")
def test_triton_takes_gpus_that_the_library_has_no_kernels_for(gpu: pytest.MonkeyPatch) -> None:
    assert can_run_triton() == (True, "Triton 9.9 compiles kernels for blocks in inference")
    assert select_backend("cuda") == "triton"
    gpu.setattr(_extension, "build_info", lambda: {"cuda_architectures": ["9.0"]})
    can_run_cuda.cache_clear()
    assert select_backend("cuda") == "cuda"
    with use_backend("triton"):
        assert select_backend("cuda") == "triton"
        with pytest.raises(InputError, match="backend 'triton': expected tensors on cuda, got one on cpu"):
            select_backend("cpu")


@pytest.mark.usefixtures("triton")
def test_triton_needs_a_gpu_that_it_compiles_for(gpu: pytest.MonkeyPatch) -> None:
    gpu.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    assert can_run_triton() == (False, "Triton compiles for 8.0 and later, and Some GPU is 7.5")
    assert select_backend("cuda") == "reference"


@pytest.mark.usefixtures("triton")
def test_triton_is_asked_for_last(gpu: pytest.MonkeyPatch) -> None:
    """It is not imported where nothing else would let it run."""
    gpu.setattr(torch.cuda, "is_available", lambda: False)
    gpu.setitem(sys.modules, "triton", None)
    assert can_run_triton() == (False, "torch finds no CUDA device")


def test_triton_that_is_missing_says_how_to_install_it(gpu: pytest.MonkeyPatch) -> None:
    gpu.setattr(module, "_missing_compiler_of_triton", lambda: "")
    gpu.setitem(sys.modules, "triton", None)
    assert not can_run_triton().ok
    assert "`pip install triton` installs it: " in can_run_triton().reason
    with pytest.raises(InputError, match="use_backend: backend 'triton' cannot run here: triton cannot be imported"):
        with use_backend("triton"):
            pass


def test_triton_needs_a_compiler_and_headers(gpu: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gpu.setattr(sys, "platform", "linux")
    gpu.delenv("CC", raising=False)
    gpu.setattr(module.shutil, "which", lambda _name: None)
    assert can_run_triton() == (False, "Triton builds what launches kernels with gcc or clang, and there is neither")
    can_run_triton.cache_clear()
    gpu.setenv("CC", "cc")
    gpu.setattr(module.sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    assert can_run_triton().reason.endswith(f"with Python's headers, and {tmp_path} (python3-dev) has none")
