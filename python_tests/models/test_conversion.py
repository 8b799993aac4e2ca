"""Checkpoints of every layout become files that need nothing beside them, and go back; nothing is lost on the way."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from sample_checkpoints import VARIANTS, assert_same, state_of, to_mmpose_1x, to_paddle, write_paddle

from litehrnet_cuda.classes import CITYSCAPES, PERSON
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import COCO, MPII, KeypointSet
from litehrnet_cuda.models import checkpoints, conversion, identification
from litehrnet_cuda.models.checkpoint_files import CheckpointMetadata, read_checkpoint, read_metadata
from litehrnet_cuda.models.conversion import convert_checkpoint
from litehrnet_cuda.models.key_layouts import convert_keys
from litehrnet_cuda.models.published import PUBLISHED
from litehrnet_cuda.models.registry import create_model

HAND = KeypointSet("hand", tuple(f"joint {i}" for i in range(21)), (), (0.05,) * 21)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("rename", "layout"), [(dict, "official"), (to_mmpose_1x, "mmpose 1.x"), (to_paddle, "PaddleDetection")]
)
def test_every_layout_and_variant(golden: Path, tmp_path: Path, variant: str, rename: Any, layout: str) -> None:
    weights = rename(state_of(golden, variant))
    if layout == "PaddleDetection":
        source = write_paddle(weights, tmp_path / "x.pdparams")
    else:
        source = tmp_path / "x.pth"
        torch.save({"state_dict": weights, "optimizer": {"step": 3}, "meta": {"epoch": 210}}, source)
    report = convert_checkpoint(source, tmp_path / "x.safetensors")
    expected = convert_keys(weights)
    assert_same(load_file(tmp_path / "x.safetensors"), expected)
    assert report.layout == layout
    assert report.metadata == CheckpointMetadata(variant, "pose", 17, COCO) == read_metadata(report.out)
    assert report.assumed
    assert report.tensors == len(expected)
    assert report.added == len(expected) - len(weights)
    beside = ("StructuredToParameterName@@",) if layout == "PaddleDetection" else ("optimizer", "meta")
    assert report.left_out == beside
    assert_same(create_model(checkpoint=report.out).state_dict(), expected)


def test_equal_checkpoints_give_equal_files(golden: Path, tmp_path: Path) -> None:
    weights = state_of(golden)
    torch.save(weights, tmp_path / "official.pth")
    save_file(to_mmpose_1x(weights), tmp_path / "mmpose.safetensors")
    reports = [
        convert_checkpoint(tmp_path / name, tmp_path / f"{i}.safetensors")
        for i, name in enumerate(("official.pth", "mmpose.safetensors"))
    ]
    assert reports[0].out_sha256 == reports[1].out_sha256
    assert reports[0].source_sha256 != reports[1].source_sha256


@pytest.mark.parametrize(("target", "rename"), [("official", dict), ("mmpose", to_mmpose_1x)])
def test_the_way_back(golden: Path, tmp_path: Path, target: Any, rename: Any) -> None:
    weights = state_of(golden)
    torch.save(weights, tmp_path / "x.pth")
    convert_checkpoint(tmp_path / "x.pth", tmp_path / "ours.safetensors")
    report = convert_checkpoint(tmp_path / "ours.safetensors", tmp_path / "theirs.pth", target=target)
    assert report.known_by == "its metadata"
    content = torch.load(tmp_path / "theirs.pth", weights_only=True)
    assert_same(content["state_dict"], rename(weights))
    assert list(content["state_dict"]) == list(rename(create_model("litehrnet_18").state_dict()))


def test_the_names_that_are_written_are_those_of_the_code_bases(shared: Path, tmp_path: Path) -> None:
    create_model("litehrnet_18").save_pretrained(tmp_path)
    for target, file in (("official", "official_lite_18_coco"), ("mmpose", "mmpose1x_lite_18_coco")):
        convert_checkpoint(tmp_path, tmp_path / f"{target}.pth", target=target)  # type: ignore[arg-type]
        written = torch.load(tmp_path / f"{target}.pth", weights_only=True)["state_dict"]
        shapes = {name: list(tensor.shape) for name, tensor in written.items()}
        assert shapes == json.loads((shared / "keys" / f"{file}.json").read_text())


def test_real_weights_in_the_format_of_paddle(shared: Path, tmp_path: Path) -> None:
    """PP-TinyPose: every name that PaddleDetection's own model lists, and the same heat maps."""
    real = load_file(shared / "weights" / "tinypose_256x192.safetensors")
    internal = {
        structured: name
        for name, structured in json.loads((shared / "keys" / "paddledetection_tinypose_names.json").read_text())
    }
    weights = to_paddle(convert_keys(real))
    assert set(weights) == set(internal)
    source = write_paddle(weights, tmp_path / "tinypose.pdparams", internal)
    report = convert_checkpoint(source, tmp_path / "tinypose.safetensors", input_size=(192, 256))
    assert report.metadata == CheckpointMetadata("wider_naive_litehrnet_18", "pose", 17, COCO, (192, 256))

    networks = [
        create_model("wider_naive_litehrnet_18", checkpoint=shared / "weights" / "tinypose_256x192.safetensors"),
        create_model("wider_naive_litehrnet_18", checkpoint=source),
        create_model(checkpoint=report.out),
    ]
    image = torch.randn(1, 3, 256, 192, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        heatmaps = [network.eval()(image) for network in networks]
    assert heatmaps[0].std() > 0
    assert torch.equal(heatmaps[0], heatmaps[1])
    assert torch.equal(heatmaps[0], heatmaps[2])


@pytest.mark.parametrize(("head", "with_head"), [("fcn", True), ("fcn", False), ("resize_concat", True)])
def test_segmentation(tmp_path: Path, head: Any, with_head: bool) -> None:
    network = create_model("litehrnet_18", "segmentation", head=head, with_head=with_head)
    # A second head, for training alone, as mmsegmentation may have one.
    weights = {**network.state_dict(), "auxiliary_head.conv_seg.weight": torch.zeros(19, 40, 1, 1)}
    torch.save({"state_dict": weights}, tmp_path / "x.pth")
    report = convert_checkpoint(tmp_path / "x.pth", tmp_path / "x.safetensors")
    assert report.metadata == CheckpointMetadata(
        "litehrnet_18", "segmentation", 19, class_set=CITYSCAPES, head=head, iterative_head=with_head
    )
    assert report.left_out == ("auxiliary_head.conv_seg.weight",)
    assert_same(create_model(checkpoint=report.out).state_dict(), network.state_dict())


def test_the_backbone_alone(golden: Path, tmp_path: Path) -> None:
    torch.save(state_of(golden), tmp_path / "x.pth")
    report = convert_checkpoint(tmp_path / "x.pth", tmp_path / "x.safetensors", task="backbone")
    assert report.metadata == CheckpointMetadata("litehrnet_18", "backbone", 0)
    assert report.left_out == ("keypoint_head.final_layer.weight", "keypoint_head.final_layer.bias")
    again = convert_checkpoint(report.out, tmp_path / "y.pth", target="official")
    assert again.metadata.task == "backbone"
    expected = {name: value for name, value in state_of(golden).items() if name.startswith("backbone.")}
    assert_same(read_checkpoint(again.out), expected)


def test_joints_and_input_size_of_ones_own(golden: Path, tmp_path: Path) -> None:
    torch.save(state_of(golden, joints=21), tmp_path / "x.pth")
    unknown = convert_checkpoint(tmp_path / "x.pth", tmp_path / "x.safetensors")
    assert (unknown.metadata.keypoint_set, unknown.assumed) == (None, False)
    named = convert_checkpoint(unknown.out, unknown.out, keypoint_set=HAND, input_size=(128, 128))
    assert (
        named.metadata == CheckpointMetadata("litehrnet_18", "pose", 21, HAND, (128, 128)) == read_metadata(named.out)
    )
    assert not named.assumed


def test_a_published_file_is_known_by_its_checksum(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(state_of(golden, joints=16), tmp_path / "renamed.pth")
    for module in (identification, checkpoints):
        monkeypatch.setattr(module, "sha256_of", lambda path: "cabd7984" + 56 * "0")
    report = convert_checkpoint(tmp_path / "renamed.pth", tmp_path / "x.safetensors")
    assert report.known_by == "its checksum, that of litehrnet_18_mpii_256x256"
    assert report.metadata == CheckpointMetadata("litehrnet_18", "pose", 16, MPII, (256, 256))
    assert "litehrnet_18_mpii_256x256" in PUBLISHED


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"variant": "litehrnet_30"}, "variant: expected litehrnet_18, which the checkpoint is of, got litehrnet_30"),
        ({"task": "segmentation"}, "task: expected pose, which the checkpoint is for, or backbone, got segmentation"),
        ({"keypoint_set": MPII}, r"keypoint_set: expected 17 as the network has outputs, got 16 \(mpii\)"),
        ({"class_set": PERSON}, "class_set: expected none for a network whose task is pose, got person"),
        ({"keypoint_set": COCO, "task": "backbone"}, "expected none for a network whose task is backbone"),
        ({"target": "mmpose"}, r"out: expected a name that ends in \.pth for mmpose, got x\.safetensors"),
        ({"target": "tf"}, "target: expected one of litehrnet_cuda, official, mmpose, got 'tf'"),
    ],
)
def test_what_does_not_agree_is_said(golden: Path, tmp_path: Path, options: dict[str, Any], words: str) -> None:
    torch.save(state_of(golden), tmp_path / "x.pth")
    with pytest.raises(InputError, match=words):
        convert_checkpoint(tmp_path / "x.pth", tmp_path / "x.safetensors", **options)
    assert os.listdir(tmp_path) == ["x.pth"]


