"""Heat maps on a GPU: flip test and decoding as on the CPU, without waiting, and in a CUDA graph."""

from __future__ import annotations

import gpu_cases
import numpy as np
import pytest
import torch
from gpu_cases import assert_same_bits
from torch import Tensor

from litehrnet_cuda.codecs.flip import average_flipped
from litehrnet_cuda.codecs.heatmap import DECODERS, Decoder, decode_heatmaps, encode_heatmaps
from litehrnet_cuda.keypoints import COCO

pytestmark = pytest.mark.gpu

INPUT, MAP = (192, 256), (48, 64)


def heatmaps(seed: int) -> Tensor:
    """``[8, 17, 64, 48]`` on the CPU: peaks with noise, and a map each that is flat, negative, and broken."""
    rng = np.random.default_rng(seed)
    maps, _ = encode_heatmaps(rng.uniform(0, INPUT, (8, 17, 2)), np.ones((8, 17)), INPUT, MAP, 2, mode="unbiased")
    noisy = torch.from_numpy((0.8 * maps + rng.normal(0, 0.02, maps.shape)).astype(np.float32))
    noisy[0, 0], noisy[0, 1], noisy[0, 2, 5, 5] = 0.5, -1, float("nan")
    return noisy


def decode(maps: Tensor, mirrored: Tensor, decoder: Decoder) -> list[Tensor]:
    averaged = average_flipped(maps, mirrored, COCO.flip_indices)
    return [*decode_heatmaps(averaged, INPUT, decoder=decoder), *decode_heatmaps(maps, INPUT, decoder=decoder)]


@pytest.mark.parametrize("decoder", DECODERS)
def test_as_on_the_cpu_and_without_waiting(decoder: Decoder) -> None:
    maps, mirrored = heatmaps(0), heatmaps(1)
    on_gpu = maps.to(gpu_cases.DEVICE), mirrored.to(gpu_cases.DEVICE)
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = decode(*on_gpu, decoder)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    # The scores are pixels. Of the key points of single peaks see python_tests/codecs/test_heatmap.py; averages of two
    # unrelated maps may have curvatures of next to nothing, so that only their scores are compared.
    _, averaged_scores, keypoints, scores = decode(maps, mirrored, decoder)
    assert_same_bits([found[1].cpu(), found[3].cpu()], [averaged_scores, scores])
    assert all(result.device.type == gpu_cases.DEVICE for result in found)
    atol = 0 if decoder.startswith("quarter") else 2 * float(np.spacing(np.float32(256))) + 3e-5
    torch.testing.assert_close(found[2].cpu(), keypoints, rtol=0, atol=atol)


@pytest.mark.parametrize("decoder", DECODERS)
def test_graph_is_replayed_with_changed_maps(decoder: Decoder) -> None:
    inputs = [[heatmaps(seed).to(gpu_cases.DEVICE) for seed in seeds] for seeds in ((0, 1), (2, 3))]
    expected = [decode(*maps, decoder) for maps in inputs]
    held = [maps.clone() for maps in inputs[0]]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = decode(*held, decoder)
    for maps, right in zip(reversed(inputs), reversed(expected), strict=True):
        for into, values in zip(held, maps, strict=True):
            into.copy_(values)
        graph.replay()
        torch.cuda.synchronize()
        assert_same_bits(results, right)
