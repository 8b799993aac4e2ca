from __future__ import annotations

from typing import Any

import pytest
import torch
from op_cases import DTYPES, assert_close_to_reference
from op_suite import InferenceOpSuite

from litehrnet_cuda.reference.spatial_weighting import spatial_weighting


class TestSpatialWeighting(InferenceOpSuite):
    name = "spatial_weighting"

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("name", ["one_branch", "four_exact", "odd"])
    def test_without_kept_half(self, name: str, dtype: torch.dtype) -> None:
        maps, _, *weights = self.arguments(name, torch.float64)
        assert_close_to_reference(self.op, spatial_weighting, [maps, [], *weights], dtype)

    @pytest.mark.parametrize(
        ("index", "value", "message"),
        [
            (1, [torch.zeros(2, 4, 16, 12)], r"kept: expected 2 tensors, one per branch, got 1"),
            (
                1,
                [torch.zeros(2, 4, 16, 12), torch.zeros(2, 6, 8, 7)],
                r"kept\[1\]: expected shape \[2, 6, 8, 6\] as x\[1\] has, got \[2, 6, 8, 7\]",
            ),
            (2, [torch.zeros(1, 5), torch.zeros(1, 6)], r"weight1\[0\]: expected shape \[1, 4\], got \[1, 5\]"),
            (5, [torch.zeros(4)], r"bias2: expected 2 tensors, one per branch, got 1"),
        ],
    )
    def test_bad_arguments_are_named(self, index: int, value: Any, message: str) -> None:
        self.assert_refused(index, value, message)
