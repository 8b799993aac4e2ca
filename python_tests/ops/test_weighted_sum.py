from __future__ import annotations

from typing import Any

import pytest
import torch
from op_cases import DTYPES, LAYOUTS, memory_format_of
from training_cases import assert_gradcheck, assert_gradients_close_to_reference, require_grad, tensors_of

from litehrnet_cuda import functional
from litehrnet_cuda.backends import can_run_cpu
from litehrnet_cuda.reference import weighted_sum as reference

pytestmark = pytest.mark.skipif(not can_run_cpu().ok, reason=can_run_cpu().reason)

SIZES = {
    "one": [(8, 6)],
    "exact": [(8, 6), (8, 6), (4, 3)],
    "odd": [(33, 25), (17, 13), (9, 7), (5, 4), (33, 25)],
    "larger": [(5, 5), (7, 9)],
    "thin": [(1, 37), (1, 19)],
    "eight": [(16, 16), (8, 8), (4, 4), (2, 2), (1, 1), (16, 16), (8, 8), (3, 5)],
}
RESULTS = [(True, False), (True, True), (False, True)]  # sum, relu


def arguments(sizes: str, sum: bool = True, relu: bool = True, dtype: torch.dtype = torch.float64) -> list[Any]:
    torch.manual_seed(0)
    maps = [torch.randn(3, 5, *size, dtype=torch.float64).to(dtype) for size in SIZES[sizes]]
    return [maps, [1, 2, 1, 1, 2, 3, 1, 1][: len(maps)], sum, relu]


def cast_maps(args: Any, dtype: torch.dtype) -> list[Any]:
    return [[x.to(dtype) for x in args[0]], *args[1:]]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("sum", "relu"), RESULTS)
@pytest.mark.parametrize("sizes", SIZES)
def test_matches_reference(sizes: str, sum: bool, relu: bool, dtype: torch.dtype) -> None:
    args = arguments(sizes, sum, relu)
    assert_gradients_close_to_reference(functional.weighted_sum, reference.weighted_sum, args, dtype, 1, cast_maps)


@pytest.mark.parametrize("sizes", ["exact", "odd"])
def test_any_number_of_threads_gives_the_same_bits(sizes: str) -> None:
    args = arguments(sizes, dtype=torch.float32)
    cotangents = [torch.randn_like(args[0][0]) for _ in range(2)]
    before, runs = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            leaves = require_grad(args, 1)
            outputs = functional.weighted_sum(*leaves)
            runs.append([*outputs, *torch.autograd.grad(outputs, tensors_of(leaves[:1]), cotangents)])
    finally:
        torch.set_num_threads(before)
    for first, *others in zip(*runs, strict=True):
        assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout: str) -> None:
    args = arguments("exact", dtype=torch.float32)
    maps = [LAYOUTS[layout](x) for x in args[0]]
    expected = functional.weighted_sum([x.contiguous() for x in maps], *args[1:])
    for a, b in zip(functional.weighted_sum(maps, *args[1:]), expected, strict=True):
        assert torch.equal(a, b)
        assert a.is_contiguous(memory_format=memory_format_of(maps[0]))


@pytest.mark.parametrize(("sum", "relu"), RESULTS)
@pytest.mark.parametrize("sizes", ["exact", "larger"])
def test_gradcheck_and_opcheck(sizes: str, sum: bool, relu: bool) -> None:
    args = arguments(sizes, sum, relu)
    assert_gradcheck(lambda *given: functional.weighted_sum(*given), args, 1)
    torch.library.opcheck(torch.ops.litehrnet_cuda.weighted_sum.default, require_grad(args, 1))


def test_outputs_without_a_gradient_count_as_zero() -> None:
    (leaves, *rest) = require_grad(arguments("exact"), 1)
    total, positive = functional.weighted_sum(leaves, *rest)
    for one, other in ((total, positive), (positive, total)):
        some = torch.autograd.grad(one.sum(), leaves, retain_graph=True)
        both = torch.autograd.grad(one.sum() + 0 * other.sum(), leaves, retain_graph=True)
        assert all(torch.equal(a, b) for a, b in zip(some, both, strict=True))


@pytest.mark.parametrize(
    ("maps", "counts", "message"),
    [
        ([], [], "x: expected 1 to 8 terms, got 0"),
        ([(1, 2, 4, 4)] * 9, [1] * 9, "x: expected 1 to 8 terms, got 9"),
        ([(1, 2, 4, 4)], [1, 2], "counts: expected 1, one per term, got 2"),
        ([(1, 2, 4, 4), (1, 3, 2, 2)], [1, 2], r"x\[1\]: expected shape \[1, 2, 2, 2\], got \[1, 3, 2, 2\]"),
    ],
)
def test_what_does_not_fit_is_named(maps: Any, counts: list[int], message: str) -> None:
    with pytest.raises(RuntimeError, match=f"weighted_sum: {message}"):
        functional.weighted_sum([torch.zeros(shape) for shape in maps], counts)
