"""The backward pass of cross-resolution weighting with batch norms by itself: what it is given comes from PyTorch.

The definition in fp64, differentiated by autograd, is the truth. The rule for errors is that of `op_cases`: at most
twice that of the same definition in the kernel's own dtype. A gradient with a handful of elements is a small sample of
rounding, in which one side or the other is lucky; so the errors of all gradients, each relative to its largest element,
are taken together over the batch sizes, those of feature maps and those of parameters apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import emulated_ops
import emulation
import op_cases
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from weighting_backward_kernels import SOURCES, WeightingBackward

from litehrnet_cuda.ops.registration import accumulate_dtype

Sizes = Sequence[tuple[int, int]]
EPS = 1e-5


class Case(NamedTuple):
    """In fp64. Norms: [weight, bias, running mean, running variance] of the hidden channels and of the logits'."""

    x: list[Tensor]
    grad_y: list[Tensor]
    weight1: Tensor
    weight2: Tensor
    norms: list[list[Tensor]]
    training: bool

    def to(self, dtype: torch.dtype) -> Case:
        x, grad_y, weight1, weight2, norms = op_cases.cast(self[:-1], dtype)
        return Case(x, grad_y, weight1, weight2, norms, self.training)


def random_case(sizes: Sizes, batch: int, training: bool, hidden: int = 5, channels: list[int] | None = None) -> Case:
    torch.manual_seed(0)
    channels = channels or op_cases.channels_for(sizes)
    x = op_cases.random_maps(sizes, channels, torch.float64, batch)
    grad_y = op_cases.random_maps(sizes, channels, torch.float64, batch)
    weight1, _, weight2, _ = op_cases.cross_resolution_weights(channels, hidden)
    norms = [
        [
            torch.rand(c, dtype=torch.float64) + 0.5,
            torch.randn(c, dtype=torch.float64) * 0.2,
            torch.randn(c, dtype=torch.float64) * 0.2,
            torch.rand(c, dtype=torch.float64) + 0.5,
        ]
        for c in (hidden, sum(channels))
    ]
    return Case(x, grad_y, weight1, weight2, norms, training)


def forward(case: Case) -> tuple[list[Tensor], Tensor, Tensor]:
    """The definition: outputs, hidden, logits."""

    def norm(x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        return F.batch_norm(x, mean.clone(), variance.clone(), weight, bias, case.training, eps=EPS)

    size = case.x[-1].shape[2], case.x[-1].shape[3]
    pooled = torch.cat([F.adaptive_avg_pool2d(x, size) for x in case.x], dim=1)
    hidden = F.conv2d(pooled, case.weight1[:, :, None, None])
    logits = F.conv2d(F.relu(norm(hidden, *case.norms[0])), case.weight2[:, :, None, None])
    gates = torch.split(torch.sigmoid(norm(logits, *case.norms[1])), [x.shape[1] for x in case.x], dim=1)
    return [x * F.interpolate(g, x.shape[2:]) for x, g in zip(case.x, gates, strict=True)], hidden, logits


def gradients_by_autograd(case: Case) -> list[Tensor]:
    weights, biases = [n[0] for n in case.norms], [n[1] for n in case.norms]
    inputs = [*case.x, case.weight1, case.weight2, *weights, *biases]
    for tensor in inputs:
        tensor.requires_grad_()
    grads = torch.autograd.grad(forward(case)[0], inputs, case.grad_y)
    for tensor in inputs:
        tensor.requires_grad_(False)
    return list(grads)


def arguments(case: Case, dtype: torch.dtype) -> list[Any]:
    """The op's arguments: feature maps in a dtype, all else as kernels take it."""
    _, hidden, logits = forward(case)
    accumulate = accumulate_dtype(torch.empty(0, dtype=dtype))
    logits = logits.to(dtype)
    statistics = torch.empty(3, 0, dtype=accumulate)
    if case.training:
        rows = [
            torch.stack([x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False), x.var((0, 2, 3))])
            for x in (hidden, logits.double())
        ]
        statistics = torch.cat(rows, dim=1).to(accumulate)
    norms = op_cases.cast(list(zip(*case.norms, strict=True)), accumulate)
    running = [[], []] if case.training else norms[2:]
    return [
        op_cases.cast(case.grad_y, dtype),
        op_cases.cast(case.x, dtype),
        *op_cases.cast([case.weight1, case.weight2], accumulate),
        *norms[:2],
        *running,
        statistics,
        [hidden.to(accumulate), logits],
        case.training,
        EPS,
    ]


def gradients(args: Sequence[Any]) -> list[Tensor]:
    grads: list[Tensor] = torch.ops.litehrnet_cuda._cross_resolution_weighting_batch_norm_backward.default(*args)
    return grads


def worst_errors(actual: list[Tensor], exact: list[Tensor], maps: int) -> list[float]:
    """Relative to the largest element: of the gradients of feature maps, of the others."""
    errors = [
        ((a.double() - e).abs().max() / e.abs().max().clamp_min(torch.finfo(torch.float32).tiny)).item()
        for a, e in zip(actual, exact, strict=True)
    ]
    return [max(errors[:maps]), max(errors[maps:])]


