"""The depthwise convolution of training, with and without gates, without torch's dispatcher, every access checked.

Maps are compared with plain PyTorch in fp64: a kernel may be twice as far from that as PyTorch in the kernel's type,
plus two roundings of the largest value, for where PyTorch happens to be exact. Nothing exact stands above fp64: there,
1e-12 of the largest value is allowed, the order of a few thousand additions.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import emulation
import pytest
import torch
import torch.nn.functional as F
import training_kernels as native
from torch import Tensor
from training_kernels import DepthwiseKernels, Gates, Norm

Sizes = list[tuple[int, int]]
EPS = 1e-5

# Name: channels and sizes of the branches; gates have the size of the last one.
SHAPES: dict[str, tuple[list[int], Sizes]] = {
    "network_4": ([20, 40, 80, 160], [(64, 48), (32, 24), (16, 12), (8, 6)]),
    "one_branch": ([5], [(16, 12)]),
    "odd_3": ([6, 10, 22], [(13, 9), (7, 5), (4, 3)]),
    "overlapping_4": ([3, 4, 5, 6], [(25, 17), (13, 9), (7, 5), (3, 4)]),
    "single_pixels": ([8, 4, 2, 1], [(1, 1), (1, 1), (1, 1), (1, 1)]),
    "larger_last": ([6, 6], [(3, 5), (7, 8)]),
    "rounded_scale": ([3, 4], [(82, 4), (2, 4)]),  # 82 = 41 x 2, but PyTorch does not split it evenly
    "many_tiles": ([2, 2], [(41, 39), (401, 4)]),
    "wide": ([1, 2], [(2, 1500), (3, 300)]),  # a row a tile
}
SMALL = [name for name in SHAPES if not name.startswith("network")]


@pytest.fixture(scope="module")
def loaded() -> emulation.Library:
    return emulation.load(native.DEPTHWISE_SOURCES, mode="checked", includes=[native.CSRC])


@pytest.fixture
def library(loaded: emulation.Library) -> Iterator[emulation.Library]:
    loaded.reset()
    loaded.configure(seed=2, check=True)
    yield loaded
    assert loaded.errors() == []
    loaded.reset()


def parts_of(logits: Tensor, part_count: int) -> Tensor:
    """Moments [C, part_count, 3] of consecutive pieces of each channel's values; some pieces may be empty."""
    values = logits.transpose(0, 1).flatten(1).double()
    pieces = torch.tensor_split(values, part_count, dim=1)
    moments = []
    for piece in pieces:
        count = torch.full((len(values),), float(piece.shape[1]), dtype=torch.float64)
        mean = piece.sum(1) / count.clamp(min=1)
        moments.append(torch.stack([count, mean, (piece - mean[:, None]).square().sum(1)], dim=1))
    return torch.stack(moments, dim=1)


