"""The comparison itself, with networks that differ by what is known."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from litehrnet_cuda.export.network import decoding_inside
from litehrnet_cuda.export.parity import LIMIT, Parity, ParityError, measure_parity, require_parity
from litehrnet_cuda.export.shape import InputShape
from litehrnet_cuda.models.checkpoints import CheckpointMetadata

METADATA = CheckpointMetadata("litehrnet_18", "pose", 3)
SHAPE = InputShape((64, 32))


class Quarter(nn.Module):
    """The colours as heat maps, at a quarter of the size."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(images, 4)


def test_the_difference_is_relative_to_the_largest_output() -> None:
    network, seen = Quarter(), []

    def run(images: Tensor) -> Sequence[Tensor]:
        seen.append(tuple(images.shape))
        outputs = network(images)
        outputs[-1, -1, -1, -1] += 0.5 * outputs.abs().max()
        return [outputs]

    parity = measure_parity(run, network, METADATA, SHAPE)
    assert parity.difference == pytest.approx(0.5)
    assert (parity.limit, parity.keypoints) == (LIMIT, None)
    assert seen == parity.shapes == SHAPE.samples()
    assert not parity.is_within
    with pytest.raises(
        ParityError, match=r"model\.onnx is not what PyTorch computes, and nothing was written: largest "
    ):
        require_parity(parity, "model.onnx")


def test_images_are_normalised_noise() -> None:
    images: list[Tensor] = []

    def run(batch: Tensor) -> Sequence[Tensor]:
        images.append(batch)
        return [Quarter()(batch)]

    assert require_parity(measure_parity(run, Quarter(), METADATA, SHAPE), "").difference == 0
    red = images[0][:, 0]
    assert red.amin() == pytest.approx(-0.485 / 0.229, abs=0.01)
    assert red.amax() == pytest.approx((1 - 0.485) / 0.229, abs=0.01)
    assert not torch.equal(images[1][:1], images[0])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda outputs: torch.where(torch.arange(outputs.numel()).view_as(outputs) == 7, torch.nan, outputs),
        lambda outputs: torch.full_like(outputs, torch.inf),
        lambda outputs: outputs[:, :2],
        lambda outputs: outputs.roll(1, dims=1),
    ],
    ids=["a NaN", "infinite", "another shape", "another order"],
)
def test_what_cannot_be_compared_differs(wrong: object) -> None:
    parity = measure_parity(lambda images: [wrong(Quarter()(images))], Quarter(), METADATA, SHAPE)  # type: ignore[operator]
    assert not parity.is_within


def test_what_is_only_told_has_no_limit() -> None:
    parity = measure_parity(lambda images: [0 * Quarter()(images)], Quarter(), METADATA, SHAPE, limit=None)
    assert parity.difference == 1
    assert parity.is_within
    assert "limit" not in str(parity)


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_what_is_no_number_is_wrong_without_a_limit_too(wrong: float) -> None:
    parity = measure_parity(lambda images: [wrong + Quarter()(images)], Quarter(), METADATA, SHAPE, limit=None)
    assert not parity.is_within


def test_values_that_half_precision_cannot_hold_are_said() -> None:
    network = nn.Conv2d(3, 3, 3, stride=4).requires_grad_(False)
    network.weight *= 1e6
    with pytest.raises(ParityError, match="float16 cannot hold the network's values, in PyTorch either"):
        measure_parity(lambda images: [network(images)], network, METADATA, SHAPE, half=True)


def test_half_precision_may_be_as_far_off_as_twice_that_of_pytorch() -> None:
    network = nn.Conv2d(3, 3, 3, stride=4).requires_grad_(False)

    def run(images: Tensor) -> Sequence[Tensor]:
        return [network(images)]

    in_half = measure_parity(run, network, METADATA, SHAPE, half=True)
    # An output is a sum of 27 products of numbers rounded to 11 bits.
    assert in_half.limit is not None
    assert LIMIT < in_half.limit < 2 * 27 * 2**-11
    assert network.weight.dtype == torch.float32


