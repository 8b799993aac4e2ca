"""Reading, translating, loading and saving checkpoints."""

from __future__ import annotations

import json
import os
import pickle
import sys
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import COCO, KeypointSet
from litehrnet_cuda.models import checkpoint_files
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

VARIANTS = {
    "litehrnet_18": "lite_18",
    "litehrnet_30": "lite_30",
    "naive_litehrnet_18": "naive_18",
    "wider_naive_litehrnet_18": "wider_naive_18",
}
LEGACY = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def state_of(golden: Path, variant: str = "litehrnet_18", joints: int = 17) -> dict[str, Tensor]:
    """Random weights under the official names."""
    shapes = json.loads((golden / "keys" / f"{VARIANTS[variant]}.json").read_text())
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in shapes.items():
        if name.startswith("keypoint_head."):
            shape = [joints, *shape[1:]]
        counter = name.endswith("num_batches_tracked")
        state[name] = torch.tensor(7) if counter else torch.rand(shape, generator=generator)
    return state


def assert_same(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert set(actual) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, rtol=0, atol=0, msg=lambda text, name=name: f"{name}: {text}")


def copy_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


# ------------------------------------------------------------------------------------------------------ layouts


def to_mmpose_1x(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.replace("keypoint_head.", "head."): value for name, value in state.items()}


