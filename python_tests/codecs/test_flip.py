"""The flip test against mmpose's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from litehrnet_cuda.codecs.flip import average_flipped, flip_back
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import COCO


@pytest.fixture
def stored(golden):
    with np.load(golden / "pipeline" / "flip.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays}


@pytest.mark.parametrize("shift", [False, True])
def test_equals_mmpose(stored, shift):
    np.testing.assert_array_equal(COCO.flip_indices, stored["flip_indices"])
    mirrored = stored["heatmaps_of_mirrored_image"].clone()
    # Copies, one sum and one product by 0.5: the same bits.
    flipped = flip_back(mirrored, COCO.flip_indices, shift=shift)
    assert torch.equal(flipped, stored[f"flipped_shift{int(shift)}"])
    averaged = average_flipped(stored["heatmaps"], mirrored, COCO.flip_indices, shift=shift)
    assert torch.equal(averaged, stored[f"averaged_shift{int(shift)}"])
    assert torch.equal(mirrored, stored["heatmaps_of_mirrored_image"])  # inputs are left alone


def test_flipping_twice_changes_nothing():
    maps = torch.rand(2, 17, 8, 6)
    assert torch.equal(flip_back(flip_back(maps, COCO.flip_indices), COCO.flip_indices), maps)


def test_shift_is_on_when_averaging():
    maps, mirrored = torch.rand(2, 1, 17, 8, 6)
    expected = (maps + flip_back(mirrored, COCO.flip_indices, shift=True)) / 2
    assert torch.equal(average_flipped(maps, mirrored, COCO.flip_indices), expected)


@pytest.mark.parametrize("as_type", [np.asarray, list, tuple, torch.tensor])
def test_indices_of_any_kind(as_type):
    maps = torch.rand(2, 17, 8, 6)
    indices = COCO.flip_indices
    assert torch.equal(flip_back(maps, as_type(indices)), maps[:, torch.from_numpy(indices)].flip(-1))


def test_nothing_is_uploaded():
    # On the device `meta`, as decoding is tested: a constant or another device in the trace would be an upload.
    maps = torch.empty(2, 17, 8, 6, device="meta")
    nodes = make_fx(lambda a, b: average_flipped(a, b, COCO.flip_indices))(maps, maps).graph.nodes
    assert [node for node in nodes if node.op == "get_attr" or "device" in node.kwargs] == []


def test_says_what_is_wrong():
    with pytest.raises(InputError, match=r"heatmaps: expected shape \[N, K, h, w\], got \[17, 8, 6\]"):
        flip_back(torch.zeros(17, 8, 6), COCO.flip_indices)
    with pytest.raises(InputError, match="flip_indices: expected 16 indices, one per channel, got 17"):
        flip_back(torch.zeros(1, 16, 8, 6), COCO.flip_indices)
    with pytest.raises(InputError, match=r"mirrored_heatmaps: expected shape \[1, 17, 8, 6\] .*, got \[1, 17, 8, 5\]"):
        average_flipped(torch.zeros(1, 17, 8, 6), torch.zeros(1, 17, 8, 5), COCO.flip_indices)
