"""What the three launches of a block read and write, counted access by access, against the arithmetic in the kernels.

The block is the four-branch one of the published networks at 256x192, in fp32. Counts are exact, so they are compared
with formulas, without slack. They are bytes that threads ask for: the second reading of a byte, and weights that
several blocks read, come from a cache on a device, but they are in the counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import emulation
import inference_kernels as native
import op_cases
import pytest
import torch

CHANNELS = [20, 40, 80, 160]
SIZES = [(64, 48), (32, 24), (16, 12), (8, 6)]
PIXELS = [height * width for height, width in SIZES]
HIDDEN = sum(CHANNELS) // 8
GATE_HIDDEN = [c // 4 for c in CHANNELS]
BYTES = 4  # of an element

BATCHES = pytest.mark.parametrize("batch", [1, 8])


def half_maps(batch: int) -> int:
    """Elements of what is split off: what each of the launches must read once and write once, at least."""
    return batch * sum(c * p for c, p in zip(CHANNELS, PIXELS, strict=True))


@pytest.fixture(scope="module")
def loaded() -> emulation.Library:
    return emulation.load(native.SOURCES, mode="checked", includes=[native.CSRC])


@pytest.fixture(scope="module")
def launches_of(loaded: emulation.Library) -> Iterator[Any]:
    """The three launches of a block with a batch of so many images, each run once."""
    found: dict[tuple[int, int], list[dict[str, Any]]] = {}

    def launches(batch: int, offset: int = 0) -> list[dict[str, Any]]:
        if (batch, offset) not in found:
            loaded.reset()
            loaded.configure(check=False, statistics=True)
            maps = op_cases.random_maps(SIZES, [2 * c for c in CHANNELS], batch=batch)
            weights = op_cases.cast(op_cases.cross_resolution_weights(CHANNELS, HIDDEN), torch.float32)
            filters = op_cases.cast(op_cases.depthwise_weights(CHANNELS), torch.float32)
            gates = op_cases.cast(op_cases.gate_weights(CHANNELS), torch.float32)
            native.Kernels(loaded, offset).conditional_channel_weighting(
                maps, weights, list(zip(*filters, strict=True)), list(zip(*gates, strict=True))
            )
            found[batch, offset] = loaded.launches()
        return found[batch, offset]

    yield launches
    loaded.reset()


def blocks_of(launch: dict[str, Any]) -> int:
    return int(launch["grid"][0])


def read_and_written(launch: dict[str, Any]) -> tuple[int, int]:
    traffic = launch["traffic"]
    return traffic["global_read"]["bytes"], traffic["global_write"]["bytes"]


@BATCHES
def test_cross_resolution_weighting(launches_of: Any, batch: int) -> None:
    launch = launches_of(batch)[0]
    read, written = read_and_written(launch)
    assert written == half_maps(batch) * BYTES
    # Pixels twice, once to pool and once to weight them. Both matrices once per block, since no tile has more than the
    # kChunk = 4 positions that share a weight; a bias of the first by all lanes of a warp, of the second by one thread.
    weights = 2 * HIDDEN * sum(CHANNELS) + 32 * HIDDEN + sum(CHANNELS)
    assert read == (2 * half_maps(batch) + blocks_of(launch) * weights) * BYTES
    # One position a block with one image, and several once there are blocks enough.
    assert blocks_of(launch) == {1: 48, 8: 128}[batch]


@BATCHES
def test_depthwise_conv(launches_of: Any, loaded: emulation.Library, batch: int) -> None:
    launch = launches_of(batch)[1]
    read, written = read_and_written(launch)
    tiles = [loaded.depthwise_conv_tile_count(batch, *size) for size in SIZES]
    branches = list(zip(CHANNELS, SIZES, tiles, strict=True))
    sums = sum(batch * c * t for c, _, t in branches)
    assert written == (half_maps(batch) + sums) * BYTES
    # Each inner edge between two tiles adds the row above and the row below it.
    pixels = sum(batch * c * width * (height + 2 * (t - 1)) for c, (height, width), t in branches)
    assert pixels <= 1.25 * half_maps(batch)
    # Every thread has a filter and its bias; lanes of a warp that ask for the same one are served at once.
    assert read == (pixels + 10 * launch["threads"]) * BYTES


@BATCHES
def test_spatial_weighting(launches_of: Any, loaded: emulation.Library, batch: int) -> None:
    launch = launches_of(batch)[2]
    read, written = read_and_written(launch)
    assert written == 2 * half_maps(batch) * BYTES
    tile_pixels = 1536 if batch < 8 else 3072  # kSmallTile, kLargeTile
    tiles = weights = 0
    for c, hidden, size, pixels in zip(CHANNELS, GATE_HIDDEN, SIZES, PIXELS, strict=True):
        sums = c * loaded.depthwise_conv_tile_count(batch, *size)
        groups = -(-c // max(1, tile_pixels // pixels))
        chunks = -(-pixels // tile_pixels)
        tiles += batch * groups * chunks
        # A tile reads its image's sums, the first matrix and bias, and its own channels' part of the second.
        weights += batch * chunks * (groups * (sums + (c + 1) * hidden) + c * (hidden + 1))
    assert blocks_of(launch) == tiles
    assert read == (2 * half_maps(batch) + weights) * BYTES


# Per launch, the vectors that the width of a window, a row or a plane allows, in elements, branch by branch.
VECTORS = {0: [4, 4, 2, 1], 1: [4, 4, 4, 2], 2: [4, 4, 4, 4]}


def requests_of_stores(launch: dict[str, Any]) -> int:
    """What warps ask for through store_vec, the widest stores that alignment allows."""
    lines = [line for line in launch["lines"] if line["access"] == "write" and line["memory"] == "global"]
    return sum(line["requests"] for line in lines if line["file"].endswith("elements.cuh"))


@pytest.mark.parametrize("index", VECTORS)
@BATCHES
def test_stores_are_as_wide_as_sizes_allow(launches_of: Any, batch: int, index: int) -> None:
    halves = 2 if index == 2 else 1
    least = sum(
        halves * batch * c * pixels // (32 * vector)
        for c, pixels, vector in zip(CHANNELS, PIXELS, VECTORS[index], strict=True)
    )
    requests = requests_of_stores(launches_of(batch)[index])
    # The last vectors of a tile do not fill a warp: 80 of depthwise_conv's 1,040 requests with one image. Vectors of
    # half the width would double the requests.
    assert least <= requests <= 1.1 * least


def test_misaligned_maps_take_one_element_at_a_time(launches_of: Any) -> None:
    for index, launch in enumerate(launches_of(1, offset=1)):
        least = (2 if index == 2 else 1) * half_maps(1) // 32
        assert requests_of_stores(launch) >= least