@pytest.mark.parametrize("decoder", ["quarter", "dark", "udp"])
def test_key_points_are_compared_with_the_decoding_of_the_same_heat_maps(decoder: str) -> None:
    network, decoding = Quarter(), decoding_inside(decoder, SHAPE.size)  # type: ignore[arg-type]
    other = decoding_inside("quarter_per_axis" if decoder != "quarter" else "dark", SHAPE.size)

    def run(images: Tensor) -> Sequence[Tensor]:
        heatmaps = network(images)
        return [decoding(lambda _: [heatmaps], images)[0], heatmaps]

    def run_other(images: Tensor) -> Sequence[Tensor]:
        heatmaps = network(images)
        return [other(lambda _: [heatmaps], images)[0], heatmaps]

    assert measure_parity(run, network, METADATA, SHAPE, decoding).keypoints == 0
    wrong = measure_parity(run_other, network, METADATA, SHAPE, decoding)
    assert wrong.keypoints is not None
    assert wrong.keypoints > LIMIT
    assert not wrong.is_within


@pytest.mark.parametrize("batch", [None, 1, 3])
@pytest.mark.parametrize(
    ("joint", "value", "share"),
    [(0, 2, 3 / 5), (slice(None), 2, 1 / 5), (slice(None), 0, 1 / 5)],
    ids=["one joint's score", "one image's scores", "one image's positions"],
)
def test_key_points_that_are_wrong_are_seen(batch: int | None, joint: object, value: int, share: float) -> None:
    """Of three joints one in most images, or all in a fifth of the images."""
    network, shape = Quarter(), InputShape(SHAPE.size, batch)
    decoding = decoding_inside("quarter", shape.size)
    seen = 0

    def run(images: Tensor) -> Sequence[Tensor]:
        nonlocal seen
        heatmaps = network(images)
        keypoints = decoding(lambda _: [heatmaps], images)[0].clone()
        for one in keypoints:
            one[joint, value] *= 0.5 if seen % 5 < share * 5 else 1
            seen += 1
        return [keypoints, heatmaps]

    parity = measure_parity(run, network, METADATA, shape, decoding)
    assert seen >= 16
    assert parity.keypoints is not None
    assert parity.keypoints > LIMIT
    assert not parity.is_within


def test_classes_are_compared_by_their_logits() -> None:
    network, decoding = Quarter(), decoding_inside("classes", SHAPE.size)

    def run(images: Tensor, wrong: int = 0) -> Sequence[Tensor]:
        logits = network(images)
        classes = decoding(lambda _: [logits], images)[0]
        classes[0, 5, 5] = (classes[0, 5, 5] + wrong) % 3
        return [classes, logits]

    assert measure_parity(run, network, METADATA, SHAPE, decoding).classes == 0
    parity = measure_parity(lambda images: run(images, 1), network, METADATA, SHAPE, decoding)
    assert parity.classes is not None
    assert parity.classes > LIMIT
    assert not parity.is_within
    assert f"of classes {parity.classes:.1e} (limit 1.0e-04)" in str(parity)
    for broken in (lambda classes: classes + 3, lambda classes: classes - 1, lambda classes: classes[:, :-1]):
        parity = measure_parity(
            lambda images, broken=broken: [broken(run(images)[0]), run(images)[1]],  # type: ignore[misc]
            *(network, METADATA, SHAPE, decoding),
        )
        assert parity.classes == float("inf")


def test_figures_are_said() -> None:
    said = str(Parity(2e-6, 1e-4, 3e-7, [(1, 3, 256, 192), (2, 3, 256, 192)]))
    assert said == (
        "largest difference from PyTorch 2.0e-06 of the largest output (limit 1.0e-04), of nine of ten key points "
        "3.0e-07 (limit 1.0e-04); batches of 1, 2, 192x256"
    )
