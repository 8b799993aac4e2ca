"""Each backend says whether it can run, and why."""

from __future__ import annotations

import sys

import pytest
import torch

from litehrnet_cuda.backends import backends


def test_reference_runs_wherever_torch_does() -> None:
    available = backends()
    assert list(available) == ["reference"]
    assert available["reference"].ok
    assert torch.__version__ in available["reference"].reason


def test_reference_without_torch_keeps_the_import_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # makes `import torch` raise ImportError
    reference = backends()["reference"]
    assert not reference.ok
    assert reference.reason.startswith("torch cannot be imported: ")
