from __future__ import annotations

from typing import Any

import pytest
import torch
from op_suite import InferenceOpSuite


class TestDepthwiseConv(InferenceOpSuite):
    name = "depthwise_conv"

    @pytest.mark.parametrize(
        ("index", "value", "message"),
        [
            (1, [torch.zeros(4, 3, 3)], r"weight: expected 2 tensors, one per branch, got 1"),
            (
                1,
                [torch.zeros(4, 3, 3), torch.zeros(6, 1, 3, 3)],
                r"weight\[1\]: expected shape \[6, 3, 3\], got \[6, 1, 3, 3\]",
            ),
            (2, [torch.zeros(4), torch.zeros(5)], r"bias\[1\]: expected shape \[6\], got \[5\]"),
        ],
    )
    def test_bad_weights_are_named(self, index: int, value: Any, message: str) -> None:
        self.assert_refused(index, value, message)
