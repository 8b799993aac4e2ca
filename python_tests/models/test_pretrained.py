"""Networks go into folders and come back as they were."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sample_checkpoints import assert_same, copy_of

from litehrnet_cuda.classes import PERSON
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import KeypointSet
from litehrnet_cuda.models.checkpoint_files import CheckpointMetadata
from litehrnet_cuda.models.checkpoints import load_checkpoint
from litehrnet_cuda.models.litehrnet import LiteHRNet, PoseNetwork, Variant
from litehrnet_cuda.models.registry import create_model
from litehrnet_cuda.models.segmentation import SegmentationNetwork
from litehrnet_cuda.predictors.pose_estimator import PoseEstimator
from litehrnet_cuda.predictors.segmenter import Segmenter

NAME = "naive_litehrnet_18"
TABLE = KeypointSet("table", ("a", "b"), ((0, 1),), (0.1, 0.2))
KINDS: dict[str, Any] = {
    "pose": (PoseNetwork, lambda: create_model(NAME, num_outputs=2)),
    "fcn": (SegmentationNetwork, lambda: create_model(NAME, "segmentation", num_outputs=2)),
    "resize_concat": (
        SegmentationNetwork,
        lambda: create_model(NAME, "segmentation", num_outputs=2, head="resize_concat", with_head=False),
    ),
    "backbone": (LiteHRNet, lambda: create_model(NAME, "backbone", with_head=False)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back(tmp_path: Path, kind: str) -> None:
    cls, create = KINDS[kind]
    network = create()
    assert network.save_pretrained(tmp_path / "folder") == tmp_path / "folder"
    other = cls.from_pretrained(str(tmp_path / "folder"))
    assert type(other) is cls
    assert other.variant is network.variant
    assert other.training
    assert_same(other.state_dict(), network.state_dict())
    half = cls.from_pretrained(tmp_path / "folder", dtype=torch.float16)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.float16}


def test_what_is_known_about_a_network_travels_with_it(tmp_path: Path) -> None:
    metadata = CheckpointMetadata(NAME, "pose", 2, TABLE, (64, 96))
    create_model(NAME, num_outputs=2).save_pretrained(tmp_path / "first", metadata)
    network = PoseNetwork.from_pretrained(tmp_path / "first")
    assert network.metadata == metadata
    network.save_pretrained(tmp_path / "second")
    again = PoseNetwork.from_pretrained(tmp_path / "second")
    assert again.metadata == metadata
    for estimator in (PoseEstimator(again, device="cpu"), PoseEstimator(checkpoint=tmp_path / "second", device="cpu")):
        assert estimator.keypoint_set == TABLE
        assert estimator.input_size == (64, 96)


def test_it_travels_also_where_the_network_was_named(tmp_path: Path) -> None:
    metadata = CheckpointMetadata(NAME, "pose", 2, TABLE, (64, 96), box_convention="official", decoder="dark")
    folder = create_model(NAME, num_outputs=2).save_pretrained(tmp_path / "first", metadata)
    network = create_model(NAME, num_outputs=2, checkpoint=folder)
    assert network.metadata == metadata
    create_model(NAME, num_outputs=2).save_pretrained(tmp_path / "plain")
    load_checkpoint(network, tmp_path / "plain")  # which says less
    assert network.metadata == CheckpointMetadata(NAME, "pose", 2)
    torch.save(network.state_dict(), tmp_path / "x.pth")  # which says nothing
    for file, expected in ((folder, metadata), (tmp_path / "x.pth", None)):
        load_checkpoint(network, file)
        assert network.metadata == expected
    # What is known of a whole network is not known of its backbone, nor of one of other joints.
    assert create_model(NAME, "backbone", checkpoint=folder).metadata is None
    other = create_model(NAME, num_outputs=3)
    for network in (other, PoseNetwork.from_pretrained(folder)):
        load_checkpoint(network, folder, strict=False)
        assert network.metadata is None


def test_a_segmenter_from_a_folder(tmp_path: Path) -> None:
    classes = replace(PERSON, name="mine")
    metadata = CheckpointMetadata(NAME, "segmentation", 2, input_size=(64, 64), class_set=classes, head="fcn")
    create_model(NAME, "segmentation", num_outputs=2).save_pretrained(tmp_path, metadata)
    image = np.zeros((64, 64, 3), np.uint8)
    of_folder = Segmenter(checkpoint=tmp_path, device="cpu")
    of_network = Segmenter(SegmentationNetwork.from_pretrained(tmp_path), device="cpu")
    assert of_folder.class_set == of_network.class_set == classes
    assert np.array_equal(of_folder(image).labels, of_network(image).labels)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"variant": "litehrnet_18"}, "expected variant 'naive_litehrnet_18', as the network has it"),
        ({"task": "segmentation"}, "expected task 'pose'"),
        ({"num_outputs": 17}, "expected num_outputs 2, as the network has it, got 17"),
    ],
)
def test_metadata_of_another_network_are_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    metadata = replace(CheckpointMetadata(NAME, "pose", 2), **change)
    with pytest.raises(InputError, match=words):
        create_model(NAME, num_outputs=2).save_pretrained(tmp_path / "folder", metadata)
    assert not (tmp_path / "folder").exists()


def test_a_folder_of_another_kind_of_network(tmp_path: Path) -> None:
    create_model(NAME, num_outputs=2).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"expected a SegmentationNetwork, got .*use PoseNetwork\.from_pretrained"):
        SegmentationNetwork.from_pretrained(tmp_path)


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="got a path where there is none"):
        PoseNetwork.from_pretrained("litehrnet_18_coco_256x192")  # a published name: nothing is downloaded
    with pytest.raises(InputError, match=r"config\.json: expected a file of save_pretrained"):
        PoseNetwork.from_pretrained(tmp_path)


def test_networks_that_no_name_stands_for(tmp_path: Path) -> None:
    tiny = Variant("tiny", (1, 1, 1), (8, 8, 16, 16), num_blocks=1, reduce_ratio=2, stem_channels=8)
    with pytest.raises(InputError, match="got 'tiny' of your own; save it with save_checkpoint"):
        create_model(tiny).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="images of three channels"):
        create_model(NAME, "backbone", in_channels=1).save_pretrained(tmp_path)
    headless = PoseNetwork(create_model(NAME, "backbone", with_head=False, branches="top"), 2)
    with pytest.raises(InputError, match="with the iterative head"):
        headless.save_pretrained(tmp_path)


def test_training_after_loading_changes_what_is_saved(tmp_path: Path) -> None:
    network = create_model(NAME, num_outputs=2)
    network.save_pretrained(tmp_path)
    loaded = PoseNetwork.from_pretrained(tmp_path)
    with torch.no_grad():
        loaded.keypoint_head.final_layer.weight.add_(1)
    expected = copy_of(loaded)
    loaded.save_pretrained(tmp_path)
    assert_same(PoseNetwork.from_pretrained(tmp_path).state_dict(), expected)
