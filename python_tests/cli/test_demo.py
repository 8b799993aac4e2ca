"""`litehrnet demo`: from nothing to pictures, and the same pictures again."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from sample_checkpoints import assert_same

from litehrnet_cuda.classes import PERSON
from litehrnet_cuda.cli import segmentation
from litehrnet_cuda.cli.commands import demo
from litehrnet_cuda.cli.main import main
from litehrnet_cuda.data import datasets, mask_datasets
from litehrnet_cuda.data.coco import CocoKeypoints
from litehrnet_cuda.engine import run as engine_run
from litehrnet_cuda.engine.evaluate import Evaluation
from litehrnet_cuda.engine.evaluate_segmentation import SegmentationEvaluation
from litehrnet_cuda.engine.run import RunFiles
from litehrnet_cuda.keypoints import COCO
from litehrnet_cuda.models.checkpoints import CheckpointMetadata, read_checkpoint, read_metadata
from litehrnet_cuda.predictors.pose_estimator import PoseEstimator
from litehrnet_cuda.predictors.segmenter import Segmenter


def run_demo(folder: Path, seed: int = 0) -> None:
    """With fewer people to validate with than the real one, which trains just the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "VAL_IMAGES", 6)
        patch.setattr(segmentation, "DEMO_SIZE", (64, 64))
        arguments = ["--images", "8", "--epochs", "1", "--seed", str(seed), "--device", "cpu", "--out", str(folder)]
        assert main(["demo", *arguments]) == 0


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "out"
    run_demo(folder)
    return folder


def test_the_files_that_the_help_names_are_written_and_no_others(out: Path) -> None:
    named = set(re.findall(r"^  OUT/(\S+) ", demo.EPILOG, re.MULTILINE))
    assert len(named) == 11
    assert {path.name for path in out.iterdir()} - {"tensorboard"} == named


def test_the_checkpoint_is_complete(out: Path) -> None:
    file = out / "model.safetensors"
    expected = CheckpointMetadata("litehrnet_18", "pose", 17, COCO, (96, 128), box_convention="mmpose1", decoder="udp")
    assert read_metadata(file) == expected
    poses = PoseEstimator(None, checkpoint=file, device="cpu")(out / "data" / "val" / "000000000001.jpg")
    assert len(poses) == 1


def test_metrics_and_log_are_json(out: Path) -> None:
    metrics = json.loads((out / "metrics.json").read_text())
    assert 0 <= metrics["AP"] <= 1
    (epoch,) = map(json.loads, (out / "log.jsonl").read_text().splitlines())
    assert (epoch["epoch"], epoch["AP"]) == (1, metrics["AP"])
    assert epoch["loss"] > 0


def test_segmentation_is_shown_too(out: Path) -> None:
    folder = out / "segmentation"
    assert {path.name for path in folder.iterdir()} - {"tensorboard"} == {path.name for path in out.iterdir()} - {
        *("tensorboard", "data", "segmentation")
    }
    metadata = read_metadata(folder / "model.safetensors")
    assert metadata is not None
    assert (metadata.task, metadata.class_set, metadata.input_size) == ("segmentation", PERSON, (64, 64))
    metrics = json.loads((folder / "metrics.json").read_text())
    assert 0 <= metrics["mIoU"] <= 1
    found = Segmenter(checkpoint=folder / "model.safetensors", device="cpu")(out / "data/val/000000000001.jpg")
    assert found.labels.shape == (240, 320)


@pytest.mark.parametrize(
    "name", ["curve.png", "predictions.png", "segmentation/curve.png", "segmentation/predictions.png"]
)
def test_pictures_are_pictures(out: Path, name: str) -> None:
    picture = cv2.imread(str(out / name))
    assert picture is not None
    assert picture.std() > 5, "not blank"


