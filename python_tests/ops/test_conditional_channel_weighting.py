from __future__ import annotations

from typing import Any

import pytest
import torch
from op_suite import InferenceOpSuite


class TestConditionalChannelWeighting(InferenceOpSuite):
    name = "conditional_channel_weighting"

    @pytest.mark.parametrize(
        ("index", "value", "message"),
        [
            (0, [torch.zeros(2, 7, 16, 12), torch.zeros(2, 12, 8, 6)], r"x\[0\]: expected an even number of channels"),
            (3, torch.zeros(5, 10), r"weight2: expected shape \[10, 5\], got \[5, 10\]"),
            (5, [torch.zeros(4, 3, 3), torch.zeros(5, 3, 3)], r"depthwise_weight\[1\]: expected shape \[6, 3, 3\]"),
            (8, [torch.zeros(1)], r"gate_bias1: expected 2 tensors, one per branch, got 1"),
            (9, [torch.zeros(4, 2), torch.zeros(6, 1)], r"gate_weight2\[0\]: expected shape \[4, 1\], got \[4, 2\]"),
        ],
    )
    def test_bad_arguments_are_named(self, index: int, value: Any, message: str) -> None:
        self.assert_refused(index, value, message)
