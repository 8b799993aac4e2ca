from __future__ import annotations

from pathlib import Path

import pytest
import torch

from litehrnet_cuda.classes import PERSON
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.export.source import read_source
from litehrnet_cuda.keypoints import COCO, MPII
from litehrnet_cuda.models.checkpoints import save_checkpoint
from litehrnet_cuda.models.registry import create_model


def test_a_checkpoint_says_what_it_is_of(checkpoint: Path) -> None:
    network, metadata, _ = read_source(checkpoint)
    assert (metadata.variant, metadata.input_size) == ("naive_litehrnet_18", (64, 96))
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    with torch.inference_mode():  # ordinary tensors all the same
        assert not any(parameter.is_inference() for parameter in read_source(checkpoint).network.parameters())


@pytest.mark.parametrize(("joints", "known"), [(17, COCO), (16, MPII), (5, None)])
def test_a_checkpoint_that_says_nothing_is_recognised(joints: int, known: object, tmp_path: Path) -> None:
    model = create_model("litehrnet_18", num_outputs=joints)
    torch.save(model.state_dict(), tmp_path / "model.pth")
    network, metadata, assumed = read_source(tmp_path / "model.pth")
    assert assumed == {17: "coco", 16: "mpii", 5: ""}[joints]
    assert (metadata.variant, metadata.task, metadata.num_outputs) == ("litehrnet_18", "pose", joints)
    assert (metadata.keypoint_set, metadata.input_size) == (known, None)
    expected = model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())


def test_what_is_no_network_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.pth"):
        read_source(tmp_path / "nothing.pth")
    with pytest.raises(InputError, match=r"expected the \d+ tensors of the model"):
        read_source(checkpoint, "litehrnet_18")
    torch.save(create_model("litehrnet_18", "backbone", branches="top").state_dict(), tmp_path / "backbone.pth")
    with pytest.raises(InputError, match="got a backbone without a head"):
        read_source(tmp_path / "backbone.pth")


@pytest.mark.parametrize("head", ["fcn", "resize_concat"])
@pytest.mark.parametrize("iterative", [True, False])
def test_segmentation_networks_are_recognised(head: str, iterative: bool, tmp_path: Path) -> None:
    model = create_model("naive_litehrnet_18", "segmentation", num_outputs=2, head=head, with_head=iterative)  # type: ignore[call-overload]
    torch.save(model.state_dict(), tmp_path / "model.pth")
    network, metadata, _ = read_source(tmp_path / "model.pth")
    assert (metadata.task, metadata.num_outputs, metadata.class_set) == ("segmentation", 2, PERSON)
    assert (metadata.head, metadata.iterative_head) == (head, iterative)
    expected = model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())
    save_checkpoint(model, tmp_path / "model.safetensors", metadata)
    assert read_source(tmp_path / "model.safetensors")[1:] == (metadata, "")