def test_weights_that_do_not_fit_are_said(golden: Path, tmp_path: Path) -> None:
    torch.save({**state_of(golden), "backbone.extra.weight": torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(InputError, match=r"x\.pth.*\n.*1 in the checkpoint, not in the model"):
        convert_checkpoint(tmp_path / "x.pth", tmp_path / "x.safetensors")
    torch.save({"layer.weight": torch.zeros(1)}, tmp_path / "y.pth")
    with pytest.raises(InputError, match=r"y\.pth: expected the names of a Lite-HRNet"):
        convert_checkpoint(tmp_path / "y.pth", tmp_path / "x.safetensors")
    assert sorted(os.listdir(tmp_path)) == ["x.pth", "y.pth"]


def test_a_file_that_is_something_else_is_not_kept(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(state_of(golden), tmp_path / "x.pth")
    content = conversion.to_safetensors

    def mistaken(state: dict[str, torch.Tensor], metadata: CheckpointMetadata) -> bytes:
        name = "backbone.stage1.2.layers.1.depthwise_convs.1.conv.weight"
        return content({**state, name: state[name] * 1.001}, metadata)

    monkeypatch.setattr(conversion, "to_safetensors", mistaken)
    with pytest.raises(InputError, match="expected a network that computes the same"):
        convert_checkpoint(tmp_path / "x.pth", tmp_path / "x.safetensors")
    assert os.listdir(tmp_path) == ["x.pth"]


def test_a_network_that_computes_something_else_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(create_model("naive_litehrnet_18").state_dict(), tmp_path / "x.pth")
    networks = []

    def create(metadata: CheckpointMetadata) -> torch.nn.Module:
        network = create_model(metadata.variant, num_outputs=metadata.num_outputs)
        if networks:  # the one that reads what was written
            network.register_forward_hook(lambda module, inputs, output: output * 1.000001)
        networks.append(network)
        return network

    monkeypatch.setattr(conversion, "_network", create)
    with pytest.raises(InputError, match="expected a network that computes the same"):
        convert_checkpoint(tmp_path / "x.pth", tmp_path / "x.safetensors")
    assert len(networks) == 2


def test_code_in_a_file_of_paddle_is_never_run(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'marker'}",)

    (tmp_path / "x.pdparams").write_bytes(pickle.dumps({"backbone.stem.conv1.conv.weight": Hostile()}, protocol=4))
    with pytest.raises(InputError, match=r"x\.pdparams: .*asks to run \w+\.system when it is opened; nothing was run"):
        convert_checkpoint(tmp_path / "x.pdparams", tmp_path / "x.safetensors")
    assert os.listdir(tmp_path) == ["x.pdparams"]
    pickle.loads((tmp_path / "x.pdparams").read_bytes())  # the file is what it is meant to be
    assert (tmp_path / "marker").exists()
