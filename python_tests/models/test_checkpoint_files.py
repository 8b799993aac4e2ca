"""Checkpoints as files: reading whatever training code writes, running nothing, and writing whole files."""

from __future__ import annotations

import json
import os
import pickle
import re
import sys
import types
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sample_checkpoints import assert_same, write_paddle
from torch import nn

from litehrnet_cuda.classes import ClassSet
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import COCO, KeypointSet
from litehrnet_cuda.models.checkpoint_files import (
    CheckpointMetadata,
    read_checkpoint,
    read_file,
    read_metadata,
    write_safetensors,
)

LEGACY = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
WEIGHTS = {"backbone.stem.conv1.conv.weight": torch.arange(6.0).reshape(2, 3)}

# ------------------------------------------------------------------------------------------------------ reading


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


def test_says_what_else_is_in_a_file(tmp_path: Path) -> None:
    inner = {**WEIGHTS, "n_averaged": torch.tensor(5), "steps": 3}
    torch.save({"meta": {"epoch": 3}, "model": {"state_dict": inner, "ema": None}, "optimizer": {}}, tmp_path / "x.pth")
    weights, left_out = read_file(tmp_path / "x.pth")
    assert_same(weights, WEIGHTS)
    assert left_out == ("meta", "optimizer", "ema", "n_averaged", "steps")


def test_reads_safetensors(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "weights.safetensors")
    assert_same(read_checkpoint(tmp_path / "weights.safetensors"), WEIGHTS)


def test_reads_paddle_parameters(tmp_path: Path) -> None:
    assert_same(read_checkpoint(write_paddle(WEIGHTS, tmp_path / "weights.pdparams")), WEIGHTS)


class PaddleTensor:
    """Pickled as paddle.save pickles a tensor below the outermost dictionary."""

    def __init__(self, name: str, value: np.ndarray[Any, Any]) -> None:
        self.content = (name, value)

    def __reduce__(self) -> Any:
        return tuple, (self.content,)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_reads_paddle_parameters_beside_an_optimizer(tmp_path: Path, protocol: int) -> None:
    tensors = {name: PaddleTensor("conv2d_0.w_0", value.numpy()) for name, value in WEIGHTS.items()}
    content = {"model": tensors, "opt": {"LR_Scheduler": {"last_lr": 0.1}}, "epoch": 3}
    (tmp_path / "x.pdparams").write_bytes(pickle.dumps(content, protocol=protocol))
    weights, left_out = read_file(tmp_path / "x.pdparams")
    assert_same(weights, WEIGHTS)
    assert left_out == ("opt", "epoch")


def test_reads_bfloat16_of_paddle_which_stands_in_integers(tmp_path: Path) -> None:
    expected = {name: value.bfloat16() + 0.5 for name, value in WEIGHTS.items()}
    bits = {name: value.view(torch.int16).numpy().view(np.uint16) for name, value in expected.items()}
    (tmp_path / "x.pdparams").write_bytes(pickle.dumps(bits, protocol=4))
    assert_same(read_checkpoint(tmp_path / "x.pdparams"), expected)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("function", [os.system, eval, getattr, __import__, np.load, Path])
def test_paddle_files_that_name_anything_but_arrays_are_refused(tmp_path: Path, function: Any, protocol: int) -> None:
    content = {**{name: value.numpy() for name, value in WEIGHTS.items()}, "extra": Hostile(function, "1")}
    path = tmp_path / "x.pdparams"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    with pytest.raises(InputError, match=r"asks to run [\w.]+ when it is opened; nothing was run") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


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


@pytest.mark.parametrize(("suffix", "words"), [(".onnx", "ONNX"), (".pdiparams", "pdparams"), (".PT2", "torch")])
def test_networks_without_a_state_dict(tmp_path: Path, suffix: str, words: str) -> None:
    path = tmp_path / f"network{suffix}"
    path.write_bytes(b"anything")
    with pytest.raises(InputError, match=rf"network{suffix}: expected a checkpoint, got .*{words}"):
        read_checkpoint(path)


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


# ------------------------------------------------------------------------------------------------------ writing


METADATA = CheckpointMetadata("litehrnet_18", "pose", 17, COCO, (192, 256))


