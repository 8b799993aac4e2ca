"""The inference kernels without torch's dispatcher, run by the emulator with every memory access checked.

Results are compared with plain PyTorch in fp64. Following FlashAttention's rule, a kernel may be twice as far from that
as PyTorch in the kernel's own type, plus one rounding of the largest output, the error that even an exact computation
has when it stores its result. Nothing exact stands above fp64: there, PyTorch's fp32 error is scaled to fp64's
precision, and added once more for the reference's own.
"""

from __future__ import annotations

import copy
import ctypes
import math
from collections.abc import Callable, Iterator, Sequence

import emulation
import inference_kernels as native
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from litehrnet_cuda.nn.blocks import ConditionalChannelWeighting
from litehrnet_cuda.nn.layers import concat_shuffle

Sizes = list[tuple[int, int]]

# Name: channels and sizes of the branches.
SHAPES: dict[str, tuple[list[int], Sizes]] = {
    "network_2": ([20, 40], [(64, 48), (32, 24)]),
    "network_3": ([20, 40, 80], [(64, 48), (32, 24), (16, 12)]),
    "network_4": ([20, 40, 80, 160], [(64, 48), (32, 24), (16, 12), (8, 6)]),
    "one_branch": ([24], [(16, 12)]),
    "odd_3": ([6, 10, 22], [(13, 9), (7, 5), (4, 3)]),
    "overlapping_4": ([8, 12, 20, 33], [(25, 17), (13, 9), (7, 5), (3, 4)]),
    "single_pixels": ([8, 4, 2, 1], [(1, 1), (1, 1), (1, 1), (1, 1)]),
    "ratio_3_and_5": ([5, 9], [(9, 40), (3, 8)]),
    "larger_last": ([6, 6], [(3, 5), (7, 8)]),
    "rounded_scale": ([3, 4], [(82, 4), (2, 4)]),  # 82 = 41 x 2, but PyTorch does not split it evenly
    "uneven_chunks": ([3, 2, 2], [(41, 39), (401, 4), (21, 5)]),  # planes of spatial weighting's two tiles differ
    "many_channels": ([390, 30], [(4, 4), (2, 2)]),  # beyond the pieces of a row that a lane holds
}
SMALL = [name for name in SHAPES if not name.startswith("network")]


@pytest.fixture(scope="module")
def loaded() -> emulation.Library:
    return emulation.load(native.SOURCES, mode="checked", includes=[native.CSRC])


@pytest.fixture
def library(loaded: emulation.Library) -> Iterator[emulation.Library]:
    loaded.reset()
    loaded.configure(seed=2, check=True)
    yield loaded
    assert loaded.errors() == []
    loaded.reset()


@pytest.fixture
def random() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def normal(random: torch.Generator, *shape: int, scale: float = 1.0) -> Tensor:
    return torch.randn(shape, generator=random, dtype=torch.float64) * scale


def images(random: torch.Generator, channels: Sequence[int], sizes: Sizes, batch: int = 1) -> list[Tensor]:
    return [normal(random, batch, c, *size) for c, size in zip(channels, sizes, strict=True)]


def gate_matrices(random: torch.Generator, channels: int, hidden: int) -> list[Tensor]:
    """w1 [R, c], b1, w2 [c, R], b2, scaled so that gates spread over (0, 1)."""
    shapes = ((hidden, channels), (hidden,), (channels, hidden), (channels,))
    scales = (3 / math.sqrt(channels), 0.5, 2 / math.sqrt(hidden), 0.5)
    return [normal(random, *shape, scale=scale) for shape, scale in zip(shapes, scales, strict=True)]


def assert_close(
    got: Sequence[Tensor], reference: Callable[[torch.dtype], Sequence[Tensor]], dtype: torch.dtype
) -> None:
    """Compares with `reference(fp64)`, allowing twice the error of `reference(dtype)` and one rounding."""
    eps = torch.finfo(dtype).eps
    yardstick = torch.float32 if dtype == torch.float64 else dtype
    for kernel, exact, plain in zip(got, reference(torch.float64), reference(yardstick), strict=True):
        assert kernel.dtype == dtype
        error = (plain.double() - exact).abs().max() * eps / torch.finfo(yardstick).eps
        allowed = (3 if dtype == torch.float64 else 2) * error + eps * exact.abs().max()
        assert (kernel.double() - exact).abs().max() <= allowed


