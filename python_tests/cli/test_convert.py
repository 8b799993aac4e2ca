"""`litehrnet convert`: what it prints, and what it leaves."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import get_args

import pytest
import torch
from sample_checkpoints import state_of, to_paddle, write_paddle

from litehrnet_cuda.cli.commands import convert
from litehrnet_cuda.cli.main import main
from litehrnet_cuda.keypoints import MPII
from litehrnet_cuda.models.checkpoint_files import read_metadata
from litehrnet_cuda.models.conversion import TARGETS
from litehrnet_cuda.models.registry import Task, create_model

TOML = 'name = "table"\njoints = ["a", "b"]\n[val]\nannotations = "val.json"\nimages = "images"\n'


def test_the_choices_are_those_of_the_package() -> None:
    assert convert.TARGET_NAMES == TARGETS
    assert convert.TASK_NAMES == get_args(Task)


def test_the_report(golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_paddle(to_paddle(state_of(golden)), tmp_path / "x.pdparams")
    out = tmp_path / "x.safetensors"
    assert main(["convert", str(source), "--out", str(out), "--size", "192x256"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line[:10].strip(): line[10:] for line in lines if not line.startswith(" ")}
    assert rows["read"] == f"{source}, PaddleDetection names"
    assert rows["network"] == "litehrnet_18, pose, 17 outputs, known by the names and shapes of its tensors"
    assert rows["joints"].startswith("coco, assumed")
    assert rows["input"] == "192x256"
    assert "0.485, 0.456, 0.406" in rows["images"]
    assert rows["weights"] == "1,418 tensors, 1,130,769 parameters; 204 counters of batch norms added, as zero"
    assert rows["left out"] == "StructuredToParameterName@@"
    assert rows["verified"].startswith("loaded strictly, the same output to the bit")
    assert rows["wrote"].startswith(f"{out}, 4.")
    assert sum(line.startswith("  sha256") for line in lines) == 2
    metadata = read_metadata(out)
    assert metadata is not None
    assert metadata.input_size == (192, 256)


def test_json_and_the_way_back(golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(state_of(golden, joints=16), tmp_path / "x.pth")
    out = str(tmp_path / "x.safetensors")
    assert main(["convert", str(tmp_path / "x.pth"), "--out", out, "--keypoints", "mpii", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["metadata"]["keypoint_set"]["name"] == MPII.name
    assert report["assumed"] is False
    assert main(["convert", out, "--out", str(tmp_path / "back.pth"), "--to", "mmpose"]) == 0
    assert "mmpose names, weights alone" in capsys.readouterr().out
    assert "head.final_layer.weight" in torch.load(tmp_path / "back.pth", weights_only=True)["state_dict"]


def test_joints_of_a_description(golden: Path, tmp_path: Path) -> None:
    torch.save(state_of(golden, joints=2), tmp_path / "x.pth")
    (tmp_path / "table.toml").write_text(TOML)
    options = ["--out", str(tmp_path / "x.safetensors"), "--keypoints", str(tmp_path / "table.toml")]
    assert main(["convert", str(tmp_path / "x.pth"), *options]) == 0
    metadata = read_metadata(tmp_path / "x.safetensors")
    assert metadata is not None
    assert metadata.keypoint_set is not None
    assert metadata.keypoint_set.names == ("a", "b")


def test_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(create_model("naive_litehrnet_18", "segmentation", num_outputs=3).state_dict(), tmp_path / "x.pth")
    out = ["--out", str(tmp_path / "x.safetensors")]
    assert main(["convert", str(tmp_path / "x.pth"), *out]) == 0
    printed = capsys.readouterr().out
    assert "classes   not known; see --classes" in printed
    assert "head      fcn, with the iterative head" in printed
    assert main(["convert", str(tmp_path / "x.pth"), *out, "--classes", "person"]) == 2
    assert "class_set: expected 3 as the network has outputs, got 2 (person)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["absent.pth"], "neither"),
        (["x.pth", "--keypoints", "cooc"], "--keypoints: expected coco, mpii or a TOML file of yours, got 'cooc'"),
        (["x.pth", "--classes", "pets"], "--classes: expected one of cityscapes, person, got 'pets'"),
        (["x.pth", "--variant", "litehrnet_30"], "variant: expected litehrnet_18"),
    ],
)
def test_bad_input(
    golden: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(state_of(golden), "x.pth")
    assert main(["convert", *arguments, "--out", "y.safetensors"]) == 2
    assert words in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["x.pth"]
