"""What every fused op must stand on the emulated backend: a base class for the tests of each op.

The emulated backend runs the kernels' own source and the adapters that ship; what Python registers beside the op is
under test as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import emulated_ops
import pytest
import torch
from op_cases import (
    DTYPES,
    LAYOUTS,
    OPS,
    SIZES,
    assert_close_to_reference,
    cast,
    channels_for,
    memory_format_of,
    size_cases,
)
from torch import Tensor
from training_cases import assert_gradcheck, assert_gradients_close_to_reference, require_grad

from litehrnet_cuda import functional

Sizes = Sequence[tuple[int, int]]


class InferenceOpSuite:
    """Subclasses say which op, and add what is special about it."""

    name: ClassVar[str]

    @pytest.fixture(autouse=True)
    def emulator(self) -> Any:
        library = emulated_ops.load()
        library.configure(seed=0)
        library.reset()
        yield library
        assert library.errors() == []

    @property
    def op(self) -> Callable[..., list[Tensor]]:
        op: Callable[..., list[Tensor]] = getattr(functional, self.name)
        return op

    def arguments(self, sizes: str | Sizes, dtype: torch.dtype = torch.float32, batch: int = 2) -> list[Any]:
        sizes = SIZES[sizes] if isinstance(sizes, str) else sizes
        args: list[Any] = cast(OPS[self.name].arguments(sizes, channels_for(sizes), batch), dtype)
        return args

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("sizes", size_cases())
    def test_matches_reference(self, sizes: Sizes, dtype: torch.dtype) -> None:
        assert_close_to_reference(self.op, OPS[self.name].reference, self.arguments(sizes, torch.float64), dtype)

    @pytest.mark.parametrize("batch", [1, 3, 16])
    def test_batch_sizes(self, batch: int) -> None:
        """Tiles change with the batch size; the result must not."""
        args = self.arguments("four_exact", torch.float64, batch)
        assert_close_to_reference(self.op, OPS[self.name].reference, args, torch.float32)

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("seed", range(5))
    def test_any_order_of_threads_gives_the_same_bits(self, seed: int, dtype: torch.dtype, emulator: Any) -> None:
        args = self.arguments("odd", dtype)
        first = self.op(*args)
        emulator.configure(seed=seed)
        for a, b in zip(first, self.op(*args), strict=True):
            assert torch.equal(a, b)

    @pytest.mark.parametrize("name", ["one_branch", "two_exact", "three_exact", "four_exact", "odd"])
    def test_launches(self, name: str, emulator: Any) -> None:
        for batch in (1, 8):
            args = self.arguments(name, batch=batch)
            emulator.reset()
            self.op(*args)
            assert len(emulator.launches()) == OPS[self.name].launches

    def test_empty_batch(self, emulator: Any) -> None:
        args = self.arguments("three_exact", batch=0)
        assert [s.shape for s in self.op(*args)] == [s.shape for s in OPS[self.name].reference(*args)]
        assert emulator.launches() == []

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_layouts(self, layout: str, dtype: torch.dtype) -> None:
        args = self.arguments("three_exact", dtype)
        changed = [LAYOUTS[layout](x) for x in args[0]]
        expected = self.op([x.contiguous() for x in changed], *args[1:])
        for a, b, x in zip(self.op(changed, *args[1:]), expected, changed, strict=True):
            assert torch.equal(a, b)
            assert a.is_contiguous(memory_format=memory_format_of(x))

    @pytest.mark.parametrize("name", ["two_exact", "odd", "one_pixel"])
    @pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
    def test_opcheck(self, name: str, layout: str) -> None:
        args = self.arguments(name)
        if layout == "channels_last":
            args[0] = [LAYOUTS[layout](x) for x in args[0]]
        torch.library.opcheck(getattr(torch.ops.litehrnet_cuda, self.name).default, tuple(args))

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("name", ["one_branch", "four_exact", "overlapping", "lowest_is_one", "low_is_larger"])
    def test_gradients_match_reference(self, name: str, dtype: torch.dtype) -> None:
        args = self.arguments(name, torch.float64)
        reference = OPS[self.name].reference
        assert_gradients_close_to_reference(self.op, reference, args, dtype, len(args), cast)

    @pytest.mark.parametrize("name", ["one_branch", "two_exact", "odd"])
    def test_gradcheck(self, name: str) -> None:
        args = self.arguments(name, torch.float64)
        assert_gradcheck(lambda *given: self.op(*given), args, len(args))

    def test_opcheck_with_gradients(self) -> None:
        args = require_grad(self.arguments("two_exact"), len(self.arguments("two_exact")))
        torch.library.opcheck(getattr(torch.ops.litehrnet_cuda, self.name).default, tuple(args))

    def test_double_backward_is_refused(self) -> None:
        args = require_grad(self.arguments("two_exact"), 1)
        (grad,) = torch.autograd.grad(self.op(*args)[0].sum(), args[0][0], create_graph=True)
        with pytest.raises(RuntimeError, match=f"{self.name}.*: double backward is not supported"):
            grad.square().sum().backward()

    @pytest.mark.compile
    def test_compiles_into_one_graph(self) -> None:
        args = self.arguments("two_exact")
        compiled = torch.compile(self.op, fullgraph=True, backend="aot_eager")
        for a, b in zip(compiled(*args), self.op(*args), strict=True):
            assert torch.equal(a, b)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
    def test_autocast_runs_in_its_dtype(self, dtype: torch.dtype) -> None:
        args = self.arguments("two_exact")
        with torch.autocast("cpu", dtype=dtype):
            out = self.op(*args)
        for a, b in zip(out, self.op(*cast(args, dtype)), strict=True):
            assert a.dtype == dtype
            assert torch.equal(a, b)

    def test_integers_are_refused(self) -> None:
        with pytest.raises(RuntimeError, match=f"{self.name}: x: expected float32, float16, bfloat16 or float64"):
            self.op(*self.arguments("one_branch", torch.int32))

    @pytest.mark.parametrize(
        ("maps", "message"),
        [
            ([], r"x: expected 1 to 4 branches, got 0"),
            ([(2, 4, 4, 4)] * 5, r"x: expected 1 to 4 branches, got 5"),
            ([(2, 4, 4)], r"x\[0\]: expected shape \[N, C, H, W\], got \[2, 4, 4\]"),
            ([(2, 4, 8, 8), (3, 6, 4, 4)], r"x\[1\]: expected batch size 2 as x\[0\] has, got 3"),
            ([(2, 4, 8, 8), (2, 6, 4, 0)], r"x\[1\]: expected C, H and W of at least 1, got \[2, 6, 4, 0\]"),
        ],
        ids=["none", "five", "three axes", "batch", "empty"],
    )
    def test_bad_branches_are_named(self, maps: list[tuple[int, ...]], message: str) -> None:
        args = self.arguments("two_exact")
        with pytest.raises(RuntimeError, match=f"{self.name}: {message}"):
            self.op([torch.zeros(shape) for shape in maps], *args[1:])

    def test_branches_of_two_dtypes_are_named(self) -> None:
        args = self.arguments("two_exact")
        args[0][1] = args[0][1].half()
        with pytest.raises(RuntimeError, match=rf"{self.name}: x\[1\]: expected the dtype of x\[0\]"):
            self.op(*args)

    def assert_refused(self, index: int, value: Any, message: str) -> None:
        """The op, with argument ``index`` replaced, raises an error that names it."""
        args = self.arguments("two_exact")
        args[index] = value
        with pytest.raises(RuntimeError, match=f"{self.name}: {message}"):
            self.op(*args)
