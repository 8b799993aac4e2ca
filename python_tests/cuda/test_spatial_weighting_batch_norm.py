"""Spatial weighting behind a batch norm, forward and backward, without torch's dispatcher, every access checked.

Results are compared with plain PyTorch in fp64. A kernel may be twice as far from that as PyTorch in the kernel's own
type, plus eight roundings of the largest result of its kind: a gradient is a sum of products of sums, some of which
cancel, and PyTorch happens to be exact where a plane has one pixel. Nothing exact stands above fp64, which runs fp32's
code: 1e-12 of the largest is beyond a sum of thousands of roundings, and far below one step in fp32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import emulation
import pytest
import torch
import torch.nn.functional as F
import training_kernels as native
from torch import Tensor
from training_kernels import Norm, SpatialGradients, TrainingKernels

Sizes = list[tuple[int, int]]
EPS = 1e-5
WEIGHTS = ("w1", "b1", "w2", "b2")

# Name: channels and sizes of the branches.
SHAPES: dict[str, tuple[list[int], Sizes]] = {
    "network_4": ([20, 40, 80, 160], [(64, 48), (32, 24), (16, 12), (8, 6)]),
    "one_branch": ([24], [(16, 12)]),
    "odd_3": ([6, 10, 22], [(13, 9), (7, 5), (4, 3)]),
    "single_pixels": ([8, 4, 2, 1], [(1, 1), (1, 1), (1, 1), (1, 1)]),
    "uneven_chunks": ([3, 2, 2], [(41, 39), (401, 4), (21, 5)]),
    "many_channels": ([390, 30], [(4, 4), (2, 2)]),  # beyond what lanes hold of a row, and a span of columns
}
SMALL = [name for name in SHAPES if not name.startswith("network")]


@pytest.fixture(scope="module")
def loaded() -> emulation.Library:
    return emulation.load(native.SPATIAL_SOURCES, mode="checked", includes=[native.CSRC])


@pytest.fixture
def library(loaded: emulation.Library) -> Iterator[emulation.Library]:
    loaded.reset()
    loaded.configure(seed=2, check=True)
    yield loaded
    assert loaded.errors() == []
    loaded.reset()


class Case:
    """Random branches in one type, and what PyTorch makes of them in any type."""

    def __init__(
        self,
        name: str,
        dtype: torch.dtype,
        batch: int,
        *,
        norms: bool = True,
        gates: bool = True,
        kept: bool = True,
        batch_statistics: bool = True,
    ) -> None:
        random = torch.Generator().manual_seed(0)
        wide = native.accumulate_type(dtype)
        self.dtype, self.batch_statistics = dtype, batch_statistics
        self.gated, self.normalised, self.keeps = gates, norms, kept
        channels, sizes = SHAPES[name]

        def normal(*shape: int, scale: float = 1.0) -> Tensor:
            return torch.randn(shape, generator=random, dtype=torch.float64) * scale

        shapes = [(batch, c, *size) for c, size in zip(channels, sizes, strict=True)]
        # Means of several deviations, as convolutions have them: what cancels is seen.
        self.x = [(normal(*s) + 3 * normal(s[1], 1, 1)).to(dtype) for s in shapes]
        self.kept = [normal(*s).to(dtype) for s in shapes] if kept else None
        self.grad = [normal(n, 2 * c if kept else c, h, w).to(dtype) for n, c, h, w in shapes]
        self.weights = []
        for c in channels:
            r = max(c // 4, 1)
            forms = ((r, c), (r,), (c, r), (c,))
            scales = (3 / math.sqrt(c), 0.5, 2 / math.sqrt(r), 0.5)
            self.weights.append([normal(*form, scale=s).to(wide) for form, s in zip(forms, scales, strict=True)])
        self.norms: list[Norm | None] = []
        for x in self.x:
            mean, variance = normal(x.shape[1]), 0.5 + normal(x.shape[1]).square()
            if batch_statistics:
                mean, variance = x.double().mean((0, 2, 3)), x.double().var((0, 2, 3), correction=0)
            parts = (1 + normal(x.shape[1], scale=0.3), normal(x.shape[1], scale=0.3), mean, variance)
            self.norms.append(Norm(*(part.to(wide) for part in parts)) if norms else None)

    def reference(self, dtype: torch.dtype) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
        """Outputs, and the gradients of every branch by name."""
        wide = native.accumulate_type(dtype)
        outputs, gradients = [], []
        for i, norm in enumerate(self.norms):
            leaves = {"x": self.x[i].to(dtype)}
            if self.gated:
                leaves |= {name: t.to(wide) for name, t in zip(WEIGHTS, self.weights[i], strict=True)}
            if norm is not None:
                leaves |= {"norm_weight": norm.weight.to(wide), "norm_bias": norm.bias.to(wide)}
            if self.kept is not None:
                leaves["kept"] = self.kept[i].to(dtype)
            leaves = {name: t.clone().requires_grad_() for name, t in leaves.items()}
            z = leaves["x"]
            if norm is not None:
                # Not F.batch_norm, which sums fp32 in fp64 on the CPU, and so says nothing about fp32.
                z = z.to(wide)
                mean, variance = norm.mean.to(wide), norm.variance.to(wide)
                if self.batch_statistics:
                    mean, variance = z.mean((0, 2, 3)), z.var((0, 2, 3), correction=0)
                z = (z - mean[:, None, None]) / torch.sqrt(variance + EPS)[:, None, None]
                z = z * leaves["norm_weight"][:, None, None] + leaves["norm_bias"][:, None, None]
                z = z.to(dtype)
            y = z
            if self.gated:
                hidden = F.relu(F.linear(z.to(wide).mean((2, 3)), leaves["w1"], leaves["b1"]))
                gate = torch.sigmoid(F.linear(hidden, leaves["w2"], leaves["b2"]))
                y = (z.to(wide) * gate[:, :, None, None]).to(dtype)
            if self.kept is not None:
                y = torch.stack([leaves["kept"], y], dim=2).flatten(1, 2)
            grads = torch.autograd.grad(y, list(leaves.values()), self.grad[i].to(dtype))
            outputs.append(y.detach())
            gradients.append(dict(zip(leaves, grads, strict=True)))
        return outputs, gradients

    def run(self, kernels: TrainingKernels, *, wants_grad_x: bool = True) -> list[SpatialGradients]:
        return kernels.spatial_weighting_backward(
            self.grad,
            self.x,
            self.norms,
            self.weights if self.gated else None,
            EPS,
            kept=self.keeps,
            batch_statistics=self.batch_statistics,
            wants_grad_x=wants_grad_x,
        )


def named(gradients: SpatialGradients) -> dict[str, Tensor]:
    found = {"x": gradients.x, "kept": gradients.kept}
    found |= dict(zip(("norm_weight", "norm_bias"), gradients.norm or (), strict=False))
    found |= dict(zip(WEIGHTS, gradients.weights or (), strict=False))
    return {name: tensor for name, tensor in found.items() if tensor is not None}


def assert_close(got: Tensor, exact: Tensor, plain: Tensor, what: str) -> None:
    assert got.shape == exact.shape
    eps, scale = torch.finfo(got.dtype).eps, exact.abs().max()
    allowed = 2 * (plain.double() - exact).abs().max() + 8 * eps * scale
    if got.dtype == torch.float64:
        allowed = 1e-12 * scale
    distance = (got.double() - exact).abs().max()
    assert distance <= allowed, f"{what}: error {distance:.3g}, allowed {allowed:.3g}"


def assert_right(case: Case, gradients: Sequence[SpatialGradients]) -> None:
    _, exact = case.reference(torch.float64)
    _, plain = case.reference(case.dtype)
    for i, (mine, truth, same) in enumerate(zip(gradients, exact, plain, strict=True)):
        found = named(mine)
        assert found.keys() == truth.keys()
        for name in found:
            assert_close(found[name], truth[name], same[name], f"branch {i}, {name}")


# Batches of 3 at least: what normalises two values has nearly no gradient, and nothing but roundings is left in it.
CASES = [
    *(pytest.param(name, dtype, 3, 0, id=f"{name}-{str(dtype)[6:]}") for name in SMALL for dtype in native.DTYPES),
    pytest.param("network_4", torch.float32, 2, 0, id="network_4"),
    pytest.param("network_4", torch.bfloat16, 2, 0, id="network_4-bfloat16"),
    *(pytest.param(name, torch.float32, 3, 1, id=f"{name}-misaligned") for name in ("one_branch", "odd_3")),
    pytest.param("one_branch", torch.float16, 37, 0, id="one_branch-batch_37"),  # more images than lanes
    pytest.param("odd_3", torch.float32, 40, 0, id="odd_3-batch_40"),
]
cases = pytest.mark.parametrize(("name", "dtype", "batch", "offset"), CASES)
MAPS = ("x", "kept", "out", "grad_output", "grad_kept", "grad_x")


@pytest.mark.parametrize("batch_statistics", [True, False], ids=["batch", "frozen"])
@cases
def test_forward(
    library: emulation.Library, name: str, dtype: torch.dtype, batch: int, offset: int, batch_statistics: bool
) -> None:
    case = Case(name, dtype, batch, batch_statistics=batch_statistics)
    sums = [x.to(native.accumulate_type(dtype)).sum((2, 3))[..., None] for x in case.x]
    got = TrainingKernels(library, offset, MAPS).spatial_weighting_with_norms(
        case.x, case.norms, case.weights, EPS, kept=case.kept, partial_sums=sums
    )
    for i, results in enumerate(zip(got, case.reference(torch.float64)[0], case.reference(dtype)[0], strict=True)):
        assert_close(*results, f"branch {i}")
    assert case.kept is not None
    for y, kept in zip(got, case.kept, strict=True):
        assert torch.equal(y[:, ::2], kept)
    assert len(library.launches()) == 1


@pytest.mark.parametrize("batch_statistics", [True, False], ids=["batch", "frozen"])
@cases
def test_backward(
    library: emulation.Library, name: str, dtype: torch.dtype, batch: int, offset: int, batch_statistics: bool
) -> None:
    case = Case(name, dtype, batch, batch_statistics=batch_statistics)
    gradients = case.run(TrainingKernels(library, offset, MAPS))
    assert_right(case, gradients)
    for mine, grad in zip(gradients, case.grad, strict=True):
        assert mine.kept is not None
        assert torch.equal(mine.kept, grad[:, ::2])
    assert len(library.launches()) == 4


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "nothing_kept"])
@pytest.mark.parametrize("dtype", native.DTYPES, ids=str)
@pytest.mark.parametrize("name", SMALL)
def test_backward_without_norms(library: emulation.Library, name: str, dtype: torch.dtype, kept: bool) -> None:
    case = Case(name, dtype, 2, norms=False, kept=kept, batch_statistics=False)
    gradients = case.run(TrainingKernels(library))
    assert_right(case, gradients)
    for mine in gradients:
        assert not mine.coefficients[..., 1:3].any()


@pytest.mark.parametrize("batch_statistics", [True, False], ids=["batch", "frozen"])
@pytest.mark.parametrize("dtype", native.DTYPES, ids=str)
@pytest.mark.parametrize("name", SMALL)
def test_backward_of_the_norm_alone(
    library: emulation.Library, name: str, dtype: torch.dtype, batch_statistics: bool
) -> None:
    """As behind a depthwise convolution: no gates, nothing kept."""
    case = Case(name, dtype, 3, gates=False, kept=False, batch_statistics=batch_statistics)
    assert_right(case, case.run(TrainingKernels(library)))
    assert len(library.launches()) == 3


@pytest.mark.parametrize("batch_statistics", [True, False], ids=["batch", "frozen"])
def test_coefficients_give_the_gradient(library: emulation.Library, batch_statistics: bool) -> None:
    case = Case("odd_3", torch.float64, 2, batch_statistics=batch_statistics)
    gradients = case.run(TrainingKernels(library), wants_grad_x=False)
    assert len(library.launches()) == 3
    for mine, exact, x, grad in zip(gradients, case.reference(torch.float64)[1], case.x, case.grad, strict=True):
        k0, k1, k2, k3 = mine.coefficients[..., None, None].unbind(2)
        torch.testing.assert_close(k0 * grad[:, 1::2] + k1 * (x - k2) + k3, exact["x"])


def test_order_of_threads_changes_nothing(library: emulation.Library) -> None:
    case = Case("uneven_chunks", torch.float32, 3)
    results = []
    for seed in range(4):
        library.configure(seed=seed, check=True)
        results.append([t for mine in case.run(TrainingKernels(library)) for t in named(mine).values()])
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], result, strict=True))


def test_without_images_parameters_have_zero_gradients(library: emulation.Library) -> None:
    gradients = Case("odd_3", torch.float32, 0, batch_statistics=False).run(TrainingKernels(library))
    for mine in gradients:
        for tensor in (*(mine.norm or ()), *(mine.weights or ())):
            assert not tensor.any()
    assert len(library.launches()) == 1


@pytest.mark.parametrize("change", ["no_channels", "gates_of_one_branch", "grad_x_of_one_branch"])
def test_impossible_parameters_are_refused(library: emulation.Library, change: str) -> None:
    params = native.SpatialBackwardParams(branches=2, batch=1)
    for branch in params.branch:
        branch.channels = branch.hidden = branch.height = branch.width = 2
        branch.w1 = branch.grad_x = 16
    if change == "no_channels":
        params.branch[1].channels = 0
    else:
        setattr(params.branch[1], {"gates_of_one_branch": "w1", "grad_x_of_one_branch": "grad_x"}[change], None)
    assert TrainingKernels(library).launch("spatial_weighting_backward", params, torch.float32) == 1
    assert library.launches() == []


def differs(case: Case, change: Callable[[Case], None]) -> bool:
    """Whether PyTorch's gradients notice a change of a case."""
    before = case.reference(torch.float64)[1]
    change(case)
    after = case.reference(torch.float64)[1]
    return any(not torch.allclose(a["x"], b["x"]) for a, b in zip(before, after, strict=True))


def test_cases_tell_batch_from_frozen_statistics() -> None:
    def freeze(case: Case) -> None:
        case.batch_statistics = False

    assert differs(Case("odd_3", torch.float64, 2), freeze)