def cast(tensors: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    return [tensor.to(dtype) for tensor in tensors]


def weighting_reference(x: Sequence[Tensor], matrices: Sequence[Tensor]) -> list[Tensor]:
    w1, b1, w2, b2 = matrices
    size = x[-1].shape[-2:]
    pooled = torch.cat([F.adaptive_avg_pool2d(s, size) for s in x], dim=1)
    hidden = F.relu(F.conv2d(pooled, w1[:, :, None, None], b1))
    gates = torch.sigmoid(F.conv2d(hidden, w2[:, :, None, None], b2)).split([s.shape[1] for s in x], dim=1)
    return [s * F.interpolate(gate, size=s.shape[-2:]) for s, gate in zip(x, gates, strict=True)]


def depthwise_reference(x: Sequence[Tensor], weight: Sequence[Tensor], bias: Sequence[Tensor]) -> list[Tensor]:
    return [F.conv2d(s, w[:, None], b, padding=1, groups=len(w)) for s, w, b in zip(x, weight, bias, strict=True)]


def spatial_reference(x: Sequence[Tensor], matrices: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    out = []
    for s, (w1, b1, w2, b2) in zip(x, matrices, strict=True):
        gate = torch.sigmoid(F.linear(F.relu(F.linear(s.mean((2, 3)), w1, b1)), w2, b2))
        out.append(s * gate[:, :, None, None])
    return out


CASES = [
    *(
        pytest.param(name, dtype, 1, 0, id=f"{name}-{str(dtype)[6:]}")
        for name in ("network_4", *SMALL)
        for dtype in native.DTYPES
    ),
    pytest.param("network_2", torch.float32, 1, 0, id="network_2"),
    pytest.param("network_3", torch.float32, 2, 0, id="network_3-batch_2"),
    *(pytest.param(name, torch.float32, 2, 1, id=f"{name}-batch_2-misaligned") for name in ("network_4", *SMALL)),
    pytest.param("odd_3", torch.float32, 9, 0, id="odd_3-batch_9"),
    pytest.param("network_4", torch.float16, 2, 1, id="network_4-float16-batch_2-misaligned"),
    pytest.param("one_branch", torch.bfloat16, 2, 4, id="one_branch-half_aligned"),
]
cases = pytest.mark.parametrize(("name", "dtype", "batch", "offset"), CASES)


@cases
def test_cross_resolution_weighting(
    library: emulation.Library, random: torch.Generator, name: str, dtype: torch.dtype, batch: int, offset: int
) -> None:
    channels, sizes = SHAPES[name]
    x = cast(images(random, [2 * c for c in channels], sizes, batch), dtype)
    matrices = cast(gate_matrices(random, sum(channels), max(sum(channels) // 8, 1)), dtype)
    got = native.Kernels(library, offset).cross_resolution_weighting(x, matrices, halves=True)
    changed = [s.chunk(2, dim=1)[1] for s in x]
    assert_close(got, lambda t: weighting_reference(cast(changed, t), cast(matrices, t)), dtype)
    assert len(library.launches()) == 1


@cases
def test_depthwise_conv(
    library: emulation.Library, random: torch.Generator, name: str, dtype: torch.dtype, batch: int, offset: int
) -> None:
    channels, sizes = SHAPES[name]
    x = cast(images(random, channels, sizes, batch), dtype)
    weight = cast([normal(random, c, 3, 3) for c in channels], dtype)
    bias = cast([normal(random, c) for c in channels], dtype)
    got, sums = native.Kernels(library, offset).depthwise_conv(x, weight, bias)

    def reference(t: torch.dtype) -> list[Tensor]:
        return depthwise_reference(cast(x, t), cast(weight, t), cast(bias, t))

    assert_close(got, reference, dtype)
    # The sums are taken before outputs are rounded to dtype, so PyTorch's own accumulation type is the yardstick.
    wide = native.accumulate_type(dtype)
    assert_close([s.sum(2) for s in sums], lambda t: [y.sum((2, 3)) for y in reference(t)], wide)
    assert len(library.launches()) == 1


@cases
def test_spatial_weighting(
    library: emulation.Library, random: torch.Generator, name: str, dtype: torch.dtype, batch: int, offset: int
) -> None:
    channels, sizes = SHAPES[name]
    x = cast(images(random, channels, sizes, batch), dtype)
    kept = cast(images(random, [2 * c for c in channels], sizes, batch), dtype)
    matrices = [cast(gate_matrices(random, c, max(c // 4, 1)), dtype) for c in channels]
    # Any split of the planes into tiles will do: one sum a row.
    sums = [s.to(native.accumulate_type(dtype)).sum(3) for s in x]
    got = native.Kernels(library, offset).spatial_weighting(x, matrices, kept=kept, partial_sums=sums)

    def reference(t: torch.dtype) -> list[Tensor]:
        gated = spatial_reference(cast(x, t), [cast(m, t) for m in matrices])
        return [concat_shuffle(k.to(t).chunk(2, dim=1)[0], g) for k, g in zip(kept, gated, strict=True)]

    assert_close(got, reference, dtype)
    for y, k in zip(got, kept, strict=True):
        assert torch.equal(y[:, ::2], k.chunk(2, dim=1)[0])
    assert len(library.launches()) == 1


@pytest.mark.parametrize("dtype", native.DTYPES)
@pytest.mark.parametrize("name", ["network_3", *SMALL])
def test_spatial_weighting_on_its_own(
    library: emulation.Library, random: torch.Generator, name: str, dtype: torch.dtype
) -> None:
    channels, sizes = SHAPES[name]
    x = cast(images(random, channels, sizes, 2), dtype)
    matrices = [cast(gate_matrices(random, c, max(c // 4, 1)), dtype) for c in channels]
    got = native.Kernels(library).spatial_weighting(x, matrices)
    assert_close(got, lambda t: spatial_reference(cast(x, t), [cast(m, t) for m in matrices]), dtype)


@pytest.mark.parametrize("maps", [["x"], ["kept"], ["y", "out"]], ids=lambda names: names[0])
def test_each_map_may_be_misaligned_alone(library: emulation.Library, random: torch.Generator, maps: list[str]) -> None:
    channels, sizes = SHAPES["network_3"]
    x, kept = (cast(images(random, channels, sizes), torch.float32) for _ in range(2))
    matrices = cast(gate_matrices(random, sum(channels), 5), torch.float32)
    filters, biases = [normal(random, c, 3, 3).float() for c in channels], [normal(random, c).float() for c in channels]
    gates = [cast(gate_matrices(random, c, c // 4), torch.float32) for c in channels]

    def outputs(kernels: native.Kernels) -> list[Tensor]:
        return [
            *kernels.cross_resolution_weighting(x, matrices),
            *kernels.depthwise_conv(x, filters, biases)[0],
            *kernels.spatial_weighting(x, gates, kept=kept, partial_sums=[s.sum(3) for s in x]),
        ]

    # Shorter vectors give lanes other pixels to add, hence other roundings, for which torch's tolerances allow.
    for a, b in zip(outputs(native.Kernels(library, 1, maps)), outputs(native.Kernels(library)), strict=True):
        torch.testing.assert_close(a, b)


def folded(conv: nn.Conv2d, norm: nn.Module | None) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution with its batch norm folded in."""
    if not isinstance(norm, nn.BatchNorm2d):
        assert conv.bias is not None
        return conv.weight.detach().flatten(1), conv.bias.detach()
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.detach() / torch.sqrt(norm.running_var + norm.eps)
    return conv.weight.detach().flatten(1) * scale[:, None], norm.bias.detach() - norm.running_mean * scale


def block_with_random_norms(channels: Sequence[int], random: torch.Generator) -> ConditionalChannelWeighting:
    block = ConditionalChannelWeighting([2 * c for c in channels]).double().eval()
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in (
                (module.weight, 0.5),
                (module.bias, -0.5),
                (module.running_mean, -0.5),
                (module.running_var, 0.5),
            ):
                assert tensor is not None
                tensor.data = torch.rand(tensor.shape, generator=random, dtype=torch.float64) + low
    return block


def block_parameters(
    block: ConditionalChannelWeighting,
) -> tuple[list[Tensor], list[tuple[Tensor, Tensor]], list[list[Tensor]]]:
    weighting = block.cross_resolution_weighting
    matrices = [*folded(weighting.conv1.conv, weighting.conv1.bn), *folded(weighting.conv2.conv, weighting.conv2.bn)]
    depthwise = [folded(layer.conv, layer.bn) for layer in block.depthwise_convs]
    gates = [[*folded(g.conv1.conv, None), *folded(g.conv2.conv, None)] for g in block.spatial_weighting]
    return matrices, depthwise, gates


def run_block(
    library: emulation.Library,
    block: ConditionalChannelWeighting,
    x: Sequence[Tensor],
    dtype: torch.dtype,
    offset: int = 0,
) -> list[Tensor]:
    matrices, depthwise, gates = block_parameters(block)
    return native.Kernels(library, offset).conditional_channel_weighting(
        cast(x, dtype),
        cast(matrices, dtype),
        [(w.to(dtype), b.to(dtype)) for w, b in depthwise],
        [cast(g, dtype) for g in gates],
    )


@pytest.mark.parametrize("dtype", native.DTYPES)
@pytest.mark.parametrize(
    ("name", "batch"), [("network_2", 1), ("network_3", 2), ("network_4", 1), ("overlapping_4", 2)]
)
def test_conditional_channel_weighting(
    library: emulation.Library, random: torch.Generator, name: str, batch: int, dtype: torch.dtype
) -> None:
    channels, sizes = SHAPES[name]
    block = block_with_random_norms(channels, random)
    x = cast(images(random, [2 * c for c in channels], sizes, batch), dtype)
    got = run_block(library, block, x, dtype)
    assert [launch["error"] for launch in library.launches()] == ["cudaSuccess"] * 3

    def reference(t: torch.dtype) -> Sequence[Tensor]:
        with torch.no_grad():
            return copy.deepcopy(block).to(t)(cast(x, t))  # a copy, because `to` rounds in place

    assert_close(got, reference, dtype)


def test_order_of_threads_changes_nothing(library: emulation.Library, random: torch.Generator) -> None:
    channels, sizes = SHAPES["overlapping_4"]
    block = block_with_random_norms(channels, random)
    x = images(random, [2 * c for c in channels], sizes, 2)
    results = []
    for seed in range(4):
        library.configure(seed=seed, check=True)
        results.append(run_block(library, block, x, torch.float32))
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], result, strict=True))


@pytest.mark.parametrize("height", [1, 8, 33])
@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 17, 47, 49, 383, 384, 385, 800])
def test_depthwise_conv_around_vectors_and_tiles(
    library: emulation.Library, random: torch.Generator, height: int, width: int
) -> None:
    dtype = torch.float16 if height == 8 else torch.float32
    x = [normal(random, 1, 3, height, width).to(dtype)]
    weight, bias = [normal(random, 3, 3, 3).to(dtype)], [normal(random, 3).to(dtype)]
    got, sums = native.Kernels(library).depthwise_conv(x, weight, bias)
    assert_close(got, lambda t: depthwise_reference(cast(x, t), cast(weight, t), cast(bias, t)), dtype)
    exact = depthwise_reference(cast(x, torch.float64), cast(weight, torch.float64), cast(bias, torch.float64))[0]
    # One rounding of the accumulation type per term, as in any order of summation.
    allowed = torch.finfo(torch.float32).eps * exact.abs().sum((2, 3)).clamp(min=1)
    assert ((sums[0].sum(2).double() - exact.sum((2, 3))).abs() <= 12 * allowed).all()
    without, none = native.Kernels(library).depthwise_conv(x, weight, bias, with_sums=False)
    assert torch.equal(without[0], got[0])
    assert none == []


def weighting_tile(
    library: emulation.Library, channels: Sequence[int], sizes: Sizes, batch: int, hidden: int
) -> tuple[int, int]:
    params = native.WeightingParams(branches=len(sizes), batch=batch, hidden=hidden)
    for branch, c, (height, width) in zip(params.branch, channels, sizes, strict=False):
        branch.channels, branch.height, branch.width = c, height, width
    tile = (ctypes.c_int * 2)()
    library.cross_resolution_weighting_tile_size(ctypes.byref(params), 0, tile)
    return tile[0], tile[1]


@pytest.mark.parametrize("batch", [1, 8, 40])
@pytest.mark.parametrize("name", ["network_2", "network_3", "network_4", "overlapping_4"])
def test_tiles_grow_until_weights_cost_no_more_than_pixels(library: emulation.Library, name: str, batch: int) -> None:
    channels, sizes = SHAPES[name]
    height, width = sizes[-1]
    hidden = sum(channels) // 8
    rows, columns = weighting_tile(library, channels, sizes, batch, hidden)
    assert 1 <= rows <= height
    assert 1 <= columns <= width
    if (name, batch) == ("network_4", 1):
        assert rows * columns == 1  # few positions: as many blocks as there can be
    if batch == 40:
        pixels = sum(c * h * w for c, (h, w) in zip(channels, sizes, strict=True)) / (height * width)
        assert rows * columns * pixels >= sum(channels) * hidden


@pytest.mark.parametrize(
    ("channels", "sizes", "batch", "tile"),
    [
        pytest.param([4, 8, 16], [(24, 28), (12, 14), (6, 7)], 8, (1, 4), id="part_of_a_row"),
        pytest.param([4, 8, 16], [(24, 28), (12, 14), (6, 7)], 20, (1, 7), id="one_row"),
        pytest.param([5, 8], [(10, 6), (5, 3)], 40, (2, 3), id="two_rows"),
        pytest.param([5, 8], [(9, 7), (5, 3)], 40, (2, 3), id="two_rows-overlapping"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tiles_of_several_positions(
    library: emulation.Library,
    random: torch.Generator,
    channels: list[int],
    sizes: Sizes,
    batch: int,
    tile: tuple[int, int],
    dtype: torch.dtype,
) -> None:
    # None of the tiles divides the map: those at its edges have fewer positions.
    assert weighting_tile(library, channels, sizes, batch, hidden=5) == tile
    x = cast(images(random, channels, sizes, batch), dtype)
    matrices = cast(gate_matrices(random, sum(channels), 5), dtype)
    got = native.Kernels(library).cross_resolution_weighting(x, matrices)
    assert_close(got, lambda t: weighting_reference(cast(x, t), cast(matrices, t)), dtype)


def test_empty_batch_launches_nothing(library: emulation.Library, random: torch.Generator) -> None:
    channels, sizes = SHAPES["odd_3"]
    block = block_with_random_norms(channels, random)
    x = images(random, [2 * c for c in channels], sizes, 0)
    assert [tuple(y.shape) for y in run_block(library, block, x, torch.float32)] == [tuple(s.shape) for s in x]
    for function, params in (
        ("cross_resolution_weighting", native.WeightingParams(branches=1, batch=0, hidden=1)),
        ("depthwise_conv", native.DepthwiseParams(branches=1, batch=0)),
        ("spatial_weighting", native.SpatialParams(branches=1, batch=0)),
    ):
        assert native.Kernels(library).launch(function, params, torch.float32) == 0
    assert library.launches() == []


@pytest.mark.parametrize("branches", [0, 5])
def test_impossible_sizes_are_refused(library: emulation.Library, branches: int) -> None:
    for function, kind in (
        ("cross_resolution_weighting", native.WeightingParams),
        ("depthwise_conv", native.DepthwiseParams),
        ("spatial_weighting", native.SpatialParams),
        ("conditional_channel_weighting", native.BlockParams),
    ):
        assert native.Kernels(library).launch(function, kind(branches=branches, batch=1), torch.float32) == 1
        assert native.Kernels(library).launch(function, kind(branches=1, batch=1), torch.float32) == 1  # no channels
    assert library.launches() == []


@pytest.mark.parametrize("positions", [1, 2, 3, 5, 7, 12, 25, 64])
def test_resampling_is_pytorchs(library: emulation.Library, positions: int) -> None:
    source = torch.arange(positions, dtype=torch.float32)[None, None, :, None]
    for size in range(1, 601):
        nearest = np.zeros(size, np.int32)
        spans = np.zeros((4, positions), np.int32)
        arguments = (array.ctypes.data_as(ctypes.c_void_p) for array in (nearest, *spans))
        library.resampling_of(positions, size, *arguments)
        expected = F.interpolate(source, size=(size, 1))[0, 0, :, 0].int().numpy()
        assert np.array_equal(nearest, expected)
        pooled_begin, pooled_end, begin, end = spans
        index = np.arange(positions)
        assert np.array_equal(pooled_begin, index * size // positions)
        assert np.array_equal(pooled_end, -(-(index + 1) * size // positions))
        assert np.array_equal(np.repeat(index, end - begin), expected)  # spans partition the pixels
        coincide = np.array_equal(begin, pooled_begin) and np.array_equal(end, pooled_end)
        assert bool(library.coincide(positions, size)) == coincide


def test_fast_division_is_exact(library: emulation.Library) -> None:
    largest = 2**31 - 1
    for divisor in [*range(1, 70), 1000, 1023, 1024, 1025, 65535, 65537, largest // 2, largest - 1, largest]:
        multiples = np.arange(1, 200, dtype=np.int64) * divisor
        values = np.concatenate([multiples - 1, multiples, np.arange(100), largest - np.arange(100)])
        values = np.ascontiguousarray(values[values <= largest], dtype=np.int32)
        quotients = np.empty_like(values)
        pointers = (array.ctypes.data_as(ctypes.c_void_p) for array in (values, quotients))
        library.fast_divide(divisor, len(values), *pointers)
        assert np.array_equal(quotients, values // divisor)