class Case:
    """Random branches in one type, and what PyTorch makes of them in any type.

    `gates`: "none", "parts" of batch statistics, or "stored" ones.
    """

    def __init__(self, name: str, dtype: torch.dtype, batch: int, gates: str = "none", part_count: int = 7) -> None:
        random = torch.Generator().manual_seed(0)
        self.dtype, self.wide = dtype, native.accumulate_type(dtype)
        self.channels, self.sizes = SHAPES[name]

        def normal(*shape: int, scale: float = 1.0) -> Tensor:
            return torch.randn(shape, generator=random, dtype=torch.float64) * scale

        def norm(c: int) -> Norm:
            values = (1 + normal(c, scale=0.3), normal(c, scale=0.3), normal(c), 0.5 + normal(c).square())
            return Norm(*(value.to(self.wide) for value in values))

        shapes = [(batch, c, *size) for c, size in zip(self.channels, self.sizes, strict=True)]
        self.x = [(normal(*s) + normal(s[1], 1, 1)).to(dtype) for s in shapes]
        self.weight = [normal(c, 3, 3, scale=0.4).to(self.wide) for c in self.channels]
        self.norms = [norm(c) for c in self.channels]
        self.grad_y = [normal(*s).to(dtype) for s in shapes]
        self.filtered = [normal(*s).to(dtype) for s in shapes]
        self.coefficients = [normal(batch, c, 4).to(self.wide) for c in self.channels]
        self.gates: Gates | None = None
        if gates != "none":
            total = sum(self.channels)
            logits = (2 * normal(batch, total, *self.sizes[-1]) + 3 * normal(total, 1, 1)).to(dtype)
            parts = parts_of(logits, part_count).to(self.wide) if gates == "parts" else None
            self.gates = Gates(logits, norm(total), parts)

    def gate_maps(self, dtype: torch.dtype) -> list[Tensor | float]:
        """At every pixel, in the accumulation type."""
        if self.gates is None:
            return [1.0] * len(self.x)
        wide, given = native.accumulate_type(dtype), self.gates.norm
        logits = self.gates.logits.to(wide)
        mean, variance = given.mean.to(wide), given.variance.to(wide)
        if self.gates.parts is not None:
            mean, variance = logits.mean((0, 2, 3)), logits.var((0, 2, 3), correction=0)
        normalised = (logits - mean[:, None, None]) / torch.sqrt(variance + EPS)[:, None, None]
        positions = torch.sigmoid(
            normalised * given.weight.to(wide)[:, None, None] + given.bias.to(wide)[:, None, None]
        ).split(self.channels, dim=1)
        return [F.interpolate(gate, size=size) for gate, size in zip(positions, self.sizes, strict=True)]

    def forward(self, dtype: torch.dtype) -> list[Tensor]:
        wide = native.accumulate_type(dtype)
        return [
            F.conv2d((x.to(wide) * gate).to(dtype), w.to(dtype)[:, None], padding=1, groups=len(w))
            for x, gate, w in zip(self.x, self.gate_maps(dtype), self.weight, strict=True)
        ]

    def backward(self, dtype: torch.dtype) -> tuple[list[Tensor], list[Tensor]]:
        wide = native.accumulate_type(dtype)
        grads, grad_weights = [], []
        for i, gate in enumerate(self.gate_maps(dtype)):
            k0, k1, k2, k3 = self.coefficients[i].to(wide)[..., None, None].unbind(2)
            grad = (k0 * self.grad_y[i].to(wide) + k1 * (self.filtered[i].to(wide) - k2) + k3).to(dtype)
            leaf = (self.x[i].to(wide) * gate).to(dtype).requires_grad_()
            w = self.weight[i].to(dtype).requires_grad_()
            y = F.conv2d(leaf, w[:, None], padding=1, groups=len(w))
            grad_x, grad_weight = torch.autograd.grad(y, [leaf, w], grad)
            grads.append(grad_x)
            grad_weights.append(grad_weight)
        return grads, grad_weights

    def run_forward(self, kernels: DepthwiseKernels, **options: bool) -> tuple[list[native.Filtered], Tensor]:
        return kernels.depthwise_conv_batch_norm(self.x, self.weight, self.norms, EPS, gates=self.gates, **options)

    def run_backward(self, kernels: DepthwiseKernels) -> tuple[list[Tensor], list[Tensor]]:
        gates = self.gates
        if gates is not None and gates.parts is not None:  # the backward pass reads the statistics of the forward pass
            logits = gates.logits.double()
            statistics = (logits.mean((0, 2, 3)), logits.var((0, 2, 3), correction=0))
            norm = Norm(gates.norm.weight, gates.norm.bias, *(s.to(self.wide) for s in statistics))
            gates = Gates(gates.logits, norm, None)
        return kernels.depthwise_conv_batch_norm_backward(
            self.grad_y, self.filtered, self.coefficients, self.x, self.weight, EPS, gates=gates
        )


def assert_close(got: Tensor, exact: Tensor, plain: Tensor, dtype: torch.dtype, what: str) -> None:
    """`dtype` of the maps, to which what PyTorch sums up is rounded."""
    assert got.shape == exact.shape
    scale = exact.abs().max()
    allowed = 2 * (plain.double() - exact).abs().max() + 2 * torch.finfo(dtype).eps * scale
    if dtype == torch.float64:
        allowed = 1e-12 * scale
    distance = (got.double() - exact).abs().max()
    assert distance <= allowed, f"{what}: error {distance:.3g}, allowed {allowed:.3g}"


def assert_equal_but_for_sums(got: Tensor, exact: Tensor, scale: Tensor | float, what: str) -> None:
    """A sum of a few thousand values is off by a few roundings of them, as sums are taken in pieces."""
    allowed = 16 * torch.finfo(got.dtype).eps * scale
    assert ((got.double() - exact).abs() <= allowed).all(), what


