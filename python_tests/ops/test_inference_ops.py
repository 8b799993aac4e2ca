"""Every fused op on the emulated backend: the kernels' own source, the adapters, and what Python registers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import emulated_ops
import pytest
import torch
from op_cases import (
    DTYPES,
    SIZES,
    assert_close_to_reference,
    cast,
    channels_for,
    cross_resolution_weights,
    depthwise_weights,
    gate_weights,
    random_maps,
    size_cases,
)
from torch import Tensor

from litehrnet_cuda import functional
from litehrnet_cuda.reference.conditional_channel_weighting import conditional_channel_weighting
from litehrnet_cuda.reference.cross_resolution_weighting import cross_resolution_weighting
from litehrnet_cuda.reference.depthwise_conv import depthwise_conv
from litehrnet_cuda.reference.spatial_weighting import spatial_weighting

Sizes = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Op:
    """One op: its public function, its reference, random arguments, and the launches it may take."""

    name: str
    reference: Callable[..., list[Tensor]]
    arguments: Callable[[list[Tensor]], list[Any]]
    launches: int
    doubled: bool = False  # the input has twice the channels that the weights have

    @property
    def function(self) -> Callable[..., list[Tensor]]:
        function: Callable[..., list[Tensor]] = getattr(functional, self.name)
        return function

    def inputs(self, sizes: Sizes, batch: int = 2, seed: int = 0) -> list[Any]:
        torch.manual_seed(seed)
        channels = channels_for(sizes)
        maps = random_maps(sizes, [2 * c if self.doubled else c for c in channels], torch.float64, batch)
        return [maps, *self.arguments(maps)]


def _channels(maps: list[Tensor]) -> list[int]:
    return [m.shape[1] for m in maps]


def _block_weights(maps: list[Tensor]) -> list[Any]:
    half = [c // 2 for c in _channels(maps)]
    return [*cross_resolution_weights(half), *depthwise_weights(half), *gate_weights(half)]


OPS = [
    Op("cross_resolution_weighting", cross_resolution_weighting, lambda x: cross_resolution_weights(_channels(x)), 1),
    Op("depthwise_conv", depthwise_conv, lambda x: depthwise_weights(_channels(x)), 1),
    Op(
        "spatial_weighting",
        spatial_weighting,
        lambda x: [[torch.randn_like(m) for m in x], *gate_weights(_channels(x))],
        1,
    ),
    Op("conditional_channel_weighting", conditional_channel_weighting, _block_weights, 3, doubled=True),
]
every_op = pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)


@pytest.fixture(autouse=True)
def emulator() -> Any:
    library = emulated_ops.load()
    library.configure(seed=0)
    library.reset()
    yield library
    assert library.errors() == []


@every_op
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("sizes", size_cases())
def test_matches_reference(op: Op, sizes: Sizes, dtype: torch.dtype) -> None:
    assert_close_to_reference(op.function, op.reference, op.inputs(sizes), dtype)


@every_op
@pytest.mark.parametrize("batch", [1, 3, 16])
def test_batch_sizes(op: Op, batch: int) -> None:
    """Tiles change with the batch size; the result must not."""
    assert_close_to_reference(op.function, op.reference, op.inputs(SIZES["four_exact"], batch), torch.float32)


@every_op
@pytest.mark.parametrize("seed", range(5))
def test_any_order_of_threads_gives_the_same_bits(op: Op, seed: int, emulator: Any) -> None:
    args = cast(op.inputs(SIZES["odd"]), torch.float32)
    first = op.function(*args)
    emulator.configure(seed=seed)
    for a, b in zip(first, op.function(*args), strict=True):
        assert torch.equal(a, b)


@every_op
@pytest.mark.parametrize("name", ["one_branch", "two_exact", "three_exact", "four_exact", "odd"])
def test_launches(op: Op, name: str, emulator: Any) -> None:
    for batch in (1, 8):
        args = cast(op.inputs(SIZES[name], batch), torch.float32)
        emulator.reset()
        op.function(*args)
        assert len(emulator.launches()) == op.launches


@every_op
def test_empty_batch(op: Op, emulator: Any) -> None:
    args = cast(op.inputs(SIZES["three_exact"], batch=0), torch.float32)
    out = op.function(*args)
    assert [s.shape for s in out] == [s.shape for s in op.reference(*args)]
    assert emulator.launches() == []


def _expanded(x: Tensor) -> Tensor:
    return x[:1, :1].expand_as(x)


def _misaligned(x: Tensor) -> Tensor:
    """The same values one element after the start of an allocation, where no 16-byte load is possible."""
    memory = torch.empty(x.numel() + 1, dtype=x.dtype)
    view = memory[1:].view(x.shape)
    return view.copy_(x)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "sliced_channels": lambda x: torch.cat([x, x, x], dim=1)[:, x.shape[1] : 2 * x.shape[1]],
    "sliced_batch": lambda x: (
        torch.cat([x, x])[::2][: x.shape[0]] if x.shape[0] == 1 else x.repeat_interleave(2, 0)[::2]
    ),
    "sliced_width": lambda x: torch.nn.functional.pad(x, (1, 2))[..., 1:-2],
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "expanded": _expanded,
    "misaligned": _misaligned,
}


@every_op
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(op: Op, layout: str, dtype: torch.dtype) -> None:
    args = cast(op.inputs(SIZES["three_exact"]), dtype)
    changed = [LAYOUTS[layout](x) for x in args[0]]
    plain = [x.contiguous() for x in changed]
    expected = op.function(plain, *args[1:])
    actual = op.function(changed, *args[1:])
    for a, b, x in zip(actual, expected, changed, strict=True):
        assert torch.equal(a, b)
        only_channels_last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
        assert a.is_contiguous(memory_format=torch.channels_last if only_channels_last else torch.contiguous_format)


@every_op
@pytest.mark.parametrize("name", ["two_exact", "odd", "one_pixel"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_opcheck(op: Op, name: str, layout: str) -> None:
    args = cast(op.inputs(SIZES[name]), torch.float32)
    if layout == "channels_last":
        args[0] = [LAYOUTS[layout](x) for x in args[0]]
    torch.library.opcheck(getattr(torch.ops.litehrnet_cuda, op.name).default, tuple(args))


@every_op
@pytest.mark.compile
def test_compiles_into_one_graph(op: Op) -> None:
    args = cast(op.inputs(SIZES["two_exact"]), torch.float32)
    compiled = torch.compile(op.function, fullgraph=True, backend="aot_eager")
    for a, b in zip(compiled(*args), op.function(*args), strict=True):
        assert torch.equal(a, b)


@every_op
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_runs_in_its_dtype(op: Op, dtype: torch.dtype) -> None:
    args = cast(op.inputs(SIZES["two_exact"]), torch.float32)
    with torch.autocast("cpu", dtype=dtype):
        out = op.function(*args)
    for a, b in zip(out, op.function(*cast(args, dtype)), strict=True):
        assert a.dtype == dtype
        assert torch.equal(a, b)


def test_spatial_weighting_without_kept_half() -> None:
    op = OPS[2]
    for name in ("one_branch", "four_exact", "odd"):
        maps, _, *weights = op.inputs(SIZES[name])
        for dtype in DTYPES:
            assert_close_to_reference(op.function, op.reference, [maps, [], *weights], dtype)


def test_second_matrix_may_be_transposed_or_not() -> None:
    op = OPS[0]
    x, w1, b1, w2, b2 = cast(op.inputs(SIZES["odd"]), torch.float32)
    expected = op.function(x, w1, b1, w2, b2)
    for a, b in zip(op.function(x, w1, b1, w2.t().contiguous().t(), b2), expected, strict=True):
        assert torch.equal(a, b)


def _with(args: list[Any], index: int, value: Any) -> list[Any]:
    return [*args[:index], value, *args[index + 1 :]]


BAD: list[Any] = [
    (0, 0, [], r"x: expected 1 to 4 branches, got 0"),
    (0, 0, [torch.zeros(2, 3, 4)], r"x\[0\]: expected shape \[N, C, H, W\], got \[2, 3, 4\]"),
    (0, 0, [torch.zeros(2, 3, 4, 4)] * 5, r"x: expected 1 to 4 branches, got 5"),
    (0, 0, [torch.zeros(2, 4, 8, 8), torch.zeros(3, 6, 4, 4)], r"x\[1\]: expected batch size 2 as x\[0\] has, got 3"),
    (0, 0, [torch.zeros(2, 4, 8, 8), torch.zeros(2, 6, 4, 4).half()], r"x\[1\]: expected the dtype of x\[0\]"),
    (0, 0, [torch.zeros(2, 4, 8, 0), torch.zeros(2, 6, 4, 4)], r"expected C, H and W of at least 1"),
    (0, 1, torch.zeros(5, 11), r"weight1: expected shape \[5, 10\], got \[5, 11\]"),
    (0, 1, torch.zeros(10), r"weight1: expected shape \[R, 10\], got \[10\]"),
    (0, 2, torch.zeros(4), r"bias1: expected shape \[5\], got \[4\]"),
    (0, 3, torch.zeros(5, 10), r"weight2: expected shape \[10, 5\], got \[5, 10\]"),
    (0, 4, torch.zeros(10).double(), r"bias2: expected the dtype of x\[0\]"),
    (1, 1, [torch.zeros(4, 3, 3)], r"weight: expected 2 tensors, one per branch, got 1"),
    (
        1,
        1,
        [torch.zeros(4, 3, 3), torch.zeros(6, 1, 3, 3)],
        r"weight\[1\]: expected shape \[6, 3, 3\], got \[6, 1, 3, 3\]",
    ),
    (2, 1, [torch.zeros(2, 4, 16, 12)], r"kept: expected 2 tensors, one per branch, got 1"),
    (2, 1, [torch.zeros(2, 4, 16, 12), torch.zeros(2, 6, 8, 7)], r"kept\[1\]: expected shape \[2, 6, 8, 6\]"),
    (2, 2, [torch.zeros(1, 5), torch.zeros(1, 6)], r"weight1\[0\]: expected shape \[1, 4\], got \[1, 5\]"),
    (3, 0, [torch.zeros(2, 7, 16, 12), torch.zeros(2, 12, 8, 6)], r"x\[0\]: expected an even number of channels"),
    (3, 5, [torch.zeros(4, 3, 3), torch.zeros(5, 3, 3)], r"depthwise_weight\[1\]: expected shape \[6, 3, 3\]"),
    (3, 9, [torch.zeros(4, 2), torch.zeros(6, 1)], r"gate_weight2\[0\]: expected shape \[4, 1\], got \[4, 2\]"),
]


@pytest.mark.parametrize(("op_index", "argument", "value", "message"), BAD)
def test_bad_arguments_are_named(op_index: int, argument: int, value: Any, message: str) -> None:
    op = OPS[op_index]
    args = _with(cast(op.inputs(SIZES["two_exact"]), torch.float32), argument, value)
    with pytest.raises(RuntimeError, match=f"{op.name}: {message}"):
        op.function(*args)


@every_op
def test_integers_are_refused(op: Op) -> None:
    with pytest.raises(RuntimeError, match="expected float32, float16, bfloat16 or float64"):
        op.function(*cast(op.inputs(SIZES["one_branch"]), torch.int32))