def assert_right(calls: Sequence[tuple[Case, list[Tensor]]], dtype: torch.dtype) -> None:
    """Cases, whose values the dtype can hold, and what came out."""
    # Nothing exact stands above fp64: there, PyTorch's fp32 error is scaled to fp64's precision, and added once more
    # for the reference's own.
    double = dtype == torch.float64
    factor = 3 * torch.finfo(torch.float64).eps / torch.finfo(torch.float32).eps if double else 2
    errors, allowed = [], []
    for case, actual in calls:
        exact, maps = gradients_by_autograd(case), len(case.x)
        plain = gradients_by_autograd(case.to(torch.float32 if double else dtype))
        assert [a.shape for a in actual] == [e.shape for e in exact]
        assert {a.dtype for a in actual[:maps]} == {dtype}
        assert {a.dtype for a in actual[maps:]} == {accumulate_dtype(actual[0])}
        errors.append(worst_errors(actual, exact, maps))
        allowed.append([factor * e + op_cases.FLOOR[dtype] for e in worst_errors(plain, exact, maps)])
    for group, name in enumerate(("maps", "parameters")):
        error, most = max(e[group] for e in errors), max(a[group] for a in allowed)
        assert error <= most, f"{name}: relative error {error:.3g}, allowed {most:.3g}"


def representable(case: Case, dtype: torch.dtype) -> Case:
    return case.to(dtype).to(torch.float64)


class TestCrossResolutionWeightingBatchNormBackward:
    @pytest.fixture(autouse=True)
    def emulator(self) -> Iterator[emulation.Library]:
        library = emulated_ops.load()
        library.configure(seed=0)
        library.reset()
        yield library
        assert library.errors() == []

    @pytest.mark.parametrize("dtype", op_cases.DTYPES, ids=str)
    @pytest.mark.parametrize("training", [True, False], ids=["training", "frozen"])
    @pytest.mark.parametrize("sizes", op_cases.size_cases())
    def test_matches_autograd(self, sizes: Sizes, training: bool, dtype: torch.dtype) -> None:
        cases = [representable(random_case(sizes, batch, training), dtype) for batch in (1, 2, 3)]
        # A single value has no batch statistics; two are normalised to 1 and -1 whatever they are, so that gradients
        # through them cancel out.
        cases = [case for case in cases if not training or case.x[-1][:, 0].numel() > 2]
        assert_right([(case, gradients(arguments(case, dtype))) for case in cases], dtype)

    def test_launches(self, emulator: emulation.Library) -> None:
        case = random_case(op_cases.SIZES["odd"], 2, True)
        gradients(arguments(case, torch.float32))
        assert len(emulator.launches()) == 4

    @pytest.mark.parametrize("layout", op_cases.LAYOUTS)
    @pytest.mark.parametrize("sizes", ["odd", "four_exact"])
    def test_layouts(self, sizes: str, layout: str) -> None:
        """Any layout of x and of grad_y gives the same bits; gradients have the memory format of x."""
        change = op_cases.LAYOUTS[layout]
        case = random_case(op_cases.SIZES[sizes], 2, True).to(torch.float32)
        if layout == "expanded":
            case = case._replace(x=[change(x) for x in case.x], grad_y=[change(x) for x in case.grad_y])
        args = arguments(case.to(torch.float64), torch.float32)
        expected = gradients(args)
        for where in ([0], [1], [0, 1]):
            changed = [[change(t) for t in a] if i in where else a for i, a in enumerate(args)]
            actual = gradients(changed)
            for i, x in enumerate(changed[1]):
                assert actual[i].is_contiguous(memory_format=op_cases.memory_format_of(x))
            if layout != "misaligned":  # other vectors, hence another order of sums
                assert all(torch.equal(a, e) for a, e in zip(actual, expected, strict=True))
            for a, e in zip(actual, expected, strict=True):
                torch.testing.assert_close(a, e, rtol=1e-5, atol=1e-5)

    def test_orders_of_threads(self, emulator: emulation.Library) -> None:
        args = arguments(random_case(op_cases.SIZES["overlapping"], 3, True), torch.float32)
        expected = gradients(args)
        for seed in range(1, 6):
            emulator.configure(seed=seed)
            assert all(torch.equal(a, e) for a, e in zip(gradients(args), expected, strict=True)), f"seed {seed}"

    @pytest.mark.parametrize("training", [True, False])
    def test_empty_batch(self, training: bool) -> None:
        args = arguments(random_case([(4, 4), (2, 2)], 2, training), torch.float32)
        args[0], args[1] = [g[:0] for g in args[0]], [x[:0] for x in args[1]]
        args[9] = [s[:0] for s in args[9]]
        if training:
            with pytest.raises(RuntimeError, match="expected more than 1 value per channel"):
                gradients(args)
            return
        grads = gradients(args)
        assert [g.shape for g in grads[:2]] == [x.shape for x in args[1]]
        assert all(not g.any() for g in grads)

    def test_single_value_is_refused(self) -> None:
        args = arguments(random_case([(4, 4), (1, 1)], 2, True), torch.float32)
        args[0], args[1] = [g[:1] for g in args[0]], [x[:1] for x in args[1]]
        args[9] = [s[:1] for s in args[9]]
        with pytest.raises(
            RuntimeError, match=r"expected more than 1 value per channel.* x\[-1\] of shape \[1, 6, 1, 1\]"
        ):
            gradients(args)

    @pytest.mark.parametrize(
        ("index", "value", "message"),
        [
            (0, [torch.zeros(2, 4, 4, 4)], "grad_y: expected 2 tensors, one per branch, got 1"),
            (0, [torch.zeros(2, 4, 4, 5), torch.zeros(2, 6, 2, 2)], r"grad_y\[0\]: expected shape \[2, 4, 4, 4\]"),
            (2, torch.zeros(5, 9), r"weight1: expected shape \[5, 10\], got \[5, 9\]"),
            (3, torch.zeros(10, 5).double(), "weight2: expected float32"),
            (8, torch.zeros(3, 14), r"statistics: expected shape \[3, 15\], got \[3, 14\]"),
            (9, [torch.zeros(2, 5, 2, 2)], "saved: expected 2 tensors, hidden and logits, got 1"),
            (9, [torch.zeros(2, 5, 2, 2), torch.zeros(2, 9, 2, 2)], r"saved\[1\]: expected shape \[2, 10, 2, 2\]"),
        ],
    )
    def test_refuses(self, index: int, value: Any, message: str) -> None:
        args = arguments(random_case([(4, 4), (2, 2)], 2, True), torch.float32)
        args[index] = value
        with pytest.raises(RuntimeError, match=message):
            gradients(args)


