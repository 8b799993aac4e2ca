"""The native library: loaded when it is there, and a reason when it is not."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from litehrnet_cuda import __version__, _extension


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
    assert info["cuda_architectures"] == []


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
