"""Each backend says whether it can run, and why."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
import torch

from litehrnet_cuda import _extension
from litehrnet_cuda.backends import backends, can_run_cuda, covers


def test_reference_runs_wherever_torch_does() -> None:
    available = backends()
    assert list(available) == ["cuda", "cpu", "reference", "emulated"]
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
    can_run_cuda.cache_clear()
    yield monkeypatch
    can_run_cuda.cache_clear()


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
