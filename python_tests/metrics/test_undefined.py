"""Figures of nothing."""

from __future__ import annotations

from litehrnet_cuda.metrics.undefined import with_nulls


def test_what_there_was_nothing_to_measure_in_is_null() -> None:
    assert with_nulls({"AP": 0.5, "AP (L)": -1.0, "AR": 0.0}) == {"AP": 0.5, "AP (L)": None, "AR": 0.0}
