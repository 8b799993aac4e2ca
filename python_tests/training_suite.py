"""What every op with batch norms must stand on the emulated backend: a base class for the tests of each op."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, ClassVar

import emulated_ops
import pytest
import torch
from op_cases import DTYPES, LAYOUTS, SIZES, channels_for, memory_format_of, size_cases
from torch import Tensor
from training_cases import (
    TRAINING_OPS,
    assert_gradcheck,
    assert_gradients_close_to_reference,
    cast_arguments,
    gradients,
    require_grad,
    tensors_of,
)

from litehrnet_cuda import functional

Sizes = Sequence[tuple[int, int]]
GRADCHECK_SIZES = ["one_branch", "two_exact", "three_exact", "odd", "lowest_is_one", "low_is_larger", "thin"]


class TrainingOpSuite:
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
    def op(self) -> Callable[..., tuple[list[Tensor], Tensor]]:
        op: Callable[..., tuple[list[Tensor], Tensor]] = getattr(functional, self.name)
        return op

    def arguments(
        self, sizes: str | Sizes, dtype: torch.dtype = torch.float32, batch: int = 3, training: bool = True
    ) -> list[Any]:
        sizes = SIZES[sizes] if isinstance(sizes, str) else sizes
        args = TRAINING_OPS[self.name].arguments(sizes, channels_for(sizes), batch, training)
        return cast_arguments(args, dtype)

    @property
    def differentiable(self) -> int:
        """The number of arguments with gradients: all but running statistics and flags."""
        return len(self.arguments("one_branch")) - 4

    def dispatched(self, args: list[Any]) -> tuple[Any, ...]:
        """The arguments of the op itself, running statistics left out where they are not read."""
        return (*args[:-4], *([[], []] if args[-2] else args[-4:-2]), *args[-2:])

    @pytest.mark.parametrize("training", [True, False], ids=["batch", "frozen"])
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("sizes", size_cases())
    def test_matches_reference(self, sizes: Sizes, dtype: torch.dtype, training: bool) -> None:
        # Three values of one channel are normalised to little but their signs, which magnifies roundings by luck.
        batch = 40 if sizes == SIZES["one_pixel"] else 3
        args = self.arguments(sizes, torch.float64, batch, training)
        reference = TRAINING_OPS[self.name].reference
        assert_gradients_close_to_reference(self.op, reference, args, dtype, self.differentiable)

    @pytest.mark.parametrize("batch", [1, 2, 9, 40])
    def test_batch_sizes(self, batch: int) -> None:
        """Tiles and parts change with the batch size; the result must not."""
        args = self.arguments("three_exact", torch.float64, batch)
        reference = TRAINING_OPS[self.name].reference
        assert_gradients_close_to_reference(self.op, reference, args, torch.float32, self.differentiable)

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
    @pytest.mark.parametrize("name", ["two_exact", "odd"])
    def test_statistics(self, name: str, dtype: torch.dtype) -> None:
        args = self.arguments(name, dtype)
        _, statistics = self.op(*args)
        _, expected = TRAINING_OPS[self.name].reference(*cast_arguments(args, torch.float64))
        assert statistics.shape == expected.shape
        assert not statistics.requires_grad
        # bf16 maps are rounded between the convolutions, which moves a mean by less than a rounding of one value.
        tolerance = {torch.float64: 1e-13, torch.float32: 1e-5, torch.bfloat16: 2e-2}[dtype]
        torch.testing.assert_close(statistics.double(), expected, rtol=tolerance, atol=tolerance)
        assert self.op(*self.arguments(name, dtype, training=False))[1].shape == (3, 0)

    @pytest.mark.parametrize("training", [True, False], ids=["batch", "frozen"])
    @pytest.mark.parametrize("name", GRADCHECK_SIZES)
    def test_gradcheck(self, name: str, training: bool) -> None:
        args = self.arguments(name, torch.float64, training=training)
        assert_gradcheck(lambda *given: self.op(*given)[0], args, self.differentiable)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
    @pytest.mark.parametrize("seed", range(4))
    def test_any_order_of_threads_gives_the_same_bits(self, seed: int, dtype: torch.dtype, emulator: Any) -> None:
        args = self.arguments("odd", dtype)
        cotangents = [torch.randn_like(x) for x in args[0]]
        first = gradients(self.op, args, cotangents, self.differentiable)
        emulator.configure(seed=seed)
        again = gradients(self.op, args, cotangents, self.differentiable)
        for a, b in zip(chain(*first), chain(*again), strict=True):
            assert torch.equal(a, b)

    @pytest.mark.parametrize("name", ["one_branch", "two_exact", "three_exact", "four_exact", "odd"])
    @pytest.mark.parametrize("batch", [2, 8])
    def test_launches(self, name: str, batch: int, emulator: Any) -> None:
        args = require_grad(self.arguments(name, batch=batch), self.differentiable)
        emulator.reset()
        y, _ = self.op(*args)
        assert len(emulator.launches()) == TRAINING_OPS[self.name].forward_launches
        emulator.reset()
        sum(s.sum() for s in y).backward()
        assert len(emulator.launches()) == TRAINING_OPS[self.name].backward_launches

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_layouts(self, layout: str, dtype: torch.dtype) -> None:
        """Of the maps, and of the gradients that come in."""
        args = self.arguments("three_exact", dtype)
        changed = [LAYOUTS[layout](x) for x in args[0]]
        cotangents = [LAYOUTS[layout](torch.randn_like(x)) for x in args[0]]
        leaves = require_grad(args[1:], self.differentiable - 1)
        results = []
        for maps, grads in (
            (changed, cotangents),
            ([x.contiguous() for x in changed], [c.contiguous() for c in cotangents]),
        ):
            maps = [x.detach().requires_grad_() for x in maps]
            y, _ = self.op(maps, *leaves)
            wanted = [*maps, *tensors_of(leaves[: self.differentiable - 1])]
            results.append((y, torch.autograd.grad(y, wanted, grads)))
        for a, b, x in zip(results[0][0], results[1][0], changed, strict=True):
            assert torch.equal(a, b)
            assert a.is_contiguous(memory_format=memory_format_of(x))
        for a, b in zip(results[0][1], results[1][1], strict=True):
            assert torch.equal(a, b)

    @pytest.mark.parametrize("training", [True, False], ids=["batch", "frozen"])
    @pytest.mark.parametrize("name", ["two_exact", "odd"])
    def test_opcheck(self, name: str, training: bool) -> None:
        args = require_grad(self.arguments(name, training=training), self.differentiable)
        op = getattr(torch.ops.litehrnet_cuda, self.name).default
        torch.library.opcheck(op, self.dispatched(args))

    def test_opcheck_of_the_backward_op(self) -> None:
        args = self.dispatched(self.arguments("two_exact"))
        y, statistics, saved = getattr(torch.ops.litehrnet_cuda, self.name)(*args)
        backward = getattr(torch.ops.litehrnet_cuda, f"_{self.name}_backward").default
        torch.library.opcheck(backward, ([torch.randn_like(s) for s in y], *args[:-2], statistics, saved, *args[-2:]))

    def test_double_backward_is_refused(self) -> None:
        args = require_grad(self.arguments("two_exact"), self.differentiable)
        y, _ = self.op(*args)
        (grad,) = torch.autograd.grad(y[0].sum(), args[0][0], create_graph=True)
        with pytest.raises(RuntimeError, match=f"{self.name}: double backward is not supported"):
            grad.square().sum().backward()

    @pytest.mark.compile
    def test_training_step_compiles_into_one_graph(self) -> None:
        args = self.arguments("two_exact")
        cotangents = [torch.randn_like(x) for x in args[0]]
        compiled = torch.compile(self.op, fullgraph=True, backend="aot_eager")
        expected = gradients(self.op, args, cotangents, self.differentiable)
        actual = gradients(compiled, args, cotangents, self.differentiable)
        for a, b in zip(chain(*actual), chain(*expected), strict=True):
            assert torch.equal(a, b)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
    def test_autocast_runs_in_its_dtype(self, dtype: torch.dtype) -> None:
        args = require_grad(self.arguments("two_exact"), self.differentiable)
        with torch.autocast("cpu", dtype=dtype):
            y, statistics = self.op(*args)
        assert statistics.dtype == torch.float32
        sum(s.float().sum() for s in y).backward()
        for a, b in zip(y, self.op(*cast_arguments(args, dtype))[0], strict=True):
            assert a.dtype == dtype
            assert torch.equal(a, b)
        for leaf in tensors_of(args[: self.differentiable]):
            assert leaf.grad is not None
            assert leaf.grad.dtype == torch.float32

    def test_outputs_without_a_gradient_count_as_zero(self) -> None:
        args = require_grad(self.arguments("two_exact"), self.differentiable)
        y, _ = self.op(*args)
        leaves = tensors_of(args[: self.differentiable])
        some = torch.autograd.grad(y[0].sum(), leaves, retain_graph=True)
        all_ = torch.autograd.grad(y[0].sum() + 0 * y[1].sum(), leaves)
        for a, b in zip(some, all_, strict=True):
            assert torch.equal(a, b)

    def test_a_single_value_is_refused(self) -> None:
        with pytest.raises(RuntimeError, match=f"{self.name}: expected more than 1 value per channel when training"):
            self.op(*self.arguments("one_pixel", batch=1))

    def test_parameters_of_another_dtype_are_refused(self) -> None:
        args = self.arguments("two_exact", torch.float16)
        args[1] = [w.half() for w in args[1]] if isinstance(args[1], list) else args[1].half()
        with pytest.raises(RuntimeError, match=f"{self.name}: .*: expected float32, as training needs beside"):
            self.op(*args)

    def assert_refused(self, index: int, value: Any, message: str) -> None:
        """The op, with argument ``index`` replaced, raises an error that names it."""
        args = self.arguments("two_exact")
        args[index] = value
        with pytest.raises(RuntimeError, match=f"{self.name}: {message}"):
            self.op(*args)
