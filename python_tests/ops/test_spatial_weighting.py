from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import pytest
import torch
from op_cases import DTYPES, LAYOUTS, assert_close_to_reference, cast, memory_format_of, size_cases
from op_suite import InferenceOpSuite
from torch import Tensor
from training_cases import (
    accumulate_dtype,
    assert_gradcheck,
    assert_gradients_close_to_reference,
    gradients,
    require_grad,
    tensors_of,
)

from litehrnet_cuda.reference.spatial_weighting import spatial_weighting

ARGUMENTS = 6  # all have gradients
KEPT = pytest.mark.parametrize("kept", [True, False], ids=["kept", "nothing_kept"])


def cast_maps(args: Sequence[Any], dtype: torch.dtype) -> list[Any]:
    """Maps in a dtype, weights in the one that kernels sum in."""
    return [*cast(args[:2], dtype), *cast(args[2:], accumulate_dtype(dtype))]


def reference_in_the_dtype_of_maps(x: Sequence[Tensor], kept: Sequence[Tensor], *weights: Any) -> list[Tensor]:
    return spatial_weighting(x, kept, *cast(weights, x[0].dtype))


class TestSpatialWeighting(InferenceOpSuite):
    name = "spatial_weighting"

    def without(self, kept: bool, args: list[Any]) -> list[Any]:
        return args if kept else [args[0], [], *args[2:]]

    def cotangents(self, args: list[Any]) -> list[Tensor]:
        return [torch.randn_like(y) for y in self.op(*args)]

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("name", ["one_branch", "four_exact", "odd"])
    def test_without_kept_half(self, name: str, dtype: torch.dtype) -> None:
        maps, _, *weights = self.arguments(name, torch.float64)
        assert_close_to_reference(self.op, spatial_weighting, [maps, [], *weights], dtype)

    @KEPT
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("sizes", size_cases())
    def test_gradients_of_all_sizes(
        self, sizes: Sequence[tuple[int, int]], dtype: torch.dtype, kept: bool, emulator: Any
    ) -> None:
        args = self.without(kept, self.arguments(sizes, torch.float64))
        emulator.reset()
        assert_gradients_close_to_reference(self.op, spatial_weighting, args, dtype, ARGUMENTS, cast)
        assert len(emulator.launches()) == 1 + 4

    @KEPT
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
    @pytest.mark.parametrize("name", ["four_exact", "odd", "one_pixel"])
    def test_weights_in_the_type_of_sums(self, name: str, dtype: torch.dtype, kept: bool) -> None:
        """Their gradients are in that type too, and not rounded to that of the maps."""
        args = self.without(kept, self.arguments(name, torch.float64))
        reference = reference_in_the_dtype_of_maps
        assert_gradients_close_to_reference(self.op, reference, args, dtype, ARGUMENTS, cast_maps)
        given = cast_maps(args, dtype)
        outputs, grads = gradients(self.op, given, self.cotangents(given), ARGUMENTS)
        assert {y.dtype for y in outputs} == {dtype}
        assert [g.dtype for g in grads] == [t.dtype for t in tensors_of(given)]

    def test_weights_of_both_types(self) -> None:
        args = self.arguments("odd", torch.float16)
        wide = [*args[:2], *cast(args[2:], torch.float32)]
        mixed = [*args[:2], [args[2][0], *wide[2][1:]], *wide[3:]]
        cotangents = self.cotangents(args)
        for a, b in zip(
            chain(*gradients(self.op, mixed, cotangents, ARGUMENTS)),
            chain(*gradients(self.op, wide, cotangents, ARGUMENTS)),
            strict=True,
        ):
            assert torch.equal(a, b.to(a.dtype))

    @pytest.mark.parametrize("batch", [1, 3, 40])
    def test_gradients_of_batch_sizes(self, batch: int) -> None:
        args = self.arguments("four_exact", torch.float64, batch)
        assert_gradients_close_to_reference(self.op, spatial_weighting, args, torch.float32, ARGUMENTS, cast)

    def test_gradients_of_an_empty_batch(self) -> None:
        args = self.arguments("two_exact", batch=0)
        _, grads = gradients(self.op, args, self.cotangents(args), ARGUMENTS)
        for grad, argument in zip(grads, tensors_of(args), strict=True):
            assert grad.shape == argument.shape
            assert not grad.any()

    @pytest.mark.parametrize("name", ["one_branch", "odd", "lowest_is_one", "thin"])
    def test_gradcheck_without_kept_half(self, name: str) -> None:
        args = self.without(False, self.arguments(name, torch.float64))
        assert_gradcheck(lambda *given: self.op(*given), args, ARGUMENTS)

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("seed", range(4))
    def test_gradients_in_any_order_of_threads(self, seed: int, dtype: torch.dtype, emulator: Any) -> None:
        args = self.arguments("odd", dtype)
        cotangents = self.cotangents(args)
        first = gradients(self.op, args, cotangents, ARGUMENTS)
        emulator.configure(seed=seed)
        for a, b in zip(chain(*first), chain(*gradients(self.op, args, cotangents, ARGUMENTS)), strict=True):
            assert torch.equal(a, b)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_gradients_of_layouts(self, layout: str, dtype: torch.dtype) -> None:
        """Of the maps, and of the gradients that come in."""
        args = self.arguments("three_exact", dtype)
        cotangents = [LAYOUTS[layout](c) for c in self.cotangents(args)]
        changed = [LAYOUTS[layout](x) for x in args[0]]
        results = []
        for maps, grads in (
            (changed, cotangents),
            ([x.contiguous() for x in changed], [c.contiguous() for c in cotangents]),
        ):
            maps = [x.detach().requires_grad_() for x in maps]
            leaves = require_grad(args[1:], ARGUMENTS - 1)
            results.append(torch.autograd.grad(self.op(maps, *leaves), [*maps, *tensors_of(leaves)], grads))
        # Shorter vectors give lanes other pixels to add, hence other roundings.
        same = torch.equal if layout != "misaligned" else torch.testing.assert_close
        for a, b in zip(*results, strict=True):
            assert same(a, b) is not False
        for a, x in zip(results[0], changed, strict=False):
            assert a.is_contiguous(memory_format=memory_format_of(x))

    @KEPT
    @pytest.mark.parametrize("name", ["two_exact", "odd"])
    @pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
    def test_opcheck_of_both_ops(self, name: str, layout: str, kept: bool) -> None:
        args = self.without(kept, self.arguments(name))
        if layout == "channels_last":
            args[0] = [LAYOUTS[layout](x) for x in args[0]]
        ops = torch.ops.litehrnet_cuda
        torch.library.opcheck(ops.spatial_weighting.default, tuple(require_grad(args, ARGUMENTS)))
        grad_y = self.cotangents(args)
        torch.library.opcheck(ops._spatial_weighting_backward.default, (grad_y, args[0], kept, *args[2:]))

    @pytest.mark.compile
    @KEPT
    def test_training_step_compiles_into_one_graph(self, kept: bool) -> None:
        args = self.without(kept, self.arguments("two_exact"))
        cotangents = self.cotangents(args)
        compiled = torch.compile(self.op, fullgraph=True, backend="aot_eager")
        expected = gradients(self.op, args, cotangents, ARGUMENTS)
        for a, b in zip(chain(*gradients(compiled, args, cotangents, ARGUMENTS)), chain(*expected), strict=True):
            assert torch.equal(a, b)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
    def test_gradients_under_autocast(self, dtype: torch.dtype) -> None:
        args = require_grad(self.arguments("two_exact"), ARGUMENTS)
        with torch.autocast("cpu", dtype=dtype):
            y = self.op(*args)
        sum(s.float().sum() for s in y).backward()
        narrow = require_grad(cast(args, dtype), ARGUMENTS)
        sum(s.float().sum() for s in self.op(*narrow)).backward()
        for leaf, same in zip(tensors_of(args), tensors_of(narrow), strict=True):
            assert torch.equal(leaf.grad, same.grad.float())

    def test_outputs_without_a_gradient_count_as_zero(self) -> None:
        args = require_grad(self.arguments("two_exact"), ARGUMENTS)
        y = self.op(*args)
        some = torch.autograd.grad(y[0].sum(), tensors_of(args), retain_graph=True)
        all_ = torch.autograd.grad(y[0].sum() + 0 * y[1].sum(), tensors_of(args))
        for a, b in zip(some, all_, strict=True):
            assert torch.equal(a, b)

    @pytest.mark.parametrize("index", range(ARGUMENTS))
    def test_gradients_of_one_argument(self, index: int) -> None:
        args = require_grad(self.arguments("two_exact"), ARGUMENTS)
        expected = torch.autograd.grad(sum(y.sum() for y in self.op(*args)), args[index])
        alone = [value if i == index else [t.detach() for t in value] for i, value in enumerate(args)]
        for a, b in zip(
            torch.autograd.grad(sum(y.sum() for y in self.op(*alone)), alone[index]), expected, strict=True
        ):
            assert torch.equal(a, b)

    def test_nothing_but_maps_and_weights_is_kept_for_the_backward_pass(self) -> None:
        args = require_grad(self.arguments("two_exact"), ARGUMENTS)
        saved: list[Tensor] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
            self.op(*args)
        allowed = {t.data_ptr() for t in tensors_of([args[0], *args[2:]])}
        assert saved
        assert {t.data_ptr() for t in saved} <= allowed

    @pytest.mark.parametrize(
        ("index", "value", "message"),
        [
            (1, [torch.zeros(2, 4, 16, 12)], r"kept: expected 2 tensors, one per branch, got 1"),
            (
                1,
                [torch.zeros(2, 4, 16, 12), torch.zeros(2, 6, 8, 7)],
                r"kept\[1\]: expected shape \[2, 6, 8, 6\] as x\[1\] has, got \[2, 6, 8, 7\]",
            ),
            (2, [torch.zeros(1, 5), torch.zeros(1, 6)], r"weight1\[0\]: expected shape \[1, 4\], got \[1, 5\]"),
            (5, [torch.zeros(4)], r"bias2: expected 2 tensors, one per branch, got 1"),
            (3, [torch.zeros(1), torch.zeros(1).half()], r"bias1\[1\]: expected float32 as x\[0\] has, got float16"),
        ],
    )
    def test_bad_arguments_are_named(self, index: int, value: Any, message: str) -> None:
        self.assert_refused(index, value, message)

    def test_weights_of_a_third_type_are_named(self) -> None:
        args = self.arguments("two_exact", torch.float16)
        args[4][1] = args[4][1].bfloat16()
        message = r"weight2\[1\]: expected float16 as x\[0\] has, or float32, got bfloat16"
        with pytest.raises(RuntimeError, match=f"spatial_weighting: {message}"):
            self.op(*args)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ("count", r"grad_y: expected 2 tensors, one per branch, got 1"),
            ("shape", r"grad_y\[1\]: expected shape \[2, 6, 8, 6\], got \[2, 12, 8, 6\]"),
        ],
    )
    def test_bad_gradients_are_named(self, change: str, message: str) -> None:
        args = self.without(False, self.arguments("two_exact"))
        grad_y = self.cotangents(args)
        grad_y[1:] = [] if change == "count" else [torch.zeros(2, 12, 8, 6)]
        with pytest.raises(RuntimeError, match=f"_spatial_weighting_backward: {message}"):
            torch.ops.litehrnet_cuda._spatial_weighting_backward(grad_y, args[0], False, *args[2:])
