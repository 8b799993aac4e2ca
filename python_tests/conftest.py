"""Fixtures that all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"
SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture
def golden() -> Path:
    """The folder of reference data that is committed with the tests."""
    return GOLDEN


@pytest.fixture
def shared() -> Path:
    """The folder of larger reference data beside the repository; the test skips where it is absent."""
    if not (SHARED / "golden").is_dir():
        pytest.skip("needs the reference data in ../shared, which is not here")
    return SHARED