def test_people_to_validate_with_are_others_than_those_to_train_with(out: Path) -> None:
    train, val = ({path.read_bytes() for path in (out / "data" / split).iterdir()} for split in ("train", "val"))
    assert (len(train), len(val)) == (8, 6)
    assert not train & val


def test_it_can_be_repeated_and_says_where_to_look(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "again"
    shutil.copytree(out / "data", folder / "data")
    drawn = {path: path.stat().st_mtime_ns for path in (folder / "data").rglob("*.*")}
    run_demo(folder)
    assert {path: path.stat().st_mtime_ns for path in (folder / "data").rglob("*.*")} == drawn, "drawn once"
    assert_same(*(read_checkpoint(path / "model.safetensors") for path in (out, folder)))
    assert (folder / "metrics.json").read_bytes() == (out / "metrics.json").read_bytes()
    assert (folder / "predictions.png").read_bytes() == (out / "predictions.png").read_bytes()
    printed = capsys.readouterr().out
    people = len(json.loads((out / "data" / "annotations" / "person_keypoints_val.json").read_text())["annotations"])
    assert printed.startswith("drawing ")
    assert re.search(rf"\nAP \d\.\d{{3}} \(AP \.5 \d\.\d{{3}}\) on {people} unseen .* after \d+ min \d+ s\n", printed)
    assert re.search(r"^mIoU \d\.\d{3} \(person \d\.\d{3}\) on 6 unseen .* in all\n", printed, re.MULTILINE)
    for name in ("predictions.png", "curve.png", "model.safetensors"):
        assert str(folder / name) in printed
        assert str(folder / "segmentation" / name) in printed
    for name in ("model.safetensors", "predictions.png"):
        file = Path("segmentation", name)
        assert (folder / file).read_bytes() == (out / file).read_bytes()


def test_without_options_it_is_as_the_help_says(
    tmp_path: Path, people: CocoKeypoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    def draw(folder: Path, **options: Any) -> Any:
        calls.append((folder, options))
        return people, people

    def train(folder: Path, recipe: Any, *data: Any, **options: Any) -> Any:
        calls.append((folder, recipe))
        if recipe.task == "segmentation":
            return RunFiles(folder), SegmentationEvaluation(np.diag([3, 1]), PERSON, {0: 1.0})
        return RunFiles(folder), Evaluation({"AP": 0.5, "AP .5": 0.9}, [], [])

    def find(folder: Path) -> Any:
        assert folder.resolve() == tmp_path / "runs" / "demo" / "data"
        return None, None

    monkeypatch.setattr(datasets, "generate_splits", draw)
    monkeypatch.setattr(mask_datasets, "find_mask_splits", find)
    monkeypatch.setattr(engine_run, "run_training", train)
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--seed", "9"]) == 0
    (data, drawn), (folder, recipe), (other_folder, other) = calls
    assert data.resolve() == tmp_path / "runs" / "demo" / "data"
    assert folder.resolve() == tmp_path / "runs" / "demo"
    assert (drawn["train_images"], drawn["val_images"], drawn["seed"]) == (demo.TRAIN_IMAGES, demo.VAL_IMAGES, 9)
    assert (recipe.model, recipe.input_size) == ("litehrnet_18", (96, 128))
    assert (recipe.training.epochs, recipe.training.seed) == (demo.EPOCHS, 9)
    assert other_folder.resolve() == tmp_path / "runs" / "demo" / "segmentation"
    assert other == segmentation.demo_recipe(Path("runs/demo/model.safetensors"), segmentation.DEMO_EPOCHS, 9)
    assert (other.model, other.input_size, other.training.batch_size) == ("litehrnet_18", (128, 128), 16)
    assert "Lite-HRNet-18 from\nscratch on crops of 96x128" in demo.EPILOG


def test_a_place_that_cannot_be_written_to_is_said_before_anything_is_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["demo", "--out", str(tmp_path / "file" / "out")]) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(r"litehrnet demo: \S+out: cannot be written \(.*\); choose another folder\n", error)