CASES = [
    *(pytest.param(name, dtype, 3, 0, id=f"{name}-{str(dtype)[6:]}") for name in SMALL for dtype in native.DTYPES),
    pytest.param("network_4", torch.float32, 1, 0, id="network_4"),
    pytest.param("network_4", torch.float16, 2, 1, id="network_4-float16-misaligned"),
    *(pytest.param(name, torch.float32, 3, 1, id=f"{name}-misaligned") for name in ("one_branch", "odd_3")),
    pytest.param("one_branch", torch.float16, 2, 4, id="one_branch-half_aligned"),
    pytest.param("one_branch", torch.float32, 37, 0, id="one_branch-batch_37"),  # more images than groups of lanes
    pytest.param("odd_3", torch.float32, 9, 0, id="odd_3-batch_9"),
    pytest.param("odd_3", torch.bfloat16, 70, 0, id="odd_3-batch_70"),  # a group takes several images
]
cases = pytest.mark.parametrize(("name", "dtype", "batch", "offset"), CASES)
gated = pytest.mark.parametrize("gates", ["none", "parts", "stored"])
MAPS = ("x", "filtered", "y", "grad_y", "grad_x")


@gated
@cases
def test_forward(
    library: emulation.Library, name: str, dtype: torch.dtype, batch: int, offset: int, gates: str
) -> None:
    case = Case(name, dtype, batch, gates)
    branches, gate_statistics = case.run_forward(DepthwiseKernels(library, offset, MAPS))
    assert len(library.launches()) == 3
    for i, (mine, exact, plain) in enumerate(
        zip(branches, case.forward(torch.float64), case.forward(dtype), strict=True)
    ):
        assert_close(mine.filtered, exact, plain, dtype, f"branch {i}")
        assert mine.statistics is not None
        assert mine.y is not None
        # From here on what counts is the filtered map as it was stored.
        values = mine.filtered.double()
        sums = values.abs().sum((2, 3))
        assert_equal_but_for_sums(mine.plane_sums, values.sum((2, 3)), sums, f"branch {i}, plane sums")
        mean, biased = values.mean((0, 2, 3)), values.var((0, 2, 3), correction=0)
        count = values.numel() // values.shape[1]
        assert_equal_but_for_sums(mine.statistics[0], mean, values.abs().mean((0, 2, 3)), f"branch {i}, mean")
        # A lane sums squares about its first value, which may be three deviations from the mean.
        assert_equal_but_for_sums(mine.statistics[1], biased, 10 * biased, f"branch {i}, variance")
        unbiased = biased * (count / (count - 1))
        assert_equal_but_for_sums(mine.statistics[2], unbiased, 10 * unbiased, f"branch {i}, unbiased variance")
        norm = case.norms[i]
        y = F.batch_norm(values, mean, biased, norm.weight.double(), norm.bias.double(), eps=EPS)
        wide = mine.filtered.to(case.wide)
        plain_y = F.batch_norm(wide, mean.to(wide), biased.to(wide), norm.weight, norm.bias, eps=EPS).to(dtype)
        assert_close(mine.y, y, plain_y, dtype, f"branch {i}, y")
    if gates == "parts":
        assert case.gates is not None
        logits = case.gates.logits.double()
        variance = logits.var((0, 2, 3), correction=0)
        assert_equal_but_for_sums(
            gate_statistics[0], logits.mean((0, 2, 3)), logits.abs().mean((0, 2, 3)), "gates' mean"
        )
        assert_equal_but_for_sums(gate_statistics[1], variance, variance, "gates' variance")


@pytest.mark.parametrize("wants_y", [True, False])
@pytest.mark.parametrize("dtype", native.DTYPES, ids=str)
def test_running_statistics_are_read(library: emulation.Library, dtype: torch.dtype, wants_y: bool) -> None:
    case = Case("odd_3", dtype, 2)
    branches, _ = case.run_forward(DepthwiseKernels(library), batch_statistics=False, wants_y=wants_y)
    assert len(library.launches()) == (3 if wants_y else 2)
    for i, (mine, norm) in enumerate(zip(branches, case.norms, strict=True)):
        values = mine.filtered.double()
        assert_equal_but_for_sums(mine.plane_sums, values.sum((2, 3)), values.abs().sum((2, 3)), f"branch {i}")
        if mine.y is None:
            continue
        given = (norm.mean, norm.variance, norm.weight, norm.bias)
        exact = F.batch_norm(values, *(t.double() for t in given), eps=EPS)
        plain = F.batch_norm(mine.filtered.to(case.wide), *given, eps=EPS).to(dtype)
        assert_close(mine.y, exact, plain, dtype, f"branch {i}, y")


@pytest.mark.parametrize("part_count", [1, 2, 9, 32])
def test_parts_of_the_gates(library: emulation.Library, part_count: int) -> None:
    """As many as a launch may leave, empty ones among them."""
    case = Case("odd_3", torch.float64, 2, "parts", part_count)
    branches, _ = case.run_forward(DepthwiseKernels(library))
    for mine, exact in zip(branches, case.forward(torch.float64), strict=True):
        assert_close(mine.filtered, exact, exact, torch.float64, "filtered")


