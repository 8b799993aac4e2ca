"""What a checkpoint is of: as it says, or as its names and shapes show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sample_checkpoints import state_of, to_mmpose_1x, to_paddle
from torch import nn

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.files import sha256_of
from litehrnet_cuda.keypoints import COCO
from litehrnet_cuda.models.checkpoint_files import CheckpointMetadata, write_safetensors
from litehrnet_cuda.models.identification import describe_checkpoint, describe_network, describe_weights
from litehrnet_cuda.models.published import PUBLISHED
from litehrnet_cuda.models.registry import create_model


@pytest.mark.parametrize("rename", [dict, to_mmpose_1x, to_paddle])
@pytest.mark.parametrize("variant", ["litehrnet_30", "naive_litehrnet_18"])
def test_weights_of_poses(golden: Path, variant: str, rename: Any) -> None:
    described = describe_weights(rename(state_of(golden, variant, joints=21)))
    assert described == CheckpointMetadata(variant, "pose", 21)


@pytest.mark.parametrize("prefix", ["", "backbone."])
@pytest.mark.parametrize("with_head", [True, False])
def test_weights_of_a_backbone(prefix: str, with_head: bool) -> None:
    network = create_model("litehrnet_18", "backbone", with_head=with_head)
    weights = {prefix + name: value for name, value in network.state_dict().items()}
    assert describe_weights(weights) == CheckpointMetadata("litehrnet_18", "backbone", 0, iterative_head=with_head)
    assert describe_network(network) == describe_weights(weights)


@pytest.mark.parametrize("head", ["fcn", "resize_concat"])
@pytest.mark.parametrize("with_head", [True, False])
def test_weights_of_a_segmentation(head: Any, with_head: bool) -> None:
    network = create_model("litehrnet_18", "segmentation", num_outputs=5, head=head, with_head=with_head)
    expected = CheckpointMetadata("litehrnet_18", "segmentation", 5, head=head, iterative_head=with_head)
    assert describe_weights(network.state_dict()) == expected
    assert describe_network(network) == expected


def test_what_a_file_says_comes_first(golden: Path, tmp_path: Path) -> None:
    metadata = CheckpointMetadata("litehrnet_18", "pose", 17, COCO, (288, 384))
    file = write_safetensors(state_of(golden), tmp_path / "x.safetensors", metadata)
    assert describe_checkpoint(file) == metadata
    torch.save(state_of(golden), tmp_path / "x.pth")
    assert describe_checkpoint(tmp_path / "x.pth") == CheckpointMetadata("litehrnet_18", "pose", 17)


def test_a_published_file_is_known_by_its_checksum(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "downloaded_by_hand.pth"
    torch.save(state_of(golden), file)
    entry = replace(PUBLISHED["litehrnet_18_coco_384x288"], url=f"https://x/y-{sha256_of(file)[:8]}_20230101.pth")
    monkeypatch.setitem(PUBLISHED, entry.name, entry)
    assert describe_checkpoint(file).input_size == (288, 384)


def test_a_published_name_needs_no_download(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LITEHRNET_CUDA_CACHE", str(tmp_path / "never"))
    assert describe_checkpoint("litehrnet_30_coco_384x288").input_size == (288, 384)
    assert not (tmp_path / "never").exists()


def test_another_network_is_said_with_the_file(tmp_path: Path) -> None:
    torch.save(nn.Linear(1, 1).state_dict(), tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"other\.pth: expected the names of a Lite-HRNet.*got weight, bias"):
        describe_checkpoint(tmp_path / "other.pth")
    with pytest.raises(InputError, match="expected one of create_model, got Linear"):
        describe_network(nn.Linear(1, 1))
