from __future__ import annotations

import pytest
import torch
from export_cases import SIZE, small_network, small_segmentation
from torch import nn

from litehrnet_cuda.backends import use_backend
from litehrnet_cuda.codecs.heatmap import DECODERS, decode_heatmaps
from litehrnet_cuda.export.network import ExportedNetwork, decoding_inside, output_names
from litehrnet_cuda.predictors.decoding import blur_kernel_size
from litehrnet_cuda.predictors.pixel_classes import LargestLogits

IMAGES = torch.randn(2, 3, SIZE[1], SIZE[0], generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("decoder", DECODERS)
def test_key_points_come_before_the_heat_maps(decoder: str) -> None:
    network = ExportedNetwork(small_network(), decoding_inside(decoder, SIZE))  # type: ignore[arg-type]
    with torch.no_grad():
        keypoints, heatmaps = network(IMAGES)
    points, scores = decode_heatmaps(heatmaps, SIZE, decoder=decoder, blur_kernel_size=blur_kernel_size(SIZE))  # type: ignore[call-overload]
    assert torch.equal(keypoints, torch.cat([points, scores[..., None]], dim=-1))
    assert output_names("pose", decoder) == ["keypoints", "heatmaps"]  # type: ignore[arg-type]


def test_classes_come_before_the_logits() -> None:
    decoding = decoding_inside("classes", SIZE)
    network = ExportedNetwork(small_segmentation(), decoding)
    with torch.no_grad():
        classes, logits = network(IMAGES)
    assert torch.equal(classes, LargestLogits()(lambda _: [logits], IMAGES)[0])
    assert classes.shape == (2, SIZE[1], SIZE[0])
    assert output_names("segmentation", "classes") == ["classes", "logits"]


def test_batch_norms_are_folded_and_the_network_stays() -> None:
    network = small_network()
    exported = ExportedNetwork(network)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in exported.modules())
    assert any(isinstance(part, nn.BatchNorm2d) for part in network.modules())
    with torch.no_grad(), use_backend("reference"):
        expected = network(IMAGES)
        torch.testing.assert_close(exported(IMAGES), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert output_names("pose", None) == ["heatmaps"]
    assert output_names("segmentation", None) == ["logits"]


def test_half_precision_is_inside_alone() -> None:
    exported = ExportedNetwork(small_network(), half=True)
    assert {parameter.dtype for parameter in exported.parameters()} == {torch.float16}
    with torch.no_grad():
        assert exported(IMAGES).dtype == torch.float32
