"""`litehrnet train`: all that its help promises, and options that reach the training."""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import pytest
import torch
from processes import run_processes
from sample_checkpoints import assert_same

from litehrnet_cuda.cli.commands.train import EPILOG, add_arguments
from litehrnet_cuda.cli.main import main
from litehrnet_cuda.data import datasets
from litehrnet_cuda.data.pose_dataset import Augmentation
from litehrnet_cuda.engine import run as engine_run
from litehrnet_cuda.engine.distributed import ALONE
from litehrnet_cuda.engine.evaluate import evaluate
from litehrnet_cuda.engine.interruption import Interrupted
from litehrnet_cuda.engine.recipe import Recipe, TrainConfig
from litehrnet_cuda.engine.recipe_files import list_recipes, load_recipe
from litehrnet_cuda.engine.state import TrainingState
from litehrnet_cuda.keypoints import COCO
from litehrnet_cuda.models.checkpoints import CheckpointMetadata, read_checkpoint, read_metadata, save_checkpoint
from litehrnet_cuda.models.registry import create_model
from litehrnet_cuda.predictors.pose_estimator import PoseEstimator

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
    assert len(named) == 9
    assert {path.name for path in out.iterdir()} - {"tensorboard"} == named | {"data"}


def test_the_checkpoint_is_complete(out: Path) -> None:
    file = out / "model.safetensors"
    expected = CheckpointMetadata(
        "litehrnet_18", "pose", 17, COCO, (64, 64), box_convention="mmpose1", decoder="quarter"
    )
    assert read_metadata(file) == expected
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
    assert re.fullmatch(rf"AP \d\.\d{{3}} \(annotated boxes\) on \d+ people; see {tmp_path / 'out'}\n", printed)
    assert not (tmp_path / "out" / "data").exists()
    files = [folder / "model.safetensors" for folder in (out, tmp_path / "out")]
    assert_same(*map(read_checkpoint, files))


@pytest.fixture
def recipes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Recipe, dict[str, Any]]]:
    """Recipe and options of every training that would have been."""
    calls: list[tuple[Recipe, dict[str, Any]]] = []

    def remember(folder: Path, recipe: Recipe, *people: Any, **options: Any) -> Any:
        calls.append((recipe, options))
        return SimpleNamespace(folder=folder), SimpleNamespace(
            score=0.5, score_name="AP", boxes="annotated", measured_in="annotated boxes", skipped={}
        )

    monkeypatch.setattr(engine_run, "run_training", remember)
    return calls


