from __future__ import annotations

from typing import Any

import pytest
import torch
from op_cases import DTYPES, FLOOR, SIZES, channels_for
from torch import Tensor
from training_cases import EPS, TRAINING_OPS, cast_arguments, cross_resolution_arguments
from training_suite import Sizes, TrainingOpSuite

from litehrnet_cuda import functional

NAME = "cross_resolution_weighting_batch_norm"


def random_arguments(
    sizes: Sizes, channels: list[int], hidden: int, batch: int, dtype: torch.dtype = torch.float64
) -> list[Any]:
    """Of another hidden width than the suite's."""
    torch.manual_seed(0)
    args = cross_resolution_arguments(sizes, channels, batch)
    w1, w2 = args[1], args[2]
    args[1:3] = [torch.randn(hidden, w1.shape[1]) / w1.shape[1] ** 0.5, torch.randn(w2.shape[0], hidden) / hidden**0.5]
    for norm in args[3:7]:
        norm[0] = norm[0].new_tensor([1.0]).expand(hidden) * 0.7
    return cast_arguments([*args, True, EPS], dtype)


class TestCrossResolutionWeightingBatchNorm(TrainingOpSuite):
    name = NAME

    def outputs_match(self, args: list[Any], dtype: torch.dtype) -> None:
        """The error against fp64 is at most twice that of plain PyTorch in the same dtype, apart from a rounding.

        In fp64 the truth itself is rounded, as much as plain PyTorch is. How much, is seen in fp32, whose roundings are
        2^29 times as large: a norm of few values magnifies them.
        """
        op, reference = functional.cross_resolution_weighting_batch_norm, TRAINING_OPS[NAME].reference
        double = dtype == torch.float64
        plain_dtype, factor, floors = (torch.float32, 3 * 2.0**-29, 2) if double else (dtype, 2.0, 1)
        args = cast_arguments(cast_arguments(args, plain_dtype), torch.float64)  # values that the dtype can hold
        exact, _ = reference(*args)
        plain, _ = reference(*cast_arguments(args, plain_dtype))
        actual, _ = op(*cast_arguments(args, dtype))
        for result, same_dtype, truth in zip(actual, plain, exact, strict=True):
            assert result.dtype == dtype
            assert result.shape == truth.shape
            scale = truth.abs().max().item()
            error = (result.double() - truth).abs().max().item()
            allowed = factor * (same_dtype.double() - truth).abs().max().item() + floors * FLOOR[dtype] * scale
            assert error <= allowed, f"error {error:.3g} of {scale:.3g}, allowed {allowed:.3g}"

    @pytest.mark.parametrize("training", [True, False], ids=["batch", "frozen"])
    @pytest.mark.parametrize("batch", [1, 2])
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("name", [name for name in SIZES if not name.startswith("width_")])
    def test_outputs_match_reference(self, name: str, dtype: torch.dtype, batch: int, training: bool) -> None:
        if training and batch == 1 and SIZES[name][-1] == (1, 1):
            pytest.skip("a single value has no statistics")
        self.outputs_match(self.arguments(name, torch.float64, batch, training), dtype)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
    @pytest.mark.parametrize(
        ("sizes", "channels", "hidden", "batch"),
        [
            ([(16, 16), (8, 8)], [20, 40], 70, 2),  # more hidden values than the second launch holds at a time
            ([(4, 4), (2, 2)], [390, 30], 5, 40),  # beyond a row's pieces in flight; two positions a tile
            ([(12, 14), (6, 7)], [5, 8], 3, 30),  # ten positions a tile: chunks of four, the last of two
            ([(6, 8)], [4], 2, 200),  # as many blocks as there are, of several tiles; several tiles a share
            ([(2, 2), (1, 1)], [3, 700], 11, 2),  # two positions in all
        ],
        ids=["wide hidden", "wide", "chunks", "large batch", "two positions"],
    )
    def test_shapes_beyond_the_networks(
        self, sizes: Sizes, channels: list[int], hidden: int, batch: int, dtype: torch.dtype
    ) -> None:
        self.outputs_match(random_arguments(sizes, channels, hidden, batch), dtype)

    @pytest.mark.parametrize("name", ["two_exact", "odd"])
    def test_statistics_do_not_suffer_from_a_large_mean(self, name: str) -> None:
        """Mean 1000 times the deviation: a sum of squares without a pivot would leave nothing of the variance."""
        args = self.arguments(name)
        args[0] = [x + 3000 for x in args[0]]
        args[1] = args[1].abs()
        _, statistics = functional.cross_resolution_weighting_batch_norm(*args)
        double = cast_arguments(args, torch.float64)
        _, expected = TRAINING_OPS[NAME].reference(*double)
        hidden = len(args[1])
        # fp32 holds numbers near 3000 to 1.2e-4, and the deviations of hidden values are about 0.5.
        torch.testing.assert_close(statistics[1, :hidden].double(), expected[1, :hidden], rtol=2e-2, atol=0)

    def test_normalised_logits_have_mean_zero_and_variance_one(self) -> None:
        """In half precision, too, where it takes statistics of the logits as they are stored."""
        args = self.arguments("three_exact", torch.bfloat16)
        op = getattr(torch.ops.litehrnet_cuda, NAME)
        _, statistics, (hidden, logits) = op(*self.dispatched(args))
        assert hidden.dtype == torch.float32
        assert logits.dtype == torch.bfloat16
        for values, columns in ((hidden, statistics[:, : hidden.shape[1]]), (logits, statistics[:, hidden.shape[1] :])):
            variance, mean = torch.var_mean(values.double(), dim=(0, 2, 3), correction=0)
            torch.testing.assert_close(columns[0].double(), mean, rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(columns[1].double(), variance, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("training", [True, False], ids=["batch", "frozen"])
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("seed", range(1, 4))
    def test_any_order_of_threads_gives_the_same_outputs(
        self, seed: int, dtype: torch.dtype, training: bool, emulator: Any
    ) -> None:
        args = self.arguments("odd", dtype, training=training)
        op = getattr(torch.ops.litehrnet_cuda, NAME)

        def everything() -> list[Tensor]:
            y, statistics, saved = op(*self.dispatched(args))
            return [*y, statistics, *saved]

        first = everything()
        emulator.configure(seed=seed)
        for a, b in zip(first, everything(), strict=True):
            assert torch.equal(a, b)

    def test_empty_batch(self, emulator: Any) -> None:
        args = self.arguments("three_exact", batch=0, training=False)
        y, statistics = functional.cross_resolution_weighting_batch_norm(*args)
        assert [s.shape for s in y] == [x.shape for x in args[0]]
        assert statistics.shape == (3, 0)
        assert emulator.launches() == []
        with pytest.raises(RuntimeError, match="expected more than 1 value per channel when training"):
            functional.cross_resolution_weighting_batch_norm(*self.arguments("three_exact", batch=0))

    @pytest.mark.parametrize(
        ("index", "value", "message"),
        [
            (1, torch.zeros(5, 11), r"weight1: expected shape \[5, 10\], got \[5, 11\]"),
            (1, torch.zeros(10), r"weight1: expected shape \[R, 10\], got \[10\]"),
            (2, torch.zeros(5, 10), r"weight2: expected shape \[10, 5\], got \[5, 10\]"),
            (2, torch.zeros(10, 5).double(), r"weight2: expected float32, as training needs beside"),
            (3, [torch.zeros(5)], r"norm_weight: expected 2 tensors, one per batch norm, got 1"),
            (4, [torch.zeros(5), torch.zeros(5)], r"norm_bias\[1\]: expected shape \[10\], got \[5\]"),
        ],
    )
    def test_bad_arguments_are_named(self, index: int, value: Any, message: str) -> None:
        self.assert_refused(index, value, message)

    def test_running_statistics_are_needed_when_frozen(self) -> None:
        args = self.arguments("two_exact", training=False)
        args[5] = []
        with pytest.raises(RuntimeError, match=f"{NAME}: running_mean: expected 2 tensors, one per batch norm, got 0"):
            functional.cross_resolution_weighting_batch_norm(*args)


def test_channels_for_is_what_the_messages_assume() -> None:
    assert sum(channels_for(SIZES["two_exact"])) == 10
