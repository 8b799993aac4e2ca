from __future__ import annotations

from typing import Any

import pytest
import torch
from training_suite import TrainingOpSuite


class TestDepthwiseConvBatchNorm(TrainingOpSuite):
    name = "depthwise_conv_batch_norm"

    @pytest.mark.parametrize(
        ("index", "value", "message"),
        [
            (1, [torch.zeros(4, 3, 3)], r"weight: expected 2 tensors, one per branch, got 1"),
            (
                1,
                [torch.zeros(4, 3, 3), torch.zeros(6, 1, 3, 3)],
                r"weight\[1\]: expected shape \[6, 3, 3\], got \[6, 1, 3, 3\]",
            ),
            (2, [torch.zeros(4)], r"norm_weight: expected 2 tensors, one per batch norm, got 1"),
            (3, [torch.zeros(4), torch.zeros(5)], r"norm_bias\[1\]: expected shape \[6\], got \[5\]"),
        ],
    )
    def test_bad_arguments_are_named(self, index: int, value: Any, message: str) -> None:
        self.assert_refused(index, value, message)

    def test_a_single_value_is_refused_in_any_branch(self) -> None:
        args = self.arguments([(1, 1), (2, 3)], batch=1)
        with pytest.raises(RuntimeError, match=r"more than 1 value per channel when training, got x\[0\] of shape"):
            self.op(*args)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
    def test_statistics_far_from_zero(self, dtype: torch.dtype) -> None:
        """Variances do not cancel where means are a thousand deviations away."""
        args = self.arguments("two_exact", dtype)
        args[0] = [(1000 + x).to(torch.float32).to(dtype) for x in args[0]]
        args[1] = [torch.zeros_like(w) for w in args[1]]
        for w in args[1]:
            w[:, 1, 1] = 1  # filtered is x, which every dtype holds
        _, statistics = self.op(*args)
        for x, of_branch in zip(args[0], statistics.split([x.shape[1] for x in args[0]], dim=1), strict=True):
            exact = x.double().var((0, 2, 3), correction=0)
            # Deviations of fp32 values near 1000 are exact to 6e-5 at most, a relative 1e-4 of a deviation of one.
            torch.testing.assert_close(of_branch[1].double(), exact, rtol=1e-4, atol=0)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
    def test_what_is_kept_is_normalised_exactly(self, dtype: torch.dtype) -> None:
        """Statistics are those of the rounded maps that the backward pass reads."""
        args = self.arguments("two_exact", dtype)
        _, statistics, saved = torch.ops.litehrnet_cuda.depthwise_conv_batch_norm(*self.dispatched(args))
        mean = torch.cat([s.double().mean((0, 2, 3)) for s in saved])
        # fp32 sums of a few hundred values of size one: far below the 1e-4 by which rounding to 16 bits moves a mean.
        torch.testing.assert_close(statistics[0].double(), mean, rtol=0, atol=1e-6)