def test_options_reach_the_training(
    recipes: list[tuple[Recipe, dict[str, Any]]], out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = (
        "--model naive_litehrnet_18 --weights some.safetensors --size 96x128 --sigma 1.5 --decoder udp --epochs 7 "
        "--batch-size 3 --learning-rate 0.01 --decay cosine --seed 5 --workers 2 --device cpu --amp bf16 "
        "--save-every 500 --set training.ema=0.99 --set augmentation.rotation=60 --set flip_test=false"
    )
    assert main(["train", "--data", str(out / "data"), "--out", str(tmp_path / "new"), *options.split()]) == 0
    ((recipe, passed),) = recipes
    config = TrainConfig(epochs=7, batch_size=3, learning_rate=0.01, decay="cosine", seed=5, weights="some.safetensors")
    config = replace(config, workers=2, amp="bf16", save_every="500", ema=0.99)
    augmentation = Augmentation(rotation=60)
    assert recipe == Recipe("naive_litehrnet_18", (96, 128), 1.5, "udp", False, augmentation, config)
    assert passed == {"device": torch.device("cpu"), "start": "auto", "processes": ALONE, "progress": True}
    assert capsys.readouterr().out.startswith("AP 0.500 (annotated boxes) on ")


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


@pytest.mark.parametrize("name", ["litehrnet_30_coco_384x288", "mpii_256x256"])
def test_a_recipe_reaches_the_training(
    recipes: list[tuple[Recipe, dict[str, Any]]], out: Path, tmp_path: Path, name: str
) -> None:
    assert main(["train", name, "--data", str(out / "data"), "--out", str(tmp_path), "--restart"]) == 0
    ((recipe, passed),) = recipes
    assert recipe == load_recipe(name)
    assert passed["start"] == "anew"


def test_the_recipe_of_a_run_is_a_recipe(
    recipes: list[tuple[Recipe, dict[str, Any]]], out: Path, tmp_path: Path
) -> None:
    file = str(out / "recipe.json")
    assert main(["train", file, "--data", str(out / "data"), "--out", str(tmp_path), "--resume"]) == 0
    ((recipe, passed),) = recipes
    assert (recipe.input_size, recipe.training.epochs, recipe.training.batch_size) == ((64, 64), 1, 4)
    assert passed["start"] == "resume"


@pytest.mark.parametrize(
    ("options", "count"), [([], 200), (["--images", "50"], 20), (["--images", "500"], 50), (["--images", "9000"], 200)]
)
def test_people_to_validate_with_are_a_tenth_of_those_to_train_with(
    recipes: list[tuple[Recipe, dict[str, Any]]],
    out: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    count: int,
) -> None:
    asked: list[dict[str, Any]] = []

    def draw(folder: Path, **options: Any) -> None:
        asked.append(options)
        shutil.copytree(out / "data", folder)

    monkeypatch.setattr(datasets, "generate_splits", draw)
    assert main(["train", "--out", str(tmp_path / "out"), *options]) == 0
    assert [call["val_images"] for call in asked] == [count]


@pytest.mark.parametrize(
    ("options", "redrawn"),
    [([], False), (["--images", "9"], True), (["--seed", "1"], True)],
    ids=["the same", "images", "seed"],
)
def test_resuming_keeps_drawn_people_of_as_many_images_and_the_same_seed(
    recipes: list[tuple[Recipe, dict[str, Any]]],
    out: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    redrawn: bool,
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(datasets, "generate_splits", lambda *args, **options: asked.append(options["replace"]))
    command = ["train", "--images", "8", *TINY, "--out", str(out), "--resume", *options]
    assert main(command) == 0
    assert asked == [True] * redrawn


def test_resuming_the_state_of_other_joints_keeps_drawn_people(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    state = TrainingState.load(out / "state.pt")
    weights = state.learner["network"]
    name = next(name for name in weights if name.startswith("keypoint_head") and name.endswith("weight"))
    weights[name] = weights[name][:16]
    state.save(folder / "state.pt")
    monkeypatch.setattr(datasets, "generate_splits", lambda *args, **options: pytest.fail("drawn"))
    assert main(["train", "--images", "9", *TINY, "--out", str(folder), "--resume"]) == 2
    assert "it was trained for other joints" in capsys.readouterr().err


def test_weights_that_do_not_fit_are_said_before_people_are_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "generate_splits", lambda *args, **options: pytest.fail("drawn"))
    file = tmp_path / "other.safetensors"
    save_checkpoint(create_model("litehrnet_30"), file, CheckpointMetadata("litehrnet_30", "pose", 17, COCO, (64, 64)))
    for weights, message in (
        (file, "the checkpoint is of litehrnet_30"),
        ("absent.pth", "checkpoint: expected a file"),
    ):
        assert main(["train", *TINY, "--weights", str(weights), "--out", str(tmp_path / "out")]) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("data", [True, False], ids=["data", "drawn"])
def test_resuming_where_there_is_nothing_leaves_nothing(out: Path, tmp_path: Path, data: bool) -> None:
    folder = tmp_path / "absent"
    options = ["--data", str(out / "data")] if data else []
    assert main(["train", *options, "--out", str(folder), "--resume"]) == 2
    assert not folder.exists()


@pytest.mark.parametrize(("size", "sigma"), [("192x256", 2), ("288x384", 3), ("96x128", 1), ("64x64", 1)])
def test_sigma_follows_the_size_unless_it_is_given(
    recipes: list[tuple[Recipe, dict[str, Any]]], out: Path, tmp_path: Path, size: str, sigma: float
) -> None:
    common = ["train", "coco_384x288", "--data", str(out / "data"), "--out", str(tmp_path), "--size", size]
    assert main(common) == 0
    assert main([*common, "--sigma", "2.5"]) == 0
    assert [recipe.sigma for recipe, _ in recipes] == [sigma, 2.5]


def test_the_recipes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == list(list_recipes())
    assert any(line.split()[:5] == ["coco_384x288", "288x384", "210", "256", "0.002"] for line in lines)
    assert "litehrnet_30_" in lines[-1]
    assert max(map(len, lines)) <= 140


def test_ctrl_c_is_status_130_and_says_how_to_go_on(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*args: Any, **options: Any) -> Any:
        raise Interrupted("interrupted; the last good state is x/state.pt (epoch 1, step 2 of 3)")

    monkeypatch.setattr(engine_run, "run_training", interrupted)
    assert main(["train", "--data", str(out / "data"), "--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err == (
        "litehrnet train: interrupted; the last good state is x/state.pt (epoch 1, step 2 of 3); go on with the same "
        "command\n"
    )


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
    assert main(["train"]) == 2
    assert capsys.readouterr().err == "litehrnet train: expected --out with a folder for the results\n"


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
        (["coco_256x129", "--out", str(tmp_path / "out")], "did you mean 'coco_256x192'?"),
        (["coco_256x192", "--out", str(tmp_path / "out")], "is for COCO's images, which are not embedded; name their"),
        (["--set", "training.emma=1", "--out", str(tmp_path / "out")], "did you mean 'training.ema'?"),
        (["--set", "training.ema", "--out", str(tmp_path / "out")], "--set: expected KEY=VALUE such as"),
        (["--save-every", "never", "--out", str(tmp_path / "out")], "save_every: expected a number of steps"),
        (["--resume", "--restart", "--out", str(tmp_path / "out")], "expected --resume or --restart, got both"),
        (["--data", str(tmp_path), "--images", "9", "--out", str(tmp_path / "out")], "--data, got both; leave out one"),
        (["--learning-rate", "-1", "--out", str(tmp_path / "out")], "learning_rate: expected a positive number"),
    ):
        assert main(["train", *arguments]) == 2
        error = capsys.readouterr().err
        assert error.startswith("litehrnet train: ")
        assert message in error
        assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seed", "1"], "holds a training with another recipe (training.seed was 0 and is 1)"),
        (["--images", "9"], "expected the drawings of 'train' that are there, of count 8, got count 9"),
    ],
    ids=["seed", "images"],
)
def test_drawn_people_stay_where_the_training_in_the_folder_is_refused(
    out: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    files = {path: path.stat().st_mtime_ns for path in (out / "data").rglob("*") if path.is_file()}
    command = ["train", "--images", "8", *TINY, "--out", str(out), *options]
    assert main(command) == 2
    assert message in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in (out / "data").rglob("*") if path.is_file()} == files


