from __future__ import annotations

from typing import Any

import pytest
import torch
from training_suite import TrainingOpSuite


class TestConditionalChannelWeightingBatchNorm(TrainingOpSuite):
    name = "conditional_channel_weighting_batch_norm"

    @pytest.mark.parametrize(
        ("index", "value", "message"),
        [
            (0, [torch.zeros(2, 8, 16, 12), torch.zeros(2, 13, 8, 6)], r"x\[1\]: expected an even number of channels"),
            (1, torch.zeros(5, 9), r"weight1: expected shape \[5, 10\], got \[5, 9\]"),
            (1, torch.zeros(10), r"weight1: expected shape \[R, 10\], got \[10\]"),
            (2, torch.zeros(10, 4), r"weight2: expected shape \[10, 5\], got \[10, 4\]"),
            (3, [torch.zeros(4, 3, 3)], r"depthwise_weight: expected 2 tensors, one per branch, got 1"),
            (4, [torch.zeros(1, 4), torch.zeros(6)], r"gate_weight1\[1\]: expected shape \[S, 6\], got \[6\]"),
            (7, [torch.zeros(4), torch.zeros(5)], r"gate_bias2\[1\]: expected shape \[6\], got \[5\]"),
            (8, [torch.zeros(5)], r"norm_weight: expected 4 tensors, one per batch norm, got 1"),
            (9, [torch.zeros(5), *[torch.zeros(10)] * 3], r"norm_bias\[2\]: expected shape \[4\], got \[10\]"),
        ],
    )
    def test_bad_arguments_are_named(self, index: int, value: Any, message: str) -> None:
        self.assert_refused(index, value, message)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
    @pytest.mark.parametrize("name", ["two_exact", "four_exact"])
    def test_keeps_less_than_half_of_what_eager_keeps(self, name: str, dtype: torch.dtype) -> None:
        """Of memory, whatever the number of views of it."""
        from training_cases import TRAINING_OPS, require_grad

        def kept(function: Any) -> int:
            args = require_grad(self.arguments(name, dtype), self.differentiable)
            storages: dict[int, int] = {}

            def pack(tensor: torch.Tensor) -> torch.Tensor:
                if tensor.numel() > max(len(w) for w in args[1:3]) * 10:  # parameters and statistics are no activations
                    storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                function(*args)
            return sum(storages.values())

        assert kept(self.op) <= kept(TRAINING_OPS[self.name].reference) / 2