@gated
@cases
def test_backward(
    library: emulation.Library, name: str, dtype: torch.dtype, batch: int, offset: int, gates: str
) -> None:
    case = Case(name, dtype, batch, gates)
    results = case.run_backward(DepthwiseKernels(library, offset, MAPS))
    assert len(library.launches()) == 2
    exact, plain = case.backward(torch.float64), case.backward(dtype)
    for what, mine, truths, same in zip(("x", "weight"), results, exact, plain, strict=True):
        for i, (got, truth, one) in enumerate(zip(mine, truths, same, strict=True)):
            assert_close(got, truth, one, dtype, f"branch {i}, gradient of {what}")


@pytest.mark.parametrize("batch", [3, 70])
def test_order_of_threads_changes_nothing(library: emulation.Library, batch: int) -> None:
    case = Case("odd_3" if batch == 70 else "many_tiles", torch.float32, batch, "parts")
    results = []
    for seed in range(4):
        library.configure(seed=seed, check=True)
        kernels = DepthwiseKernels(library)
        branches, statistics = case.run_forward(kernels)
        grads, grad_weights = case.run_backward(kernels)
        own = [t for mine in branches for t in (mine.filtered, mine.y, mine.plane_sums, mine.statistics)]
        results.append([*own, statistics, *grads, *grad_weights])
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], result, strict=True))


# The widest rows that shared memory has room for, and rows that it has not.
@pytest.mark.parametrize(
    ("dtype", "width", "fits"),
    [
        (torch.float64, 2000, True),
        (torch.float64, 2100, False),
        (torch.float32, 4000, True),
        (torch.float16, 4000, True),
        (torch.float32, 4200, False),
    ],
    ids=str,
)
def test_widest_rows(library: emulation.Library, dtype: torch.dtype, width: int, fits: bool) -> None:
    SHAPES["widest"] = ([1], [(2, width)])
    case = Case("widest", dtype, 1)
    if fits:
        (mine,), _ = case.run_forward(DepthwiseKernels(library))
        assert_close(mine.filtered, case.forward(torch.float64)[0], case.forward(dtype)[0], dtype, "filtered")
        (grad,), _ = case.run_backward(DepthwiseKernels(library))
        exact, plain = case.backward(torch.float64)[0], case.backward(dtype)[0]
        assert_close(grad, exact[0], plain[0], dtype, "grad_x")
    else:
        for run in (case.run_forward, case.run_backward):
            with pytest.raises(RuntimeError, match="error 1"):
                run(DepthwiseKernels(library))


def test_without_images_weights_have_zero_gradients(library: emulation.Library) -> None:
    case = Case("odd_3", torch.float32, 0)
    for grad in case.run_backward(DepthwiseKernels(library))[1]:
        assert not grad.any()
    assert len(library.launches()) == 1


@pytest.mark.parametrize("function", ["depthwise_conv_batch_norm", "depthwise_conv_batch_norm_backward"])
@pytest.mark.parametrize("change", ["no_branches", "five_branches", "no_channels", "huge"])
def test_impossible_sizes_are_refused(library: emulation.Library, function: str, change: str) -> None:
    kind = native.DepthwiseBackwardParams if function.endswith("backward") else native.DepthwiseParams
    params = kind(branches={"no_branches": 0, "five_branches": 5}.get(change, 2), batch=1)
    for branch in params.branch:
        branch.channels = branch.height = branch.width = 2
    if change == "no_channels":
        params.branch[1].channels = 0
    if change == "huge":
        params.branch[1].height = params.branch[1].width = 1 << 16
    assert DepthwiseKernels(library).launch(function, params, torch.float32) == 1
    assert library.launches() == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_reductions_add_parts_in_order(library: emulation.Library, dtype: torch.dtype) -> None:
    shapes = [(1, 1), (3, 64), (17, 65), (100, 200), (8, 9), (9, 9), (0, 5), (2, 130)]
    torch.manual_seed(0)
    parts = [torch.randn(shape, dtype=dtype) for shape in shapes]
    kernels = DepthwiseKernels(library)
    params, reads = native.Reductions(count=len(parts)), []
    for item, part in zip(params.item, parts, strict=True):
        item.parts = kernels.put(part, "parts")
        item.result, read = kernels.room((part.shape[1],), dtype, "result")
        item.part_count, item.count = part.shape
        reads.append(read)
    assert library.call("reductions", ctypes.byref(params), native.DTYPES.index(dtype)) == 0
    for part, read in zip(parts, reads, strict=True):
        expected = torch.zeros(part.shape[1], dtype=dtype)
        for row in part:
            expected += row
        assert torch.equal(read(), expected)