@pytest.fixture(scope="module")
def loaded() -> emulation.Library:
    return emulation.load(SOURCES, mode="checked", includes=[emulated_ops.CSRC])


class TestKernels:
    """Without torch's dispatcher, every access to memory checked: races, bounds, reads of what has no value."""

    @pytest.fixture
    def library(self, loaded: emulation.Library) -> Iterator[emulation.Library]:
        loaded.reset()
        loaded.configure(seed=2, check=True)
        yield loaded
        assert loaded.errors() == []
        loaded.reset()

    @pytest.mark.parametrize("offset", [0, 1], ids=["aligned", "misaligned"])
    @pytest.mark.parametrize("in_place", [False, True], ids=["apart", "in_place"])
    @pytest.mark.parametrize("dtype", op_cases.DTYPES, ids=str)
    @pytest.mark.parametrize(
        "sizes", ["two_exact", "four_exact", "odd", "overlapping", "one_pixel", "low_is_larger", "width_17"]
    )
    def test_sizes(
        self, library: emulation.Library, sizes: str, dtype: torch.dtype, in_place: bool, offset: int
    ) -> None:
        case = representable(random_case(op_cases.SIZES[sizes], 3, training=not in_place), dtype)
        kernels = WeightingBackward(library, offset=offset, shifted=("x", "grad_y", "grad_x"))
        actual = kernels(arguments(case, dtype), in_place=in_place)
        assert_right([(case, actual)], dtype)

    @pytest.mark.parametrize(
        ("channels", "hidden", "dtype"),
        [([1030, 9], 3, torch.float32), ([5, 4], 600, torch.float32), ([264, 8], 530, torch.float64)],
    )
    def test_more_channels_than_shared_memory_holds(
        self, library: emulation.Library, channels: list[int], hidden: int, dtype: torch.dtype
    ) -> None:
        case = representable(random_case([(4, 4), (2, 2)], 3, True, hidden, channels), dtype)
        assert_right([(case, WeightingBackward(library)(arguments(case, dtype), in_place=False))], dtype)

    def test_blocks_that_take_turns(self, library: emulation.Library) -> None:
        """More than 128 tiles of positions, planes of several tiles, windows with fewer lanes than vectors."""
        case = representable(random_case([(288, 32), (36, 4)], 8, True, 3, [1, 1]), torch.float32)
        actual = WeightingBackward(library)(arguments(case, torch.float32), in_place=True)
        assert_right([(case, actual)], torch.float32)

    @pytest.mark.parametrize("sizes", ["four_exact", "overlapping"])
    def test_orders_of_threads(self, library: emulation.Library, sizes: str) -> None:
        args = arguments(random_case(op_cases.SIZES[sizes], 2, True), torch.float32)
        expected: list[Tensor] = []
        for seed in range(6):
            library.reset()
            library.configure(seed=seed, check=True)
            actual = WeightingBackward(library)(args, in_place=True)
            assert library.errors() == []
            expected = expected or actual
            assert all(torch.equal(a, e) for a, e in zip(actual, expected, strict=True)), f"seed {seed}"

    def test_sums_of_others(self, library: emulation.Library) -> None:
        parts = [torch.randn(9, 130), torch.randn(1, 7)]
        args = arguments(random_case([(4, 4), (2, 2)], 2, True), torch.float32)
        *_, first, second = WeightingBackward(library)(args, in_place=False, aside=parts)
        torch.testing.assert_close(first, parts[0].sum(0), rtol=1e-6, atol=1e-6)  # nine terms of size one
        assert torch.equal(second, parts[1][0])
