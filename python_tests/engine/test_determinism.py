"""Deterministic algorithms, and that they are nobody else's."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch

from litehrnet_cuda.engine.determinism import deterministic_algorithms


def state() -> tuple[bool, bool, bool, bool]:
    cudnn = torch.backends.cudnn
    memory: Any = torch.utils.deterministic
    deterministic = torch.are_deterministic_algorithms_enabled()
    return deterministic, cudnn.deterministic, cudnn.benchmark, memory.fill_uninitialized_memory


def test_they_are_chosen_and_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = state()
    with deterministic_algorithms(True):
        assert state() == (True, True, False, False)
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert state() == before


def test_without_them_cudnn_may_try_out_what_is_fast() -> None:
    before = state()
    with deterministic_algorithms(False):
        assert state() == (*before[:2], True, before[3])
    assert state() == before


def test_they_are_restored_after_an_error() -> None:
    before = state()
    with pytest.raises(ZeroDivisionError), deterministic_algorithms(True):
        raise ZeroDivisionError
    assert state() == before
