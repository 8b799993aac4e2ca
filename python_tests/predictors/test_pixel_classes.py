"""Classes at full resolution, some rows at a time, against all at once by PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from litehrnet_cuda.predictors.pixel_classes import ROWS, Logits, class_labels, class_probabilities

# Up by whole and other ratios, across several chunks of rows and with a short last one; as it is; down; one pixel.
SIZES = [(52, 72), (2 * ROWS + 5, 71), (13, 18), (7, 30), (1, 1), (ROWS, 40), (ROWS + 1, 9)]


def maps(count: int, batch: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, 5, 13, 18, dtype=torch.float64, generator=generator) for _ in range(count)]


def whole(logits: list[Tensor], size: tuple[int, int]) -> Tensor:
    resized = [F.interpolate(one, size, mode="bilinear", align_corners=False) for one in logits]
    return sum(one.softmax(dim=1) for one in resized) / len(resized)  # type: ignore[return-value]


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_as_all_at_once(size: tuple[int, int], count: int) -> None:
    logits = maps(count)
    expected = whole(logits, size)
    # fp64: a few roundings of numbers of order one.
    torch.testing.assert_close(class_probabilities(logits, size), expected, rtol=0, atol=1e-14)
    labels = class_labels(logits, size)
    assert labels.dtype == torch.uint8
    assert torch.equal(labels.long(), expected.argmax(dim=1))


def test_float32_and_the_largest_number_of_classes() -> None:
    logits = torch.zeros(1, 255, 4, 4)
    logits[0, 254, :2], logits[0, 3, 2:] = 1, 1
    labels = class_labels([logits], (8, 8))
    assert labels[0, :3].unique().tolist() == [254]
    assert labels[0, 5:].unique().tolist() == [3]
    assert class_probabilities([logits], (8, 8)).dtype == torch.float32


def test_of_equal_ones_the_first_and_numbers_that_are_none() -> None:
    logits = torch.zeros(1, 3, 4, 4)
    assert not class_labels([logits], (4, 4)).any()
    logits[0, 1] = float("nan")
    assert class_labels([logits], (4, 4)).max() < 3  # a class, whichever


def test_the_mirrored_image_is_mirrored_back() -> None:
    x = torch.randn(2, 3, 4, 5, dtype=torch.float16)
    seen: list[Tensor] = []

    def network(images: Tensor) -> list[Tensor]:
        seen.append(images)
        return [images + torch.arange(5).half()]  # a network that is biased to the right

    run: Callable[..., list[Tensor]] = Logits(flip_test=True)
    straight, mirrored = run(network, x)
    assert straight.dtype == mirrored.dtype == torch.float32
    assert torch.equal(seen[0], x)
    assert torch.equal(seen[1], x.flip(-1))
    assert torch.equal(straight, (x + torch.arange(5).half()).float())
    assert torch.equal(mirrored, (x + torch.arange(4, -1, -1).half()).float())
    assert len(Logits()(network, x)) == 1
    assert len(seen) == 3


def test_equal_ones_are_the_same_to_graphs() -> None:
    assert Logits(True) == Logits(True) != Logits(False)
    assert hash(Logits(True)) == hash(Logits(True))
