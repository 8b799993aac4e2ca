"""Every op on a GPU against plain PyTorch: results, gradients, determinism, layouts, memory."""

from __future__ import annotations

from typing import Any

import gpu_cases
import pytest
import torch
from gpu_cases import assert_same_bits, copies, flat, gpu_op, to_device
from op_cases import DTYPES, LAYOUTS, OPS, memory_format_of
from torch import Tensor
from training_cases import (
    TRAINING_OPS,
    assert_gradients_close_to_reference,
    require_grad,
    tensors_of,
)

from litehrnet_cuda import functional
from litehrnet_cuda.reference.update_running_statistics import update_running_statistics

pytestmark = pytest.mark.gpu

NAMES = pytest.mark.parametrize("name", gpu_cases.NAMES)
SIZES = ["one_branch", "two_exact", "three_exact", "four_exact", "stage4"]
ODD_SIZES = ["odd", "overlapping", "one_pixel", "thin", "lowest_is_one", "low_is_larger", "width_17", "width_129"]


def test_every_public_op_is_tested() -> None:
    # update_running_statistics, which writes to its arguments, has a test of its own below.
    assert sorted([*gpu_cases.NAMES, "update_running_statistics"]) == sorted(functional.__all__)


@NAMES
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("sizes", SIZES + ODD_SIZES)
def test_results_and_gradients_match_reference(name: str, sizes: str, dtype: torch.dtype) -> None:
    case = gpu_op(name)
    # Few values of one channel are normalised to little but their signs, which magnifies roundings by luck.
    args = case.arguments(sizes, torch.float64, 40 if sizes == "one_pixel" else 3)
    assert_gradients_close_to_reference(case.op, case.reference, args, dtype, case.differentiable, case.cast)


@NAMES
@pytest.mark.parametrize("batch", [1, 2, 16, 64])
def test_batch_sizes(name: str, batch: int) -> None:
    """Tiles and parts change with the batch size; the result must not."""
    case = gpu_op(name)
    args = case.arguments("stage4", torch.float64, batch)
    assert_gradients_close_to_reference(case.op, case.reference, args, torch.float32, case.differentiable, case.cast)


@pytest.mark.parametrize("name", TRAINING_OPS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_frozen_statistics_match_reference(name: str, dtype: torch.dtype) -> None:
    case = gpu_op(name)
    args = case.arguments("three_exact", torch.float64)
    args[-2] = False
    assert_gradients_close_to_reference(case.op, case.reference, args, dtype, case.differentiable, case.cast)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_update_of_running_statistics(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    channels = [37, 300, 20, 40, 80, 160]
    accumulate = torch.float64 if dtype == torch.float64 else torch.float32
    args = [
        *([torch.rand(c, dtype=torch.float64).to(dtype) for c in channels] for _ in range(2)),
        [torch.tensor(i) for i in range(len(channels))],
        torch.rand(3, sum(channels), dtype=accumulate),
        0.1,
    ]
    ours, theirs = (copies(to_device(args, gpu_cases.DEVICE)) for _ in range(2))
    functional.update_running_statistics(*ours)
    update_running_statistics(*theirs)
    for a, b in zip(flat(ours), flat(theirs), strict=True):
        torch.testing.assert_close(a, b)


@NAMES
@pytest.mark.gradcheck
@pytest.mark.parametrize("sizes", ["two_exact", "odd", "low_is_larger"])
def test_gradcheck(name: str, sizes: str) -> None:
    case = gpu_op(name)
    args = case.arguments(sizes, torch.float64)
    leaves = tensors_of(require_grad(args, case.differentiable)[: case.differentiable])

    def function(*tensors: Tensor) -> tuple[Tensor, ...]:
        values = iter(tensors)
        given = [
            [next(values) for _ in value] if isinstance(value, list) else next(values)
            for value in args[: case.differentiable]
        ]
        return tuple(y for y in flat(case.op(*given, *args[case.differentiable :])) if y.requires_grad)

    assert torch.autograd.gradcheck(function, leaves, fast_mode=True, check_batched_grad=False)


@NAMES
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("sizes", "batch"), [("stage4", 8), ("stage4", 1), ("odd", 3)])
def test_two_runs_give_the_same_bits(name: str, sizes: str, batch: int, dtype: torch.dtype) -> None:
    case = gpu_op(name)
    args = case.arguments(sizes, dtype, max(batch, 2) if name in TRAINING_OPS else batch)
    first = case.step(args)
    for _ in range(3):
        assert_same_bits(case.step(args), first)


def misaligned(x: Tensor) -> Tensor:
    """The same values one element after the start of an allocation of x's device, where no 16-byte load is possible."""
    return x.new_empty(x.numel() + 1)[1:].view(x.shape).copy_(x)


GPU_LAYOUTS = {**LAYOUTS, "misaligned": misaligned}


@NAMES
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("layout", GPU_LAYOUTS)
def test_layouts(name: str, layout: str, dtype: torch.dtype) -> None:
    case = gpu_op(name)
    args = case.arguments("three_exact", dtype)
    changed = [GPU_LAYOUTS[layout](x) for x in args[0]]
    results = case.outputs([changed, *args[1:]])
    assert_same_bits(results, case.outputs([[x.contiguous() for x in changed], *args[1:]]))
    for y, x in zip(results, changed, strict=False):
        assert y.is_contiguous(memory_format=memory_format_of(x))


@pytest.mark.parametrize("name", OPS)
def test_empty_batch(name: str) -> None:
    case = gpu_op(name)
    args = case.arguments("three_exact", batch=0)
    assert [y.shape for y in case.outputs(args)] == [y.shape for y in case.reference(*args)]


@NAMES
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(name: str, dtype: torch.dtype) -> None:
    case = gpu_op(name)
    args = case.arguments("two_exact")
    with torch.autocast(gpu_cases.DEVICE, dtype=dtype):
        results = case.outputs(args)
    assert_same_bits(results, case.outputs(case.cast(args, dtype)))


@NAMES
@pytest.mark.compile
def test_compiled_step_gives_the_same_bits(name: str) -> None:
    case = gpu_op(name)
    args = case.arguments("two_exact")
    compiled = torch.compile(case.op, fullgraph=True)
    with torch.no_grad():
        assert_same_bits(flat(compiled(*args)), case.outputs(args))
    assert_same_bits(case.step(args, compiled), case.step(args))


@NAMES
def test_memory_is_that_of_results_and_workspaces(name: str) -> None:
    """Nothing is kept after a call, and a call needs less than once more what it reads and returns."""
    case = gpu_op(name)
    args = case.arguments("stage4", batch=8)
    case.outputs(args)
    case.step(args)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    results = case.outputs(args)
    peak = torch.cuda.max_memory_allocated() - before
    size = sum(t.numel() * t.element_size() for t in [*flat(args), *results])
    assert peak <= 2 * size
    del results
    for _ in range(3):
        case.step(args)
    assert torch.cuda.memory_allocated() == before


@NAMES
def test_a_tensor_on_the_cpu_is_refused(name: str) -> None:
    case = gpu_op(name)
    args: list[Any] = case.arguments("two_exact")
    args[1] = to_device(args[1], "cpu")
    with pytest.raises(RuntimeError, match="expected the device of"):
        case.op(*args)
