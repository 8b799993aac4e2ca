from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from op_cases import DTYPES, LAYOUTS, memory_format_of
from torch import Tensor
from training_cases import (
    accumulate_dtype,
    assert_gradcheck,
    assert_gradients_close_to_reference,
    cast_arguments,
    norm_parameters,
    require_grad,
    tensors_of,
)

from litehrnet_cuda import functional
from litehrnet_cuda.backends import can_run_cpu
from litehrnet_cuda.reference import separable_conv_batch_norm as reference

pytestmark = pytest.mark.skipif(not can_run_cpu().ok, reason=can_run_cpu().reason)

DIFFERENTIABLE = 5  # x, both weights, weight and bias of the norms
KINDS = [("separable", 1), ("separable", 2), ("pointwise", 1), ("norm", 1)]
SHAPES = [  # batch, channels, outputs, height, width
    (2, 40, 40, 32, 24),
    (3, 8, 17, 33, 35),
    (5, 20, 3, 6, 5),
    (4, 7, 9, 11, 66),
    (1, 5, 7, 9, 7),
    (2, 3, 4, 1, 9),
]


def arguments(
    shape: tuple[int, int, int, int, int] = (3, 8, 17, 13, 15),
    kind: str = "separable",
    stride: int = 1,
    relu: bool = True,
    training: bool = True,
    dtype: torch.dtype = torch.float64,
) -> list[Any]:
    torch.manual_seed(0)
    batch, channels, outputs, height, width = shape
    filters = [torch.randn(channels, 3, 3, dtype=torch.float64) / 3] * (kind == "separable")
    weight = [torch.randn(outputs, channels, dtype=torch.float64) / channels**0.5] * (kind != "norm")
    norms = norm_parameters([channels] * len(filters) + [outputs if weight else channels])
    maps = torch.randn(batch, channels, height, width, dtype=torch.float64)
    return cast_arguments([maps, filters, weight, *norms, stride, relu, training, 1e-5], dtype)


def results(args: list[Any], cotangent: Tensor) -> list[Tensor]:
    leaves = require_grad(args, DIFFERENTIABLE)
    y, statistics = functional.separable_conv_batch_norm(*leaves)
    return [y.detach(), statistics, *torch.autograd.grad(y, tensors_of(leaves[:DIFFERENTIABLE]), cotangent)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("relu", "training"), [*product([False, True], repeat=2)])
@pytest.mark.parametrize(("kind", "stride"), KINDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_reference(shape: Any, kind: str, stride: int, relu: bool, training: bool, dtype: torch.dtype) -> None:
    def listed(function: Any) -> Any:
        return lambda *args: [function(*args)[0]]

    assert_gradients_close_to_reference(
        listed(functional.separable_conv_batch_norm),
        listed(reference.separable_conv_batch_norm),
        arguments(shape, kind, stride, relu, training),
        dtype,
        DIFFERENTIABLE,
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("kind", "stride"), KINDS)
def test_statistics(kind: str, stride: int, dtype: torch.dtype) -> None:
    args = arguments(kind=kind, stride=stride, dtype=dtype)
    _, statistics = functional.separable_conv_batch_norm(*args)
    _, expected = reference.separable_conv_batch_norm(*cast_arguments(args, torch.float64))
    assert not statistics.requires_grad
    assert statistics.dtype == accumulate_dtype(dtype)
    # bf16 maps are rounded between the convolutions, which moves a mean by less than a rounding of one value.
    tolerance = {torch.float64: 1e-13, torch.float32: 1e-5, torch.bfloat16: 2e-2}[dtype]
    torch.testing.assert_close(statistics.double(), expected, rtol=tolerance, atol=tolerance)
    assert functional.separable_conv_batch_norm(*args[:-2], False, 1e-5)[1].shape == (3, 0)


@pytest.mark.parametrize("batch", [1, 2, 17])
@pytest.mark.parametrize(("kind", "stride"), KINDS)
def test_any_number_of_threads_gives_the_same_bits(kind: str, stride: int, batch: int) -> None:
    args = arguments((batch, 8, 17, 13, 15), kind, stride, dtype=torch.float32)
    cotangent = torch.randn_like(functional.separable_conv_batch_norm(*args)[0])
    before, runs = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            runs.append(results(args, cotangent))
    finally:
        torch.set_num_threads(before)
    for first, *others in zip(*runs, strict=True):
        assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("kind", "stride"), KINDS)
def test_layouts(kind: str, stride: int, layout: str) -> None:
    args = arguments(kind=kind, stride=stride, dtype=torch.float32)
    args[0] = LAYOUTS[layout](args[0])
    y = functional.separable_conv_batch_norm(*args)[0]
    assert y.is_contiguous(memory_format=memory_format_of(args[0]))
    cotangent = torch.randn_like(y)
    expected = results([args[0].contiguous(), *args[1:]], cotangent.contiguous())
    for a, b in zip(results(args, LAYOUTS[layout](cotangent)), expected, strict=True):
        if layout != "expanded":  # another cotangent then
            assert torch.equal(a, b)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("kind", "stride"), KINDS)
def test_gradcheck(kind: str, stride: int, training: bool) -> None:
    args = arguments((2, 3, 4, 5, 6), kind, stride, training=training)
    assert_gradcheck(lambda *given: [functional.separable_conv_batch_norm(*given)[0]], args, DIFFERENTIABLE)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("kind", "stride"), KINDS)
def test_opcheck(kind: str, stride: int, training: bool) -> None:
    op = torch.ops.litehrnet_cuda.separable_conv_batch_norm.default
    torch.library.opcheck(op, require_grad(arguments((2, 3, 4, 5, 6), kind, stride, training=training), DIFFERENTIABLE))


def test_empty_batch() -> None:
    args = arguments((0, 8, 17, 13, 15), training=False)
    assert functional.separable_conv_batch_norm(*args)[0].shape == (0, 17, 13, 15)


def test_double_backward_is_refused() -> None:
    args = require_grad(arguments(), DIFFERENTIABLE)
    (grad,) = torch.autograd.grad(functional.separable_conv_batch_norm(*args)[0].sum(), args[0], create_graph=True)
    with pytest.raises(RuntimeError, match="separable_conv_batch_norm: double backward is not supported"):
        grad.square().sum().backward()


@pytest.mark.parametrize(
    ("index", "value", "message"),
    [
        (0, torch.zeros(2, 8, 4), r"x\[0\]: expected shape \[N, C, H, W\], got \[2, 8, 4\]"),
        (1, [torch.zeros(8, 3, 3)] * 2, "depthwise_weight: expected none or one, got 2"),
        (2, [], "weight: expected one, or none without"),
        (2, [torch.zeros(17, 9, dtype=torch.float64)], r"weight.*: expected shape \[17, 8\], got \[17, 9\]"),
        (7, 3, "stride: expected 1, or 2 with a depthwise"),
    ],
)
def test_what_does_not_fit_is_named(index: int, value: Any, message: str) -> None:
    args = arguments()
    args[index] = value
    with pytest.raises(RuntimeError, match=f"separable_conv_batch_norm: {message}"):
        functional.separable_conv_batch_norm(*args)


def test_a_single_value_is_refused() -> None:
    with pytest.raises(RuntimeError, match="expected more than 1 value per channel when training"):
        functional.separable_conv_batch_norm(*arguments((1, 8, 17, 1, 1)))
