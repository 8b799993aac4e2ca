"""The native library: loaded when it is there, and a reason when it is not."""

from __future__ import annotations

import re
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from litehrnet_cuda import __version__, _extension, functional

ROOT = Path(__file__).resolve().parents[1]
# Ops for what CUDA's libraries do as well; see csrc/library.cpp.
ON_CPUS_ALONE = ("separable_conv_batch_norm", "weighted_sum")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Makes the loader look in an empty folder, with nothing remembered."""
    monkeypatch.setattr(_extension, "LIBRARY", tmp_path / "_C.so")
    monkeypatch.setattr(_extension, "_ABSENT", tmp_path / "_C.absent")
    _extension.load.cache_clear()
    yield tmp_path
    _extension.load.cache_clear()


def test_library_reports_how_it_was_built() -> None:
    if not _extension.LIBRARY.is_file():
        pytest.skip(f"the native library is not here: {_extension.load().reason}")
    assert _extension.load() == _extension.Loaded(_extension.LIBRARY, None)
    info = _extension.build_info()
    assert info is not None
    assert info["version"] == __version__
    assert info["compiler"].split()[0] in ("g++", "clang")
    assert info["cxx_standard"] >= 201703
    assert isinstance(info["debug"], bool)
    assert isinstance(info["cuda_architectures"], list)
    assert (info["cuda_version"] is None) is (info["cuda_architectures"] == [])


def library_with_kernels() -> Path:
    if not _extension.load().ok:
        pytest.skip(f"needs the native library: {_extension.load().reason}")
    if not (_extension.build_info() or {})["cuda_architectures"]:
        pytest.skip("needs a native library that was built with an nvcc")
    return _extension.LIBRARY


def operators() -> list[str]:
    names = [name for name in torch._C._dispatch_get_all_op_names() if name.startswith("litehrnet_cuda::")]
    return [name for name in names if name != "litehrnet_cuda::build_info"]


def test_kernels_are_registered_on_a_torch_without_cuda_too() -> None:
    library_with_kernels()
    assert operators()
    for name in operators():
        on_cpus_alone = name.split("::")[1].lstrip("_").removesuffix("_backward") in ON_CPUS_ALONE
        assert torch._C._dispatch_has_kernel_for_dispatch_key(name, "CUDA") is not on_cpus_alone, name


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="needs a torch with oneDNN's tensors")
def test_tensors_of_a_kind_without_kernels_are_refused() -> None:
    if not _extension.load().ok:
        pytest.skip(f"needs the native library: {_extension.load().reason}")
    maps = [torch.zeros(1, 4, 8, 8).to_mkldnn()]
    with pytest.raises(NotImplementedError, match="depthwise_conv: there is no kernel for these tensors' device here"):
        functional.depthwise_conv(maps, [torch.zeros(4, 3, 3)], [torch.zeros(4)])


def test_library_needs_what_every_torch_has() -> None:
    library = library_with_kernels()
    if shutil.which("readelf") is None:
        pytest.skip("needs readelf, of binutils")

    def readelf(option: str) -> str:
        return subprocess.run(["readelf", option, "-W", library], capture_output=True, text=True, check=True).stdout

    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", readelf("-d"))
    # Without libtorch.so the current stream, which libtorch_cuda defines, would be out of reach.
    assert {name for name in needed if "torch" in name} == {"libtorch_cpu.so", "libtorch.so"}
    assert not [name for name in needed if "cuda" in name]
    assert "WEAK   DEFAULT  UND aoti_torch_get_current_cuda_stream" in readelf("--dyn-syms")
    # Our copy of the CUDA runtime is for nobody else.
    assert not re.search(r"GLOBAL DEFAULT +\d+ cuda", readelf("--dyn-syms"))


def test_missing_library_in_a_source_tree_tells_how_to_build_it(elsewhere: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # leaving the library out is no fault, so nothing warns
        loaded = _extension.load()
    assert not loaded.ok
    assert "setup.py build_ext --inplace" in str(loaded.reason)
    assert _extension.build_info() is None


def test_missing_library_tells_what_the_build_noted(elsewhere: Path) -> None:
    (elsewhere / "_C.absent").write_text("no C++ compiler was found\n", encoding="utf-8")
    assert _extension.load().reason == "not built: no C++ compiler was found"


def test_broken_library_warns_once_with_the_loaders_message(elsewhere: Path) -> None:
    (elsewhere / "_C.so").write_bytes(b"no library at all")
    with pytest.warns(RuntimeWarning, match="does not load") as caught:
        first = _extension.load()
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _extension.load() is first
    assert not first.ok
    assert str(elsewhere / "_C.so") in str(first.reason)  # dlopen names the file and says what is wrong with it
    assert "OSError" in str(first.reason)
