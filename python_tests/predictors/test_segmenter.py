"""Segmenter: what it finds where, what it takes, and what it says about what it cannot take."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from official_reference import load_recipe
from plain_executor import Executor
from torch import Tensor, nn

from litehrnet_cuda import InputError, Segmentation, Segmenter, create_model
from litehrnet_cuda.classes import CITYSCAPES, PERSON, ClassSet
from litehrnet_cuda.data.transforms import normalize
from litehrnet_cuda.models.checkpoints import CheckpointMetadata, save_checkpoint
from litehrnet_cuda.models.litehrnet import LiteHRNet, Variant
from litehrnet_cuda.models.segmentation import SegmentationNetwork

Array = np.ndarray[Any, Any]
SMALL = Variant("small", (1, 1), (8, 16, 32))


class BrightnessNetwork(SegmentationNetwork):
    """Says for each pixel how bright it is: class 1 where it is brighter than grey. Its pixels are those of the image.

    It remembers its inputs.
    """

    def __init__(self) -> None:
        super().__init__(LiteHRNet(SMALL), 2)
        self.batches: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        assert not self.training
        self.batches.append(x)
        bright = F.interpolate(x.mean(dim=1, keepdim=True), scale_factor=0.25, mode="area")
        return torch.cat([-bright, bright], dim=1)


def halves(width: int = 160, height: int = 120) -> Array:
    """Dark to the left, bright to the right."""
    image = np.full((height, width, 3), 20, np.uint8)
    image[:, width // 2 :] = 230
    return image


@pytest.fixture
def network() -> SegmentationNetwork:
    """With weights of which all matter."""
    return load_recipe(create_model(SMALL, "segmentation", num_outputs=3), "w0").float().eval()  # type: ignore[return-value]


# --------------------------------------------------------------------------------------------------- what it finds


@pytest.mark.parametrize("flip_test", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mode": "slide", "window": (64, 48), "stride": (40, 30)},
        {"size": (80, 80)},
        {"size": (320, 320)},
        {"mode": "slide", "window": (64, 48), "size": (200, 100)},
    ],
    ids=str,
)
def test_finds_the_bright_half(options: dict[str, Any], flip_test: bool) -> None:
    image = halves()
    result = Segmenter(BrightnessNetwork(), flip_test=flip_test, **options)(image)
    assert isinstance(result, Segmentation)
    assert result.labels.shape == (120, 160)
    assert result.class_set is PERSON
    wrong = np.flatnonzero((result.labels != (image[..., 0] > 100)).any(axis=0))
    # Up to a pixel of the logits from the edge, which is four pixels of the input; smallest input: half the image.
    assert all(abs(column + 0.5 - 80) <= 8 for column in wrong)


def test_takes_images_as_they_are_or_resized_with_their_proportions_kept() -> None:
    for size, expected in ((None, (120, 160)), ((80, 200), (60, 80)), ((400, 90), (90, 120)), ((320, 240), (240, 320))):
        network = BrightnessNetwork()
        assert Segmenter(network, size=size)(halves()).labels.shape == (120, 160)
        assert [tuple(batch.shape) for batch in network.batches] == [(1, 3, *expected)]


def test_an_image_is_normalised_as_in_training(street: Array) -> None:
    network = BrightnessNetwork()
    Segmenter(network)(street)
    np.testing.assert_array_equal(network.batches[0][0].numpy(), normalize(street))


def test_windows_of_a_batch() -> None:
    network = BrightnessNetwork()
    # Along 160 pixels windows begin at 0, 42, 84 and 96, along 120 at 0, 42 and 56.
    Segmenter(network, mode="slide", window=(64, 64), batch_size=5)(halves())
    assert [tuple(batch.shape) for batch in network.batches] == [(5, 3, 64, 64), (5, 3, 64, 64), (2, 3, 64, 64)]


def test_flip_test_averages_probabilities(street: Array, network: SegmentationNetwork) -> None:
    straight = Segmenter(network).predict_probabilities(street)
    mirrored = Segmenter(network).predict_probabilities(np.ascontiguousarray(street[:, ::-1]))[..., ::-1]
    both = Segmenter(network, flip_test=True)
    probabilities = both.predict_probabilities(street)
    # Of float32 networks, 1e-5 of logits of order one.
    np.testing.assert_allclose(probabilities, (straight + mirrored) / 2, atol=1e-5)
    assert not np.allclose(straight, mirrored, atol=1e-3)
    np.testing.assert_array_equal(both(street).labels, probabilities.argmax(axis=0))


def test_probabilities(street: Array, network: SegmentationNetwork) -> None:
    segmenter = Segmenter(network)
    probabilities = segmenter.predict_probabilities(street)
    assert probabilities.dtype == np.float32
    assert probabilities.shape == (3, 120, 160)
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-6)
    labels = segmenter(street).labels
    np.testing.assert_array_equal(labels, probabilities.argmax(axis=0))
    assert len(np.unique(labels)) > 1


@pytest.mark.parametrize("options", [{}, {"mode": "slide", "window": (64, 64)}], ids=str)
def test_the_planned_network_finds_the_same(
    street: Array, network: SegmentationNetwork, options: dict[str, Any], plain: Executor
) -> None:
    expected = Segmenter(network, optimize=False, **options).predict_probabilities(street)
    assert plain.made == []
    found = Segmenter(network, **options).predict_probabilities(street)
    assert plain.made == [(64, 64) if options else (120, 160)]
    np.testing.assert_allclose(found, expected, atol=1e-5)  # of logits of order one, in float32


def test_a_network_in_half_precision(street: Array, network: SegmentationNetwork) -> None:
    expected = Segmenter(network).predict_probabilities(street)
    found = Segmenter(network.bfloat16()).predict_probabilities(street)
    assert found.dtype == np.float32
    assert np.abs(found - expected).mean() < 0.03  # bfloat16 has three digits


def test_a_network_is_used_itself_and_seen_as_it_is(street: Array, network: SegmentationNetwork) -> None:
    segmenter = Segmenter(network.train())
    assert segmenter.model is network
    assert not network.training
    before = segmenter.predict_probabilities(street)
    with torch.no_grad():
        network.decode_head.conv_seg.weight.mul_(2)
    assert not np.array_equal(segmenter.predict_probabilities(street), before)


def test_an_image_file(tmp_path: Path, street: Array, network: SegmentationNetwork) -> None:
    file = tmp_path / "street.png"
    cv2.imwrite(str(file), street)
    segmenter = Segmenter(network)
    np.testing.assert_array_equal(segmenter(file).labels, segmenter(street).labels)
    assert segmenter(str(file)).draw(street, legend=True).shape[1:] == (160, 3)


def test_a_copy_through_pickle(street: Array, network: SegmentationNetwork) -> None:
    segmenter = Segmenter(network, mode="slide", window=(64, 64), flip_test=True)
    copy = pickle.loads(pickle.dumps(segmenter))
    np.testing.assert_array_equal(copy(street).labels, segmenter(street).labels)


# ------------------------------------------------------------------------------------------------- checkpoints

FRUIT = ClassSet("fruit", ("none", "apple", "pear"), ((0, 0, 0), (200, 0, 0), (0, 200, 0)), background=0)
METADATA = CheckpointMetadata(
    "naive_litehrnet_18", "segmentation", 3, input_size=(96, 64), class_set=FRUIT, head="resize_concat"
)


def saved(folder: Path, metadata: CheckpointMetadata = METADATA) -> tuple[Path, SegmentationNetwork]:
    torch.manual_seed(0)
    head: Any = metadata.head or "fcn"
    model = create_model(
        metadata.variant,
        "segmentation",
        num_outputs=metadata.num_outputs,
        head=head,
        with_head=metadata.iterative_head,
    )
    nn.init.normal_(model.decode_head.conv_seg.weight)
    return save_checkpoint(model, folder / "net.safetensors", metadata), model.eval()


@pytest.mark.parametrize("iterative_head", [True, False])
@pytest.mark.parametrize("head", ["fcn", "resize_concat"])
def test_a_checkpoint_says_everything(tmp_path: Path, street: Array, head: str, iterative_head: bool) -> None:
    file, model = saved(tmp_path, replace(METADATA, head=head, iterative_head=iterative_head))
    segmenter = Segmenter(checkpoint=file, mode="slide")
    assert (segmenter.class_set, segmenter.window, segmenter.stride) == (FRUIT, (96, 64), (64, 42))
    expected = Segmenter(model, class_set=FRUIT, mode="slide", window=(96, 64))
    np.testing.assert_array_equal(segmenter(street).labels, expected(street).labels)


@pytest.mark.parametrize("iterative_head", [True, False])
@pytest.mark.parametrize("head", ["fcn", "resize_concat"])
def test_a_checkpoint_of_mmsegmentation(tmp_path: Path, street: Array, head: str, iterative_head: bool) -> None:
    _, model = saved(tmp_path, replace(METADATA, num_outputs=19, head=head, iterative_head=iterative_head))
    torch.save({"meta": {"epoch": 3}, "state_dict": model.state_dict()}, tmp_path / "iter_160000.pth")
    segmenter = Segmenter(checkpoint=tmp_path / "iter_160000.pth")
    assert segmenter.class_set is CITYSCAPES
    assert segmenter.model.head == head
    assert segmenter.model.backbone.with_head == iterative_head
    np.testing.assert_array_equal(segmenter(street).labels, Segmenter(model)(street).labels)


def test_classes_that_nobody_knows_have_numbers(network: SegmentationNetwork) -> None:
    assert Segmenter(network).class_set == ClassSet.numbered(3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "pose"}, "expected a network for segmentation, got one for pose"),
        ({"mean": (0.0, 0.0, 0.0)}, "expected a network that was trained on images normalised by ImageNet's"),
    ],
)
def test_checkpoints_of_other_networks(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    file, _ = saved(tmp_path, replace(METADATA, **change))
    with pytest.raises(InputError, match=f"net.safetensors: {message}"):
        Segmenter(checkpoint=file)


def test_a_checkpoint_of_poses_without_metadata(tmp_path: Path) -> None:
    torch.save(create_model("naive_litehrnet_18").state_dict(), tmp_path / "pose.pth")
    with pytest.raises(InputError, match=r"pose\.pth: expected a network for segmentation, got one for pose"):
        Segmenter(checkpoint=tmp_path / "pose.pth")


# ----------------------------------------------------------------------------------------------- what it refuses


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "sliding"}, "mode: expected one of whole, slide, got 'sliding'"),
        ({"batch_size": 0}, "batch_size: expected at least 1, got 0"),
        ({"batch_size": "4"}, "batch_size: expected a whole number from 1 up, got '4'"),
        ({"class_set": "person"}, "class_set: expected a ClassSet, .* got 'person'"),
        ({"class_set": CITYSCAPES}, r"class_set: expected 2 classes .* got 19 \(cityscapes\)"),
        ({"size": (16, 64)}, r"size: expected \(width, height\) of 32 to 8192 pixels each way, got \(16, 64\)"),
        ({"size": (64.0, 64)}, "size: expected"),
        ({"size": 64}, "size: expected"),
        ({"mode": "slide"}, "window: expected .* because the checkpoint names no size"),
        ({"mode": "slide", "window": (16, 64)}, r"window: expected \(width, height\) of 32"),
        ({"mode": "slide", "window": (64, 64), "stride": (0, 64)}, r"stride: expected \(width, height\) of 1 to"),
        ({"mode": "slide", "window": (64, 64), "stride": (65, 64)}, r"stride: expected at most the window, \(64, 64\)"),
        ({"device": "abacus"}, "device: expected one that can be used here"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Segmenter(BrightnessNetwork(), **options)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (None, "Segmenter: expected a checkpoint, because a network without trained weights"),
        ("litehrnet_18", "Segmenter: expected a checkpoint"),
        (3, "model: expected a name or a SegmentationNetwork .* got int"),
        (create_model(SMALL), "model: expected a name or a SegmentationNetwork .* got PoseNetwork"),
    ],
)
def test_bad_models(model: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Segmenter(model)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (None, "cv2.imread returns"),
        (np.zeros((40, 40), np.uint8), r"got uint8 of shape \[40, 40\]"),
        (np.zeros((31, 40, 3), np.uint8), r"expected at least 32x32 pixels, got 40x31; images are resized where"),
        ("/nowhere/street.jpg", "no such file"),
    ],
)
def test_unusable_images(image: Any, message: str) -> None:
    for call in (Segmenter(BrightnessNetwork()), Segmenter(BrightnessNetwork()).predict_probabilities):
        with pytest.raises(InputError, match=message):
            call(image)


def test_small_images_are_enlarged_if_asked(network: SegmentationNetwork) -> None:
    assert Segmenter(network, size=(64, 64))(np.zeros((20, 10, 3), np.uint8)).labels.shape == (20, 10)
    # Where the proportions would leave less than 32 pixels, that is said.
    expected = "expected at least 32x32 pixels when it is fitted into 64x64, got 16x64; give a larger size"
    with pytest.raises(InputError, match=expected):
        Segmenter(network, size=(64, 64))(np.zeros((40, 10, 3), np.uint8))


def test_outputs_that_are_no_numbers_are_no_classes(network: SegmentationNetwork) -> None:
    broken = copy.deepcopy(network)
    torch.nn.init.constant_(broken.decode_head.conv_seg.bias, float("nan"))
    with pytest.raises(InputError, match="the network's outputs are not finite"):
        Segmenter(broken)(np.zeros((64, 64, 3), np.uint8))
