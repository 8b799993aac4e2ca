"""Loading checkpoints into networks, saving them, and finding them by name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from sample_checkpoints import VARIANTS, assert_same, copy_of, state_of, to_mmpose_1x, to_paddle
from torch import nn

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import COCO
from litehrnet_cuda.models.checkpoints import (
    CheckpointMetadata,
    convert_keys,
    detect_variant,
    load_checkpoint,
    read_checkpoint,
    read_metadata,
    resolve_checkpoint,
    save_checkpoint,
)
from litehrnet_cuda.models.registry import create_model

# ------------------------------------------------------------------------------------------------------ loading


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("rename", "layout"), [(dict, "official"), (to_mmpose_1x, "mmpose 1.x")])
def test_loads_every_variant(golden: Path, tmp_path: Path, variant: str, rename: Any, layout: str) -> None:
    state = state_of(golden, variant)
    torch.save({"state_dict": rename(state)}, tmp_path / "weights.pth")
    model = create_model(variant)
    report = load_checkpoint(model, tmp_path / "weights.pth")
    assert_same(model.state_dict(), state)
    assert (report.loaded, report.layout, report.kept, report.left_out) == (len(state), layout, (), ())
    assert f"{len(state)} tensors loaded ({layout} layout)" in str(report)


def test_loads_paddle(golden: Path, tmp_path: Path) -> None:
    state = state_of(golden)
    save_file(to_paddle(state), tmp_path / "weights.safetensors")
    model = create_model("litehrnet_18")
    assert load_checkpoint(model, tmp_path / "weights.safetensors").layout == "PaddleDetection"
    assert_same(model.state_dict(), convert_keys(to_paddle(state)))


@pytest.mark.parametrize("with_head", [True, False])
def test_backbone_takes_its_part_of_a_whole_network(golden: Path, tmp_path: Path, with_head: bool) -> None:
    state = state_of(golden)
    torch.save(state, tmp_path / "weights.pth")
    model = create_model("litehrnet_18", "backbone", with_head=with_head)
    report = load_checkpoint(model, tmp_path / "weights.pth")
    dropped = ("keypoint_head.",) if with_head else ("keypoint_head.", "backbone.head_layer.")
    kept = {k.removeprefix("backbone."): v for k, v in state.items() if not k.startswith(dropped)}
    assert_same(model.state_dict(), kept)
    assert set(report.left_out) == {k for k in state if k.startswith(dropped)}


def test_backbone_checkpoint_does_not_hide_that_the_head_is_missing(golden: Path, tmp_path: Path) -> None:
    state = {k.removeprefix("backbone."): v for k, v in state_of(golden).items() if k.startswith("backbone.")}
    torch.save(state, tmp_path / "backbone.pth")
    model = create_model("litehrnet_18")
    before = copy_of(model)
    with pytest.raises(InputError, match=r"2 missing .*keypoint_head: 2.*\n.*strict=False keeps the head"):
        load_checkpoint(model, tmp_path / "backbone.pth")
    assert_same(model.state_dict(), before)
    report = load_checkpoint(model, tmp_path / "backbone.pth", strict=False)
    assert set(report.kept) == {"keypoint_head.final_layer.weight", "keypoint_head.final_layer.bias"}
    assert_same(model.backbone.state_dict(), state)


def test_other_number_of_joints(golden: Path, tmp_path: Path) -> None:
    state = state_of(golden, joints=16)
    torch.save(state, tmp_path / "mpii.pth")
    model = create_model("litehrnet_18")
    before = copy_of(model)
    with pytest.raises(InputError) as caught:
        load_checkpoint(model, tmp_path / "mpii.pth")
    message = str(caught.value)
    assert "keypoint_head.final_layer.weight [16, 40, 1, 1] instead of [17, 40, 1, 1]" in message
    assert 'the head has 16 outputs, the model\'s 17: use create_model("litehrnet_18", num_outputs=16)' in message
    assert_same(model.state_dict(), before)

    report = load_checkpoint(model, tmp_path / "mpii.pth", strict=False)
    head = {k: v for k, v in before.items() if k.startswith("keypoint_head.")}
    assert set(report.kept) == set(head)
    assert_same(model.state_dict(), {**state, **head})
    assert "2 of the model kept their values (keypoint_head: 2)" in str(report)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("other", ["litehrnet_30", "naive_litehrnet_18", "wider_naive_litehrnet_18"])
def test_other_variant(golden: Path, tmp_path: Path, other: str, strict: bool) -> None:
    torch.save(state_of(golden, other), tmp_path / "other.pth")
    model = create_model("litehrnet_18")
    before = copy_of(model)
    with pytest.raises(InputError) as caught:
        load_checkpoint(model, tmp_path / "other.pth", strict=strict)
    message = str(caught.value)
    expected = f'the checkpoint is of {other}, the model is litehrnet_18: use create_model("{other}", num_outputs=17)'
    assert f"{expected}, or --model {other} on the command line" in message
    # A screenful: 24 lines of 80 columns.
    assert len(message) <= 24 * 80
    assert_same(model.state_dict(), before)


def test_counts_of_a_difference_are_exact(golden: Path, tmp_path: Path) -> None:
    state = state_of(golden)
    for index in range(2):
        del state[f"backbone.stage0.{index}.layers.0.depthwise_convs.0.conv.weight"]
    state["backbone.extra.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(InputError) as caught:
        load_checkpoint(create_model("litehrnet_18"), tmp_path / "x.pth")
    assert "2 missing from the checkpoint (backbone.stage0: 2)" in str(caught.value)
    assert "1 in the checkpoint, not in the model (backbone.extra: 1): backbone.extra.weight" in str(caught.value)


@pytest.mark.parametrize("has_it", ["the model", "the checkpoint"])
def test_the_iterative_head_may_be_in_one_alone(tmp_path: Path, has_it: str) -> None:
    mine, other = (create_model("litehrnet_18", "segmentation", with_head=with_head) for with_head in (True, False))
    model, source = (mine, other) if has_it == "the model" else (other, mine)
    torch.save(source.state_dict(), tmp_path / "source.pth")
    before = copy_of(model)
    report = load_checkpoint(model, tmp_path / "source.pth", strict=False)
    different = report.kept if has_it == "the model" else report.left_out
    assert {name for name in different if name.startswith("backbone.")} == {
        name for name in mine.state_dict() if name.startswith("backbone.head_layer.")
    }
    assert_same({k: v for k, v in model.state_dict().items() if k in report.kept}, {k: before[k] for k in report.kept})


def test_segmentation_takes_the_backbone_of_poses(golden: Path, tmp_path: Path) -> None:
    state = state_of(golden)
    torch.save(state, tmp_path / "pose.pth")
    model = create_model("litehrnet_18", "segmentation")
    with pytest.raises(InputError, match="is of no network for segmentation: strict=False keeps the head of the model"):
        load_checkpoint(model, tmp_path / "pose.pth")
    before = copy_of(model.decode_head)
    report = load_checkpoint(model, tmp_path / "pose.pth", strict=False)
    assert set(report.kept) == {f"decode_head.{name}" for name in before}
    assert set(report.left_out) == {"keypoint_head.final_layer.weight", "keypoint_head.final_layer.bias"}
    assert_same(model.decode_head.state_dict(), before)
    backbone = {name.removeprefix("backbone."): v for name, v in state.items() if name.startswith("backbone.")}
    assert_same(model.backbone.state_dict(), backbone)


@pytest.mark.parametrize(
    "options",
    [{"num_outputs": 2}, {"head": "resize_concat"}, {"with_head": False}, {"task": "pose"}, {"name": "litehrnet_30"}],
    ids=str,
)
def test_another_kind_of_segmentation(tmp_path: Path, options: dict[str, Any]) -> None:
    torch.save(create_model("litehrnet_18", "segmentation").state_dict(), tmp_path / "x.pth")
    model = create_model(**{"name": "litehrnet_18", "task": "segmentation", **options})
    before = copy_of(model)
    with pytest.raises(InputError) as caught:
        load_checkpoint(model, tmp_path / "x.pth")
    call = 'create_model("litehrnet_18", "segmentation", num_outputs=19, head="fcn", with_head=True)'
    assert f"the checkpoint is of litehrnet_18 for segmentation: use {call}" in str(caught.value)
    assert len(str(caught.value)) <= 24 * 80
    assert_same(model.state_dict(), before)
    load_checkpoint(eval(call, {"create_model": create_model}), tmp_path / "x.pth")


def test_another_network(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "linear.pth")
    with pytest.raises(InputError, match="expected the names of a Lite-HRNet"):
        load_checkpoint(create_model("litehrnet_18"), tmp_path / "linear.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite(golden: Path, tmp_path: Path, value: float) -> None:
    state = state_of(golden)
    state["backbone.stem.conv1.bn.running_var"][3] = value
    torch.save(state, tmp_path / "x.pth")
    model = create_model("litehrnet_18")
    before = copy_of(model)
    with pytest.raises(InputError, match=r"in 1 of \d+ tensors: backbone\.stem\.conv1\.bn\.running_var"):
        load_checkpoint(model, tmp_path / "x.pth")
    assert_same(model.state_dict(), before)


@pytest.mark.parametrize(("stored", "wanted"), [("float16", "float32"), ("float32", "float16"), ("float64", "float32")])
def test_values_are_converted_to_the_dtype_of_the_model(golden: Path, tmp_path: Path, stored: str, wanted: str) -> None:
    stored_as, wanted_as = getattr(torch, stored), getattr(torch, wanted)
    state = {k: v.to(stored_as) if v.is_floating_point() else v for k, v in state_of(golden).items()}
    torch.save(state, tmp_path / "x.pth")
    model = create_model("litehrnet_18").to(wanted_as)
    load_checkpoint(model, tmp_path / "x.pth")
    assert_same(model.state_dict(), {k: v.to(wanted_as) if v.is_floating_point() else v for k, v in state.items()})


def test_values_too_large_for_the_dtype_of_the_model(golden: Path, tmp_path: Path) -> None:
    state = state_of(golden)
    state["backbone.stem.conv1.conv.weight"][0] = 1e6  # float16 ends at 65504
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(InputError, match=r"torch\.float16.*backbone\.stem\.conv1\.conv\.weight"):
        load_checkpoint(create_model("litehrnet_18").half(), tmp_path / "x.pth")


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # from importing torch.compile
def test_wrapped_models(golden: Path, tmp_path: Path) -> None:
    state = state_of(golden)
    torch.save(state, tmp_path / "x.pth")
    model = create_model("litehrnet_18")
    load_checkpoint(nn.DataParallel(model), tmp_path / "x.pth")
    assert_same(model.state_dict(), state)
    zeroed = create_model("litehrnet_18")
    load_checkpoint(torch.compile(zeroed), tmp_path / "x.pth")  # compiles nothing before the first call
    assert_same(zeroed.state_dict(), state)


def test_real_weights(shared: Path) -> None:
    """PP-TinyPose: a backbone in the official layout under the head of mmpose 1.x."""
    path = shared / "weights" / "tinypose_256x192.safetensors"
    assert detect_variant(read_checkpoint(path)) == ("wider_naive_litehrnet_18", 17)
    assert read_metadata(path) is None
    model = create_model("wider_naive_litehrnet_18")
    report = load_checkpoint(model, path)
    assert (report.layout, report.loaded) == ("mmpose 1.x", len(model.state_dict()))
    assert_same(model.state_dict(), convert_keys(load_file(path)))


# ------------------------------------------------------------------------------------------------------- saving


METADATA = CheckpointMetadata("litehrnet_18", "pose", 17, COCO, (192, 256))


def test_save_and_load_again(golden: Path, tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "model.safetensors"
    state = state_of(golden)
    model = create_model("litehrnet_18")
    model.load_state_dict(state)
    assert save_checkpoint(nn.DataParallel(model), path, METADATA) == path
    assert_same(read_checkpoint(path), state)
    assert read_metadata(path) == METADATA
    assert os.listdir(path.parent) == ["model.safetensors"]
    other = create_model("litehrnet_18")
    load_checkpoint(other, path)
    assert_same(other.state_dict(), state)


def test_a_folder_stands_for_the_weights_in_it(golden: Path, tmp_path: Path) -> None:
    model = create_model("litehrnet_18")
    save_checkpoint(model, tmp_path / "model.safetensors", METADATA)  # as a training run leaves it
    assert resolve_checkpoint(tmp_path) == tmp_path / "model.safetensors"
    assert read_metadata(tmp_path) == METADATA
    other = create_model("litehrnet_18")
    load_checkpoint(other, tmp_path)
    assert_same(other.state_dict(), model.state_dict())


def test_metadata_of_published_checkpoints_needs_no_download(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LITEHRNET_CUDA_CACHE", str(tmp_path / "never"))
    assert read_metadata("litehrnet_18_coco_256x192") == METADATA
    assert not (tmp_path / "never").exists()


# -------------------------------------------------------------------------------------------------------- names


def test_what_only_training_needs_is_left_out(tmp_path: Path) -> None:
    network = create_model("naive_litehrnet_18", "segmentation", num_outputs=3)
    second = {"auxiliary_head.conv_seg.weight": torch.zeros(3, 40, 1, 1)}
    torch.save({"state_dict": {**network.state_dict(), **second}}, tmp_path / "x.pth")
    again = create_model(checkpoint=tmp_path / "x.pth")
    assert_same(again.state_dict(), network.state_dict())
    assert load_checkpoint(again, tmp_path / "x.pth").left_out == tuple(second)


def test_a_name_that_no_file_can_have() -> None:
    for call in (create_model, lambda checkpoint: load_checkpoint(nn.Linear(1, 1), checkpoint)):
        with pytest.raises(InputError, match="expected a checkpoint: File name too long"):
            call(checkpoint="a" * 300)


def test_misspelt_names_and_paths(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"did you mean litehrnet_18_coco_256x192"):
        resolve_checkpoint("litehrnet_18_coco_256x129")
    (tmp_path / "epoch_210.pth").touch()
    with pytest.raises(InputError, match=r"did you mean .*epoch_210\.pth\?"):
        resolve_checkpoint(tmp_path / "epoch_201.pth")
    with pytest.raises(InputError, match=r"got 'zzz', which is neither$"):
        resolve_checkpoint("zzz")


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda model: torch.compile(model, backend="eager")])
def test_metadata_are_those_of_the_network_in_a_wrapper(wrap: Any, tmp_path: Path) -> None:
    metadata = CheckpointMetadata("litehrnet_18", "pose", 17, input_size=(64, 96), decoder="dark")
    save_checkpoint(create_model("litehrnet_18"), tmp_path / "a.safetensors", metadata)
    torch.save(create_model("litehrnet_18").state_dict(), tmp_path / "b.pth")
    model = create_model("litehrnet_18")
    load_checkpoint(wrap(model), tmp_path / "a.safetensors")
    assert model.metadata is not None
    assert (model.metadata.input_size, model.metadata.decoder) == ((64, 96), "dark")
    load_checkpoint(wrap(model), tmp_path / "b.pth")
    assert model.metadata is None


def test_a_network_stays_as_it_is_where_metadata_cannot_be_used(tmp_path: Path) -> None:
    file, model = tmp_path / "a.safetensors", create_model("litehrnet_18")
    before = copy_of(model)
    weights = {name: value.contiguous() for name, value in create_model("litehrnet_18").state_dict().items()}
    save_file(weights, file, {"litehrnet_cuda": "[]"})
    with pytest.raises(InputError, match="expected metadata as litehrnet_cuda writes it"):
        load_checkpoint(model, file)
    assert_same(model.state_dict(), before)
