"""Weights and configuration in a folder: whole, readable, and never taken for others."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from sample_checkpoints import assert_same

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import COCO
from litehrnet_cuda.models import folders
from litehrnet_cuda.models.checkpoint_files import CheckpointMetadata, read_checkpoint, read_metadata
from litehrnet_cuda.models.folders import CONFIG, WEIGHTS, read_config, write_folder

METADATA = CheckpointMetadata("litehrnet_18", "pose", 17, COCO, (192, 256))
STATE = {"backbone.stem.conv1.conv.weight": torch.arange(6.0).reshape(2, 3)}


def test_a_folder_has_two_files_which_both_say_what_the_weights_are(tmp_path: Path) -> None:
    folder = write_folder(STATE, tmp_path / "new" / "folder", METADATA)
    assert sorted(os.listdir(folder)) == [CONFIG, WEIGHTS]
    assert_same(read_checkpoint(folder / WEIGHTS), STATE)
    assert read_metadata(folder / WEIGHTS) == METADATA
    assert read_config(folder) == METADATA


def test_the_configuration_can_be_read_and_edited(tmp_path: Path) -> None:
    folder = write_folder(STATE, tmp_path, METADATA)
    config = json.loads((folder / CONFIG).read_text())
    assert (config["format"], config["version"]) == ("litehrnet_cuda", 1)
    assert config["network"]["keypoint_set"]["names"][0] == "nose"
    config["network"]["input_size"] = [288, 384]
    (folder / CONFIG).write_text(json.dumps(config))
    assert read_config(folder).input_size == (288, 384)


def test_saving_again_replaces_both_files_and_leaves_others(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    write_folder(STATE, tmp_path, METADATA)
    other = {name: value + 1 for name, value in STATE.items()}
    write_folder(other, tmp_path, CheckpointMetadata("litehrnet_30", "pose", 17))
    assert sorted(os.listdir(tmp_path)) == [CONFIG, WEIGHTS, "notes.txt"]
    assert read_config(tmp_path).variant == "litehrnet_30"
    assert_same(read_checkpoint(tmp_path / WEIGHTS), other)


@pytest.mark.parametrize("fails", ["weights", "configuration"])
def test_a_save_that_fails_leaves_the_old_folder(tmp_path: Path, fails: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(STATE, tmp_path, METADATA)
    before = {file: (tmp_path / file).read_bytes() for file in os.listdir(tmp_path)}

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    if fails == "weights":
        monkeypatch.setattr(folders, "to_safetensors", full)
    else:
        monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(InputError, match="No space left on device"):
        write_folder({}, tmp_path, CheckpointMetadata("litehrnet_30", "pose", 17))
    assert {file: (tmp_path / file).read_bytes() for file in os.listdir(tmp_path)} == before


def test_a_save_that_ends_between_the_two_files_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(STATE, tmp_path, METADATA)
    replace = os.replace

    def killed(draft: Any, path: Path) -> None:
        if path.name == CONFIG:
            raise KeyboardInterrupt
        replace(draft, path)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_folder({}, tmp_path, METADATA)
    with pytest.raises(InputError, match=r"expected the weights that config\.json was written for, got others"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda config: config.update(version=2), "expected a version up to 1, got 2; update litehrnet_cuda"),
        (lambda config: config.update(version="1"), r"got 'litehrnet_cuda' and '1'"),
        (lambda config: config.update(format="timm"), r'expected "format": "litehrnet_cuda".* got \'timm\''),
        (lambda config: config.pop("weights"), "expected what save_pretrained writes"),
        (lambda config: config["network"].pop("task"), "expected what save_pretrained writes"),
        (lambda config: config["network"].update(colour="red"), "expected what save_pretrained writes"),
        (lambda config: config["weights"].update(sha256="00"), "got others"),
    ],
)
def test_other_configurations_are_said(tmp_path: Path, change: Any, words: str) -> None:
    write_folder(STATE, tmp_path, METADATA)
    config = json.loads((tmp_path / CONFIG).read_text())
    change(config)
    (tmp_path / CONFIG).write_text(json.dumps(config))
    with pytest.raises(InputError, match=words) as caught:
        read_config(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[]", "\xff"])
def test_damaged_configurations_are_said(tmp_path: Path, text: str) -> None:
    (tmp_path / CONFIG).write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=r"config\.json: expected a file of save_pretrained"):
        read_config(tmp_path)


def test_missing_files_are_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json: expected a file of save_pretrained.*No such file"):
        read_config(tmp_path)
    write_folder(STATE, tmp_path, METADATA)
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(InputError, match=r"model\.safetensors: expected the weights"):
        read_config(tmp_path)