def to_paddle(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names as PaddleDetection gives them; checked against its own list in ``test_paddle_names``."""
    renamed = {}
    for name, value in state.items():
        if name.endswith("num_batches_tracked"):
            continue
        name = name.replace("keypoint_head.final_layer", "final_conv").replace(".bn.", ".norm.")
        renamed[name.replace("running_mean", "_mean").replace("running_var", "_variance")] = value
    return renamed


def test_paddle_names(golden: Path) -> None:
    names = json.loads((golden / "keys" / "paddledetection_wider_naive_18.json").read_text())
    assert set(to_paddle(state_of(golden, "wider_naive_litehrnet_18"))) == set(names)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("prefix", "rename"),
    [("", dict), ("", to_mmpose_1x), ("module.", dict), ("_orig_mod.module.", to_mmpose_1x), ("model.", dict)],
)
def test_every_layout_becomes_the_official_one(golden: Path, variant: str, prefix: str, rename: Any) -> None:
    state = state_of(golden, variant)
    assert_same(convert_keys({prefix + name: value for name, value in rename(state).items()}), state)


@pytest.mark.parametrize("variant", VARIANTS)
def test_paddle_becomes_official_with_counters_of_zero(golden: Path, variant: str) -> None:
    state = state_of(golden, variant)
    zeroed = {k: torch.tensor(0) if k.endswith("num_batches_tracked") else v for k, v in state.items()}
    assert_same(convert_keys(to_paddle(state)), zeroed)


def test_backbone_on_its_own_gets_its_prefix(golden: Path) -> None:
    state = {k: v for k, v in state_of(golden).items() if k.startswith("backbone.")}
    assert_same(convert_keys({k.removeprefix("backbone."): v for k, v in state.items()}), state)


def test_convert_keys_refuses_two_tensors_for_one_name_and_unknown_tasks() -> None:
    head = torch.zeros(17, 40, 1, 1)
    with pytest.raises(InputError, match=r"two: head\.final_layer\.weight and keypoint_head\.final_layer\.weight"):
        convert_keys({"head.final_layer.weight": head, "keypoint_head.final_layer.weight": head})
    with pytest.raises(InputError, match=r"expected one of pose, segmentation, got 'poses'"):
        convert_keys({"x": head}, task="poses")
    assert list(convert_keys({"head.final_layer.weight": head}, "segmentation")) == ["head.final_layer.weight"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_detect_variant(golden: Path, variant: str) -> None:
    state = state_of(golden, variant, joints=16)
    assert detect_variant(state) == (variant, 16)
    assert detect_variant(to_paddle(state)) == (variant, 16)
    backbone = {k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.")}
    assert detect_variant(backbone) == (variant, None)


def test_detect_variant_names_what_it_found(golden: Path) -> None:
    with pytest.raises(InputError, match=r"expected the names of a Lite-HRNet.*got layer1\.weight"):
        detect_variant({"layer1.weight": torch.zeros(1)})
    shorter = {k: v for k, v in state_of(golden).items() if not k.startswith("backbone.stage1.3.")}
    with pytest.raises(InputError, match=r"type LITE with \(2, 3, 2\) modules .* 40 channels"):
        detect_variant(shorter)


# ------------------------------------------------------------------------------------------------------ reading


WEIGHTS = {"backbone.stem.conv1.conv.weight": torch.arange(6.0).reshape(2, 3)}


@LEGACY
@pytest.mark.parametrize(
    "wrap",
    [
        lambda w: w,
        lambda w: {"state_dict": w, "optimizer": {"state": {0: {"step": 3}}}, "meta": {"epoch": 210, "config": "..."}},
        lambda w: {"model": {f"module.{k}": v for k, v in w.items()}, "epoch": 3},
        lambda w: {"model": {"state_dict": w}},
        lambda w: {"ema": {"n_averaged": torch.tensor(5), **{f"module.{k}": v for k, v in w.items()}}},
        lambda w: {"state_dict": w, "ema_state_dict": {k: v + 1 for k, v in w.items()}},
        lambda w: {"state_dict": {**w, "data_preprocessor.mean": torch.zeros(3, 1, 1)}},
        lambda w: {k: nn.Parameter(v) for k, v in w.items()},
        lambda w: OrderedDict((f"_orig_mod.{k}", v) for k, v in w.items()),
    ],
)
def test_reads_torch_files_in_any_wrapping(tmp_path: Path, wrap: Any, zipped: bool) -> None:
    path = tmp_path / "weights.pth"
    torch.save(wrap(WEIGHTS), path, _use_new_zipfile_serialization=zipped)
    state = read_checkpoint(path)
    assert_same(state, WEIGHTS)
    assert not any(value.requires_grad for value in state.values())


def test_reads_safetensors(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "weights.safetensors")
    assert_same(read_checkpoint(tmp_path / "weights.safetensors"), WEIGHTS)


def test_reads_paddle_parameters(tmp_path: Path) -> None:
    # What paddle.save writes for a state dict: arrays by name and a table of internal names, pickle protocol 4.
    content = {name: value.numpy() for name, value in WEIGHTS.items()}
    table = {"StructuredToParameterName@@": dict.fromkeys(WEIGHTS, "conv2d_0.w_0")}
    (tmp_path / "weights.pdparams").write_bytes(pickle.dumps({**content, **table}, protocol=4))
    assert_same(read_checkpoint(tmp_path / "weights.pdparams"), WEIGHTS)


@pytest.fixture
def history_buffer(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module that is there while a file is written and gone, or hostile, when it is read."""
    module = types.ModuleType("mmengine_like")

    class HistoryBuffer:
        def __init__(self) -> None:
            self._log_history = np.arange(3.0)
            self.statistics = {"min": HistoryBuffer.smallest}  # pickled by way of builtins.getattr

        def smallest(self) -> float:
            return float(self._log_history.min())

    HistoryBuffer.__module__, HistoryBuffer.__qualname__ = module.__name__, "HistoryBuffer"
    HistoryBuffer.smallest.__qualname__ = "HistoryBuffer.smallest"
    HistoryBuffer.smallest.__module__ = module.__name__
    module.HistoryBuffer = HistoryBuffer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return HistoryBuffer


@LEGACY
def test_reads_training_checkpoints_without_their_classes(
    tmp_path: Path, history_buffer: Any, monkeypatch: pytest.MonkeyPatch, zipped: bool
) -> None:
    content = {
        "meta": {"seed": np.int64(3), "dataset_meta": {"sigmas": np.ones(17, np.float32)}, "time": "now"},
        "message_hub": {"log_scalars": OrderedDict(loss=history_buffer())},
        "state_dict": OrderedDict(WEIGHTS),
        "optimizer": {"state": {}, "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999)}]},
    }
    path = tmp_path / "epoch_210.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    monkeypatch.delitem(sys.modules, "mmengine_like")
    before = set(torch.serialization.get_safe_globals())
    assert_same(read_checkpoint(path), WEIGHTS)
    assert set(torch.serialization.get_safe_globals()) == before
    assert "mmengine_like" not in sys.modules


class Hostile:
    """Creates a file when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@LEGACY
@pytest.mark.parametrize("place", ["whole", "state dict", "a weight", "beside the weights"])
@pytest.mark.parametrize("means", ["os.system", "eval", "Path.touch"])
def test_code_in_a_file_is_never_run(tmp_path: Path, place: str, means: str, zipped: bool) -> None:
    marker = tmp_path / "marker"
    hostile = {
        "os.system": Hostile(os.system, f"touch {marker}"),
        "eval": Hostile(eval, f"open({str(marker)!r}, 'w')"),
        "Path.touch": Hostile(Path.touch, marker),
    }[means]
    content = {
        "whole": hostile,
        "state dict": {"state_dict": hostile},
        "a weight": {"state_dict": {**WEIGHTS, "backbone.x": hostile}},
        "beside the weights": {"state_dict": WEIGHTS, "meta": hostile},
    }[place]
    path = tmp_path / "hostile.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    if place == "beside the weights" and means == "eval":
        assert_same(read_checkpoint(path), WEIGHTS)  # an inert placeholder stands for it
    else:
        words = "expected" if means == "eval" else "asks to run code .* nothing was run"
        with pytest.raises(InputError, match=rf"hostile\.pth: .*{words}") as caught:
            read_checkpoint(path)
        assert "\n" not in str(caught.value)
    assert not marker.exists()
    # The file is what it is meant to be: trusting it does run the code.
    torch.load(path, weights_only=False)
    assert marker.exists()


@pytest.mark.parametrize("suffix", [".pdparams", ".pth"])
def test_code_in_a_plain_pickle_is_never_run(tmp_path: Path, suffix: str) -> None:
    marker = tmp_path / "marker"
    path = tmp_path / f"hostile{suffix}"
    path.write_bytes(pickle.dumps({"w": Hostile(os.system, f"touch {marker}")}))
    with pytest.raises(InputError, match="hostile"):
        read_checkpoint(path)
    assert not marker.exists()


@LEGACY
@pytest.mark.parametrize("fraction", [0.02, 0.5, 0.99])
def test_truncated_torch_file(tmp_path: Path, fraction: float, zipped: bool) -> None:
    whole = tmp_path / "whole.pth"
    torch.save({"state_dict": {"a.weight": torch.rand(40, 40)}}, whole, _use_new_zipfile_serialization=zipped)
    data = whole.read_bytes()
    cut = tmp_path / "cut.pth"
    cut.write_bytes(data[: int(len(data) * fraction)])
    with pytest.raises(InputError, match=r"cut\.pth: expected .*damaged, cut short.*copy or download it again"):
        read_checkpoint(cut)


def test_truncated_safetensors(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "whole.safetensors")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes((tmp_path / "whole.safetensors").read_bytes()[:-4])
    for read in (read_checkpoint, read_metadata):
        with pytest.raises(InputError, match=r"cut\.safetensors: expected a safetensors file"):
            read(cut)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".pdparams"])
def test_files_of_other_kinds(tmp_path: Path, suffix: str) -> None:
    text = tmp_path / f"text{suffix}"
    text.write_text("<html>404 not found</html>\n" * 20)
    empty = tmp_path / f"empty{suffix}"
    empty.touch()
    for path, words in ((text, "damaged"), (empty, "empty file"), (tmp_path, "directory"), (tmp_path / "no", "none")):
        with pytest.raises(InputError, match=words) as caught:
            read_checkpoint(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"epoch": 3}, r"the keys epoch and no tensors"),
        ({}, "no keys"),
        ([torch.zeros(1)], "got list"),
        ({"a": torch.zeros(1), "module.a": torch.zeros(1)}, "with and without a prefix"),
        (nn.Linear(1, 1), r"pickled torch\.nn\.modules\.linear\.Linear"),
    ],
)
def test_torch_files_without_weights(tmp_path: Path, content: Any, words: str) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(InputError, match=words):
        read_checkpoint(tmp_path / "x.pth")


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_torchscript_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "program.pt"
    torch.jit.save(torch.jit.script(nn.Linear(1, 1)), path)
    with pytest.raises(InputError, match="got a TorchScript program"):
        read_checkpoint(path)


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
    assert expected in message
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


def test_metadata_of_own_joints(tmp_path: Path) -> None:
    corners = KeypointSet("table", ("a", "b"), ((0, 1),), (0.1, 0.2), links=((0, 1),))
    metadata = CheckpointMetadata("litehrnet_30", "pose", 2, corners, None, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    path = save_checkpoint(nn.Linear(1, 1), tmp_path / "x.safetensors", metadata)
    assert read_metadata(path) == metadata


def test_metadata_of_published_checkpoints_needs_no_download(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LITEHRNET_CUDA_CACHE", str(tmp_path / "never"))
    assert read_metadata("litehrnet_18_coco_256x192") == METADATA
    assert not (tmp_path / "never").exists()


def test_damaged_metadata(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "x.safetensors", {"litehrnet_cuda": '{"variant": 3}'})
    with pytest.raises(InputError, match="expected metadata as litehrnet_cuda writes it"):
        read_metadata(tmp_path / "x.safetensors")


def test_failed_save_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_checkpoint(nn.Linear(1, 1), tmp_path / "x.safetensors", METADATA)
    before = path.read_bytes()

    def full(tensors: Any, filename: Path, metadata: Any) -> None:
        Path(filename).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_files.safetensors.torch, "save_file", full)
    with pytest.raises(InputError, match="No space left on device"):
        save_checkpoint(nn.Linear(3, 3), path, METADATA)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["x.safetensors"]


def test_save_needs_the_suffix(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ends in \.safetensors, got x\.pth"):
        save_checkpoint(nn.Linear(1, 1), tmp_path / "x.pth", METADATA)


# -------------------------------------------------------------------------------------------------------- names


def test_misspelt_names_and_paths(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"did you mean litehrnet_18_coco_256x192"):
        resolve_checkpoint("litehrnet_18_coco_256x129")
    (tmp_path / "epoch_210.pth").touch()
    with pytest.raises(InputError, match=r"did you mean .*epoch_210\.pth\?"):
        resolve_checkpoint(tmp_path / "epoch_201.pth")
    with pytest.raises(InputError, match=r"got 'zzz', which is neither$"):
        resolve_checkpoint("zzz")
