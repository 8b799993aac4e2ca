"""`litehrnet train`: all that its help promises, and options that reach the training."""

from __future__ import annotations

import argparse
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import pytest
import torch
from sample_checkpoints import assert_same

from litehrnet_cuda.cli.commands.train import EPILOG, add_arguments, default_sigma
from litehrnet_cuda.cli.main import main
from litehrnet_cuda.data import datasets
from litehrnet_cuda.engine import run as engine_run
from litehrnet_cuda.engine.run import Recipe
from litehrnet_cuda.engine.train import TrainConfig
from litehrnet_cuda.keypoints import COCO
from litehrnet_cuda.models.checkpoints import CheckpointMetadata, read_checkpoint, read_metadata
from litehrnet_cuda.predictors import PoseEstimator

TINY = ["--epochs", "1", "--size", "64x64", "--batch-size", "4", "--device", "cpu"]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a tiny run on eight drawn images, with fewer people to validate with than a real one."""
    folder = tmp_path_factory.mktemp("train") / "out"
    draw = datasets.generate_splits
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "generate_splits", lambda *args, **options: draw(*args, **options | {"val_images": 6}))
        assert main(["train", "--images", "8", *TINY, "--out", str(folder)]) == 0
    return folder


def test_the_files_that_the_help_names_are_written_and_no_others(out: Path) -> None:
    named = set(re.findall(r"^  OUT/(\S+) ", EPILOG, re.MULTILINE))
    assert len(named) == 6
    assert {path.name for path in out.iterdir()} == named | {"data"}


def test_the_checkpoint_is_complete(out: Path) -> None:
    file = out / "model.safetensors"
    assert read_metadata(file) == CheckpointMetadata("litehrnet_18", "pose", 17, COCO, (64, 64))
    estimator = PoseEstimator(None, checkpoint=file, device="cpu")
    poses = estimator(out / "data" / "val" / "000000000001.jpg", [[10, 10, 90, 200]])
    assert poses.keypoints.shape == (1, 17, 2)


def test_metrics_and_log_are_json(out: Path) -> None:
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["boxes"] == "annotated"
    assert 0 <= metrics["AP"] <= 1
    assert json.loads((out / "recipe.json").read_text())["training"]["batch_size"] == 4
    epochs = list(map(json.loads, (out / "log.jsonl").read_text().splitlines()))
    assert [row["epoch"] for row in epochs] == [1]
    assert epochs[0]["AP"] == metrics["AP"]


@pytest.mark.parametrize("name", ["curve.png", "predictions.png"])
def test_pictures_are_pictures(out: Path, name: str) -> None:
    picture = cv2.imread(str(out / name))
    assert picture is not None
    assert picture.std() > 5, "not blank"


def test_the_data_are_a_coco_folder(out: Path) -> None:
    content = json.loads((out / "data" / "annotations" / "person_keypoints_train.json").read_text())
    assert len(content["images"]) == 8
    assert len(list((out / "data" / "train").iterdir())) == 8


def test_the_same_data_from_a_folder_give_the_same_network_to_the_bit(
    out: Path, coco_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(coco_folder, data)  # other people to validate with, which does not change the training
    shutil.copytree(out / "data" / "train", data / "train")
    shutil.copy(out / "data" / "annotations" / "person_keypoints_train.json", data / "annotations")
    assert main(["train", "--data", str(data), *TINY, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert re.fullmatch(rf"AP \d\.\d{{3}} on \d+ people; see {tmp_path / 'out'}\n", printed)
    assert not (tmp_path / "out" / "data").exists()
    files = [folder / "model.safetensors" for folder in (out, tmp_path / "out")]
    assert_same(*map(read_checkpoint, files))


@pytest.fixture
def recipes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Recipe, dict[str, Any]]]:
    """Recipe and options of every training that would have been."""
    calls: list[tuple[Recipe, dict[str, Any]]] = []

    def remember(folder: Path, recipe: Recipe, *people: Any, **options: Any) -> Any:
        calls.append((recipe, options))
        return SimpleNamespace(folder=folder), SimpleNamespace(metrics={"AP": 0.5})

    monkeypatch.setattr(engine_run, "run_training", remember)
    return calls


def test_options_reach_the_training(
    recipes: list[tuple[Recipe, dict[str, Any]]], out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = (
        "--model naive_litehrnet_18 --size 96x128 --sigma 1.5 --decoder udp --epochs 7 --batch-size 3 "
        "--learning-rate 0.01 --decay cosine --seed 5 --workers 2 --device cpu"
    )
    assert main(["train", "--data", str(out / "data"), "--out", str(tmp_path / "new"), *options.split()]) == 0
    ((recipe, passed),) = recipes
    config = TrainConfig(epochs=7, batch_size=3, learning_rate=0.01, decay="cosine", seed=5, workers=2)
    assert recipe == Recipe("naive_litehrnet_18", (96, 128), 1.5, "udp", training=config)
    assert passed == {"device": torch.device("cpu")}
    assert capsys.readouterr().out.startswith("AP 0.500 on ")


def test_the_defaults_are_the_official_recipe(
    recipes: list[tuple[Recipe, dict[str, Any]]], out: Path, tmp_path: Path
) -> None:
    assert main(["train", "--data", str(out / "data"), "--out", str(tmp_path)]) == 0
    # configs/top_down/lite_hrnet/coco/litehrnet_18_coco_256x192.py: 210 epochs, batches of 64, Adam at 2e-3, divided by
    # ten twice; heat maps of sigma 2.
    ((recipe, _),) = recipes
    assert recipe == Recipe(
        "litehrnet_18", (192, 256), 2.0, "quarter", training=TrainConfig(210, 64, 2e-3, decay="step", seed=0)
    )


@pytest.mark.parametrize(("size", "sigma"), [((192, 256), 2), ((288, 384), 3), ((96, 128), 1), ((64, 64), 1)])
def test_the_default_sigma_follows_the_height(size: tuple[int, int], sigma: float) -> None:
    assert default_sigma(size) == sigma


@pytest.mark.parametrize(
    "options",
    [
        *(["--size", text] for text in ("64", "64x", "0x0x1")),
        *([name, text] for name in ("--epochs", "--batch-size", "--images") for text in ("0", "-3", "two")),
        ["--decoder", "argmax"],
        ["--decay", "linear"],
    ],
    ids=" ".join,
)
def test_unusable_options_are_refused_by_name(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(["--out", "x", *options])
    assert stop.value.code == 2
    assert f"argument {options[0]}: " in capsys.readouterr().err


def test_the_folder_for_results_has_no_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train"])
    assert "required: --out" in capsys.readouterr().err


def test_input_errors_are_one_sentence_and_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    for arguments, message in (
        (["--data", str(tmp_path / "absent"), "--out", str(tmp_path / "out")], "absent: expected "),
        (["--out", str(tmp_path / "file")], "file: cannot be written"),
        (["--size", "16x64", "--out", str(tmp_path / "out")], "input_size: expected 32 to 8192 pixels"),
        (["--sigma", "0", "--out", str(tmp_path / "out")], "sigma: expected a positive number"),
        (["--model", "litehrnet_19", "--out", str(tmp_path / "out")], "did you mean 'litehrnet_18'?"),
        (["--device", "gpu", "--out", str(tmp_path / "out")], "device: expected one that can be used here"),
        (["--batch-size", "1", "--out", str(tmp_path / "out")], "batch_size: expected at least 2, got 1"),
        (["--learning-rate", "-1", "--out", str(tmp_path / "out")], "learning_rate: expected a positive number"),
    ):
        assert main(["train", *arguments]) == 2
        error = capsys.readouterr().err
        assert error.startswith("litehrnet train: ")
        assert message in error
        assert error.count("\n") == 1