def test_metadata_of_own_joints(tmp_path: Path) -> None:
    corners = KeypointSet("table", ("a", "b"), ((0, 1),), (0.1, 0.2), links=((0, 1),))
    metadata = CheckpointMetadata("litehrnet_30", "pose", 2, corners, None, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    path = write_safetensors(WEIGHTS, tmp_path / "x.safetensors", metadata)
    assert read_metadata(path) == metadata


def test_metadata_of_own_classes(tmp_path: Path) -> None:
    fruit = ClassSet("fruit", ("none", "apple"), ((0, 0, 0), (200, 30, 30)), background=0)
    metadata = CheckpointMetadata(
        "litehrnet_18", "segmentation", 2, input_size=(512, 256), class_set=fruit, head="fcn", iterative_head=False
    )
    path = write_safetensors(WEIGHTS, tmp_path / "x.safetensors", metadata)
    assert read_metadata(path) == metadata


def test_metadata_of_a_training(tmp_path: Path) -> None:
    metadata = replace(METADATA, box_convention="official")
    assert read_metadata(write_safetensors(WEIGHTS, tmp_path / "x.safetensors", metadata)) == metadata


@pytest.mark.parametrize("missing", [("class_set", "head", "iterative_head", "box_convention"), ("box_convention",)])
def test_metadata_from_before_there_were_all_fields(tmp_path: Path, missing: tuple[str, ...]) -> None:
    fields = json.loads(METADATA.to_json())
    for name in missing:
        del fields[name]
    save_file(WEIGHTS, tmp_path / "x.safetensors", {"litehrnet_cuda": json.dumps(fields)})
    assert read_metadata(tmp_path / "x.safetensors") == METADATA


def test_damaged_metadata(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "x.safetensors", {"litehrnet_cuda": '{"variant": 3}'})
    with pytest.raises(InputError, match="expected metadata as litehrnet_cuda writes it"):
        read_metadata(tmp_path / "x.safetensors")


def test_failed_save_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_safetensors(WEIGHTS, tmp_path / "x.safetensors", METADATA)
    before = path.read_bytes()

    def full(draft: Path, content: bytes) -> int:
        with draft.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match="No space left on device"):
        write_safetensors({"other": torch.zeros(3)}, path, METADATA)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["x.safetensors"]


def test_others_may_read_what_the_umask_lets_them(tmp_path: Path) -> None:
    path = write_safetensors(WEIGHTS, tmp_path / "x.safetensors", METADATA)
    (tmp_path / "any").touch()
    assert path.stat().st_mode == (tmp_path / "any").stat().st_mode


def test_save_needs_the_suffix(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ends in \.safetensors, got x\.pth"):
        write_safetensors(WEIGHTS, tmp_path / "x.pth", METADATA)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_outputs": "17"}, "num_outputs: expected a whole number from 0 up, got '17'"),
        ({"num_outputs": 17.0}, "num_outputs: expected a whole number"),
        ({"task": "poses"}, "task: expected pose, segmentation or backbone, got 'poses'"),
        ({"mean": [0.4]}, "mean: expected three finite numbers"),
        ({"mean": [10**400, 1, 1]}, "mean: expected three finite numbers"),
        ({"input_size": 192}, "input_size: expected (width, height), got 192"),
        ({"mean": None}, "mean: expected three finite numbers, got None"),
        ({"std": [0.2, 0.2, 0]}, "std: expected three finite numbers above 0"),
        ({"input_size": [192]}, "input_size: expected"),
        ({"iterative_head": "no"}, "iterative_head: expected true or false, got 'no'"),
        ({"box_convention": "zzz"}, "box_convention: expected official or mmpose1, got 'zzz'"),
        ({"decoder": 3}, "decoder: expected a name, got 3"),
    ],
)
def test_metadata_that_no_network_has_are_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    content = json.loads(METADATA.to_json()) | change
    with pytest.raises(InputError, match=re.escape(message)):
        CheckpointMetadata.from_json(json.dumps(content))
    save_file(WEIGHTS, tmp_path / "x.safetensors", {"litehrnet_cuda": json.dumps(content)})
    with pytest.raises(InputError, match=r"x\.safetensors: expected metadata as litehrnet_cuda writes it"):
        read_metadata(tmp_path / "x.safetensors")


@LEGACY
def test_another_protocol_of_pickle_is_said(zipped: bool, tmp_path: Path) -> None:
    file = tmp_path / "x.pth"
    torch.save(WEIGHTS, file, pickle_protocol=4, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=r"got pickle protocol 4, which is not opened .* save it without pickle_proto"):
        read_checkpoint(file)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.eye(3).to_sparse(),
        torch.empty(3, device="meta"),
        torch.zeros(3, dtype=torch.complex64),
        torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8),
    ],
    ids=["sparse", "meta", "complex", "quantised"],
)
def test_tensors_that_are_no_weights_are_refused(tensor: torch.Tensor, tmp_path: Path) -> None:
    torch.save({**WEIGHTS, "other": tensor}, tmp_path / "x.pth")
    with pytest.raises(InputError, match=r"x\.pth: expected dense tensors of real numbers, got another"):
        read_checkpoint(tmp_path / "x.pth")
