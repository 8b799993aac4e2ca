from __future__ import annotations

from typing import Any

import pytest
import torch
from op_suite import InferenceOpSuite


class TestCrossResolutionWeighting(InferenceOpSuite):
    name = "cross_resolution_weighting"

    def test_second_matrix_may_be_transposed_or_not(self) -> None:
        x, w1, b1, w2, b2 = self.arguments("odd")
        for a, b in zip(self.op(x, w1, b1, w2.t().contiguous().t(), b2), self.op(x, w1, b1, w2, b2), strict=True):
            assert torch.equal(a, b)

    @pytest.mark.parametrize(
        ("index", "value", "message"),
        [
            (1, torch.zeros(5, 11), r"weight1: expected shape \[5, 10\], got \[5, 11\]"),
            (1, torch.zeros(10), r"weight1: expected shape \[R, 10\], got \[10\]"),
            (2, torch.zeros(4), r"bias1: expected shape \[5\], got \[4\]"),
            (3, torch.zeros(5, 10), r"weight2: expected shape \[10, 5\], got \[5, 10\]"),
            (4, torch.zeros(10).double(), r"bias2: expected the dtype of x\[0\]"),
        ],
    )
    def test_bad_weights_are_named(self, index: int, value: Any, message: str) -> None:
        self.assert_refused(index, value, message)
