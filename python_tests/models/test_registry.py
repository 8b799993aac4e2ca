"""Networks by name: every option does what it says, and what is wrong is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from sample_checkpoints import assert_same, state_of

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import MPII
from litehrnet_cuda.models.checkpoint_files import CheckpointMetadata, write_safetensors
from litehrnet_cuda.models.litehrnet import VARIANTS, LiteHRNet, PoseNetwork, Variant
from litehrnet_cuda.models.registry import create_model, get_variant, list_models
from litehrnet_cuda.models.segmentation import SegmentationNetwork

# The fewest modules and channels that still make a whole network; also one that no name stands for.
TINY = Variant("tiny", (1, 1, 1), (8, 8, 16, 16), num_blocks=1, reduce_ratio=2, stem_channels=8)


def test_names() -> None:
    assert list_models() == ["litehrnet_18", "litehrnet_30", "naive_litehrnet_18", "wider_naive_litehrnet_18"]
    for name in list_models():
        assert get_variant(name) is VARIANTS[name]
        assert get_variant(name).name == name


def test_the_list_of_names_is_the_callers_own() -> None:
    list_models().clear()
    assert len(list_models()) == 4


@pytest.mark.parametrize("name", list_models())
def test_every_variant_makes_heat_maps(name: str) -> None:
    model = create_model(name)
    assert isinstance(model, PoseNetwork)
    assert model.variant is VARIANTS[name]
    assert model.training
    with torch.no_grad():
        assert model.eval()(torch.randn(1, 3, 64, 48)).shape == (1, 17, 16, 12)


@pytest.mark.parametrize(
    ("name", "near"),
    [("litehrnet-18", "litehrnet_18"), ("lite_hrnet_30", "litehrnet_30"), ("naive_litehrnet", "naive_litehrnet_18")],
)
def test_a_close_match_is_suggested(name: str, near: str) -> None:
    with pytest.raises(InputError, match=rf"^unknown model '{name}', expected one of .*; did you mean '{near}'\?$"):
        create_model(name)


def test_a_name_like_none_gets_the_list_alone() -> None:
    with pytest.raises(InputError, match=r"unknown model 'xyz', expected one of litehrnet_18, .*wider_naive\w+$"):
        get_variant("xyz")


def test_unknown_task() -> None:
    with pytest.raises(InputError, match="unknown task 'depth', expected 'pose', 'segmentation' or 'backbone'"):
        create_model(TINY, "depth")  # type: ignore[call-overload]


@pytest.mark.parametrize("num_outputs", [1, 16])
def test_number_of_joints(num_outputs: int) -> None:
    model = create_model(TINY, num_outputs=num_outputs).eval()
    assert model.num_outputs == num_outputs
    with torch.no_grad():
        assert model(torch.randn(1, 3, 32, 32)).shape == (1, num_outputs, 8, 8)


def test_no_joints_are_refused() -> None:
    with pytest.raises(InputError, match="expected num_outputs of at least 1, got 0"):
        create_model(TINY, num_outputs=0)


@pytest.mark.parametrize("with_head", [True, False])
@pytest.mark.parametrize("branches", ["all", "top"])
def test_backbones_return_what_is_asked_for(branches: Any, with_head: bool) -> None:
    model = create_model(TINY, "backbone", branches=branches, with_head=with_head).eval()
    assert isinstance(model, LiteHRNet)
    with torch.no_grad():
        out = model(torch.randn(1, 3, 64, 64))
    channels = [8, 8, 8, 16] if with_head else [8, 8, 16, 16]
    assert model.out_channels == channels
    shapes = [(1, c, 16 >> i, 16 >> i) for i, c in enumerate(channels)]
    if branches == "all":
        assert [tuple(y.shape) for y in out] == shapes
    else:
        assert tuple(out.shape) == shapes[0]


def test_a_backbone_returns_all_branches_by_default() -> None:
    assert create_model(TINY, "backbone").branches == "all"


def test_unknown_branches() -> None:
    with pytest.raises(ValueError, match="expected branches 'top' or 'all', got 'bottom'"):
        create_model(TINY, "backbone", branches="bottom")  # type: ignore[call-overload]


def test_a_backbone_for_images_of_other_channels() -> None:
    model = create_model(TINY, "backbone", branches="top", in_channels=1).eval()
    with torch.no_grad():
        assert model(torch.randn(1, 1, 32, 32)).shape == (1, 8, 8, 8)


def test_a_variant_of_ones_own_is_built_as_described() -> None:
    model = create_model(TINY, num_outputs=4)
    assert model.variant is TINY
    names = set(model.state_dict())
    assert not any(".stage0.1." in name for name in names)
    assert any(".stage2.0." in name for name in names)
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_gradient_checkpointing_reaches_the_blocks() -> None:
    torch.manual_seed(0)
    plain, recomputing = create_model(TINY), create_model(TINY, with_cp=True)
    recomputing.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 32, 32)

    def saved(model: PoseNetwork) -> int:
        total = 0

        def count(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal total
            total += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            model(x)
        return total

    assert saved(recomputing) < 0.7 * saved(plain)


# ------------------------------------------------------------------------------------------------- checkpoints


def test_a_checkpoint_by_file(golden: Path, tmp_path: Path) -> None:
    state = state_of(golden, joints=16)
    torch.save({"state_dict": state}, tmp_path / "weights.pth")
    for path in (tmp_path / "weights.pth", str(tmp_path / "weights.pth")):
        model = create_model("litehrnet_18", num_outputs=16, checkpoint=path)
        assert_same(model.state_dict(), state)
        assert model.training


def test_a_checkpoint_of_other_joints_is_refused(golden: Path, tmp_path: Path) -> None:
    torch.save(state_of(golden, joints=16), tmp_path / "weights.pth")
    with pytest.raises(InputError, match=r"use create_model\(\"litehrnet_18\", num_outputs=16\)"):
        create_model("litehrnet_18", checkpoint=tmp_path / "weights.pth")


def test_a_checkpoint_that_is_not_there() -> None:
    with pytest.raises(InputError, match=r"got 'absent\.pth', which is neither"):
        create_model(TINY, checkpoint="absent.pth")


def test_a_backbone_from_the_checkpoint_of_a_whole_network(golden: Path, tmp_path: Path) -> None:
    state = state_of(golden)
    torch.save(state, tmp_path / "weights.pth")
    model = create_model("litehrnet_18", "backbone", checkpoint=tmp_path / "weights.pth")
    expected = {k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.")}
    assert_same(model.state_dict(), expected)
    headless = create_model("litehrnet_18", "backbone", with_head=False, checkpoint=tmp_path / "weights.pth")
    assert_same(headless.state_dict(), {k: v for k, v in expected.items() if not k.startswith("head_layer.")})


def test_the_initialisation_follows_the_seed() -> None:
    def weights(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        return create_model(TINY).state_dict()

    first, other = weights(3), weights(4)
    assert_same(weights(3), first)
    assert all(not torch.equal(other[name], value) for name, value in first.items() if value.dim() == 4)


# ---------------------------------------------------------------------------------------------- without a name


def test_a_checkpoint_says_what_it_is_of(golden: Path, tmp_path: Path) -> None:
    state = state_of(golden, "naive_litehrnet_18", joints=16)
    torch.save(state, tmp_path / "shown.pth")  # by names and shapes
    metadata = CheckpointMetadata("naive_litehrnet_18", "pose", 16, MPII, (64, 64))
    said = write_safetensors(state, tmp_path / "said.safetensors", metadata)
    for checkpoint in (tmp_path / "shown.pth", said, str(said)):
        model = create_model(checkpoint=checkpoint)
        assert isinstance(model, PoseNetwork)
        assert_same(model.state_dict(), state)
        assert model.metadata is not None
        assert model.metadata.num_outputs == 16
    assert model.metadata == metadata


@pytest.mark.parametrize("head", ["fcn", "resize_concat"])
@pytest.mark.parametrize("with_head", [True, False])
def test_a_segmentation_says_what_it_is(tmp_path: Path, head: Any, with_head: bool) -> None:
    expected = create_model("naive_litehrnet_18", "segmentation", num_outputs=3, head=head, with_head=with_head)
    torch.save(expected.state_dict(), tmp_path / "x.pth")
    model = create_model(checkpoint=tmp_path / "x.pth")
    assert isinstance(model, SegmentationNetwork)
    assert (model.head, model.num_outputs, model.backbone.with_head) == (head, 3, with_head)
    assert_same(model.state_dict(), expected.state_dict())


@pytest.mark.parametrize("with_head", [True, False])
def test_a_backbone_says_what_it_is(tmp_path: Path, with_head: bool) -> None:
    expected = create_model("naive_litehrnet_18", "backbone", with_head=with_head)
    torch.save(expected.state_dict(), tmp_path / "x.pth")
    model = create_model(checkpoint=tmp_path / "x.pth", branches="top")
    assert isinstance(model, LiteHRNet)
    assert (model.branches, model.with_head) == ("top", with_head)
    if not with_head:
        with pytest.raises(InputError, match=r"with_head: expected False, which .*x\.pth is of, got True"):
            create_model(task="backbone", checkpoint=tmp_path / "x.pth", with_head=True)


def test_the_backbone_of_what_a_checkpoint_is_of(golden: Path, tmp_path: Path) -> None:
    torch.save(state_of(golden), tmp_path / "x.pth")
    model = create_model(task="backbone", checkpoint=tmp_path / "x.pth", with_head=False)
    assert isinstance(model, LiteHRNet)
    assert model.metadata is None  # which was of poses


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"task": "segmentation"}, r"task: expected 'pose', which .*x\.pth is of, got 'segmentation'; leave it out"),
        ({"num_outputs": 16}, r"num_outputs: expected 17, .* got 16; leave it out, or .*strict=False"),
        ({"head": "fcn"}, "head: expected None"),
        ({"task": "depth"}, "task: expected 'pose'"),
    ],
)
def test_what_is_passed_must_agree_with_the_checkpoint(
    golden: Path, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    torch.save(state_of(golden), tmp_path / "x.pth")
    with pytest.raises(InputError, match=words):
        create_model(checkpoint=tmp_path / "x.pth", **options)
    same = create_model(checkpoint=tmp_path / "x.pth", task="pose", num_outputs=17, dtype=torch.float64)
    assert next(same.parameters()).dtype == torch.float64


def test_a_name_beside_a_checkpoint_of_another_task(tmp_path: Path) -> None:
    torch.save(create_model("naive_litehrnet_18", "segmentation").state_dict(), tmp_path / "x.pth")
    with pytest.raises(InputError, match=r"decode_head"):
        create_model("naive_litehrnet_18", checkpoint=tmp_path / "x.pth")


def test_neither_a_name_nor_a_checkpoint() -> None:
    with pytest.raises(InputError, match=r"expected one of litehrnet_18, .*, or a checkpoint, .* got neither"):
        create_model()  # type: ignore[call-overload]


# ------------------------------------------------------------------------------------------------- device and dtype


@pytest.mark.parametrize("task", ["pose", "backbone"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, None])
def test_dtype(task: Any, dtype: torch.dtype | None) -> None:
    model = create_model(TINY, task, dtype=dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype or torch.float32}
    counters = {v.dtype for k, v in model.named_buffers() if k.endswith("num_batches_tracked")}
    assert counters == {torch.int64}


@pytest.mark.parametrize("device", ["meta", torch.device("meta"), "cpu", None])
def test_device(device: Any) -> None:
    model = create_model(TINY, device=device)
    places = {tensor.device.type for tensor in (*model.parameters(), *model.buffers())}
    assert places == {"meta" if device and "meta" in str(device) else "cpu"}


@pytest.mark.parametrize("dtype", ["float16", torch.int8])
def test_unusable_dtypes_are_said(dtype: Any) -> None:
    with pytest.raises(InputError, match=f"dtype: expected a floating-point type such as torch.float16, got {dtype!r}"):
        create_model(TINY, dtype=dtype)


@pytest.mark.parametrize("device", ["gpu", "", -1, ["cpu"]])
def test_unusable_devices_are_said(device: Any) -> None:
    with pytest.raises(InputError, match=r"device: expected one that can be used here, such as 'cpu', .* got ") as said:
        create_model(TINY, device=device)
    assert str(said.value).endswith(repr(device))


def test_device_and_dtype_together_with_a_checkpoint(golden: Path, tmp_path: Path) -> None:
    state = state_of(golden)
    torch.save(state, tmp_path / "weights.pth")
    model = create_model("litehrnet_18", checkpoint=tmp_path / "weights.pth", device="cpu", dtype=torch.float64)
    assert_same(model.state_dict(), {k: v.double() if v.is_floating_point() else v for k, v in state.items()})