@pytest.mark.parametrize("rank", [0, 1])
def test_more_processes_than_gpus_are_one_sentence_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rank: int
) -> None:
    for name, value in {"RANK": rank, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": 2, "WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert main(["train", "--out", str(tmp_path / "out")]) == 2
    expected = (
        "litehrnet train: expected at most as many processes on this machine as GPUs, of which there are 1, got 2; "
        "start fewer (--nproc-per-node 1), or train on CPUs with --device cpu\n"
    )
    assert capsys.readouterr().err == (expected if rank == 0 else "")
    assert not (tmp_path / "out").exists()


def test_the_recipe_says_how_boxes_are_clipped(
    recipes: list[tuple[Recipe, dict[str, Any]]], out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    find = datasets.find_splits
    monkeypatch.setattr(datasets, "find_splits", lambda *args, **options: asked.append(options) or find(*args))
    assert main(["train", "coco_256x192", "--data", str(out / "data"), "--out", str(tmp_path)]) == 0
    assert asked == [{"box_convention": "official"}]


# ------------------------------------------------------------------------------------------------- killed, and together


def train_command(data: Path, out: Path) -> list[str]:
    options = "--epochs 2 --size 64x64 --batch-size 2 --device cpu --model naive_litehrnet_18 --save-every 1"
    return ["-m", "litehrnet_cuda", "train", "--data", str(data), "--out", str(out), *options.split()]


@pytest.fixture
def small_data(coco_folder: Path, tmp_path: Path) -> Path:
    """A few people, to train and to validate with."""
    data = tmp_path / "data"
    shutil.copytree(coco_folder, data)
    shutil.copytree(data / "val", data / "train")
    names = [data / "annotations" / f"person_keypoints_{split}.json" for split in ("val", "train")]
    shutil.copy(*names)
    return data


def results(folder: Path) -> dict[str, bytes]:
    """What is equal in equal runs."""
    names = ("model.safetensors", "best.safetensors", "metrics.json", "predictions.png")
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    for row in log:
        del row["images_per_second"]
    return {name: (folder / name).read_bytes() for name in names} | {"log": json.dumps(log).encode()}


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_gives_the_same_to_the_bit(small_data: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    run_options: dict[str, Any] = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    whole = subprocess.run([sys.executable, *train_command(small_data, tmp_path / "whole")], **run_options)
    assert whole.returncode == 0, whole.stderr
    moments = random.Random(0)
    pieces, last = 0, (0, 0)
    while True:
        with subprocess.Popen([sys.executable, *train_command(small_data, tmp_path / "pieces")], **run_options) as run:
            began = time.monotonic()
            state = tmp_path / "pieces" / "state.pt"
            before = state.stat().st_mtime_ns if state.exists() else 0
            # Not before it has saved something, or a slow machine would never finish.
            while run.poll() is None and not (state.exists() and state.stat().st_mtime_ns > before):
                assert time.monotonic() - began < 60
                time.sleep(0.01)
            try:
                run.wait(moments.uniform(0, 0.7))
            except subprocess.TimeoutExpired:
                run.kill()
        if run.returncode == 0:
            break
        assert run.returncode == -signal.SIGKILL
        saved = TrainingState.load(state)
        assert (saved.epoch, saved.batches) >= last, "nothing that was saved is lost"
        last = (saved.epoch, saved.batches)
        pieces += 1
        assert pieces < 50
    assert pieces > 2
    assert results(tmp_path / "pieces") == results(tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_train_and_one_writes(small_data: Path, tmp_path: Path) -> None:
    first, second = run_processes(2, *train_command(small_data, tmp_path / "out"))
    assert "epoch 2/2, loss" in first
    assert re.search(r"AP \d\.\d{3} \(annotated boxes\) on \d+ people", first)
    assert second == ""
    rows = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    people = len(json.loads((small_data / "annotations" / "person_keypoints_train.json").read_text())["annotations"])
    assert [row["step"] for row in rows] == [people // 4, people // 4 * 2]
    assert (tmp_path / "out" / "predictions.png").is_file()
    # Each evaluates its part, and together they find what one finds alone.
    people = datasets.find_splits(small_data)[1]
    estimator = PoseEstimator(None, checkpoint=tmp_path / "out" / "model.safetensors", flip_test=True)
    alone = evaluate(estimator, people, progress=False)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert {name: metrics[name] for name in alone.metrics} == {
        name: None if value < 0 else value for name, value in alone.metrics.items()
    }
    assert {name: rows[-1][name] for name in alone.metrics} == alone.metrics
