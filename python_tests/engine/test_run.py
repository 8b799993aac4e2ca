"""A whole run, tiny: every file is there, valid, and the same when the run is repeated."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from litehrnet_cuda.codecs.heatmap import Decoder
from litehrnet_cuda.data.coco import CocoKeypoints
from litehrnet_cuda.data.generated.coco_folder import write_coco
from litehrnet_cuda.engine import run
from litehrnet_cuda.engine.evaluate import Evaluation, evaluate
from litehrnet_cuda.engine.run import Recipe, RunFiles, run_training
from litehrnet_cuda.engine.train import TrainConfig
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import COCO
from litehrnet_cuda.models.checkpoints import CheckpointMetadata, read_checkpoint, read_metadata
from litehrnet_cuda.predictors import PoseEstimator

RECIPE = Recipe(
    model="naive_litehrnet_18",
    input_size=(64, 32),
    sigma=1.0,
    decoder="udp",
    training=TrainConfig(epochs=2, batch_size=4, seed=3),
)
FILES = {"model.safetensors", "recipe.json", "log.jsonl", "metrics.json", "curve.png", "predictions.png"}


@pytest.fixture(scope="module")
def training_people(tmp_path_factory: pytest.TempPathFactory) -> CocoKeypoints:
    folder = tmp_path_factory.mktemp("train")
    return CocoKeypoints(write_coco(folder, 4, seed=1, size=(160, 120)), folder / "train")


@pytest.fixture(scope="module")
def outcome(
    training_people: CocoKeypoints, people: CocoKeypoints, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunFiles, Evaluation]:
    folder = tmp_path_factory.mktemp("run") / "new" / "folder"
    return run_training(folder, RECIPE, training_people, people, device="cpu", progress=False)


def test_the_folder_holds_the_files_and_nothing_else(outcome: tuple[RunFiles, Evaluation]) -> None:
    files, _ = outcome
    assert {path.name for path in files.folder.iterdir()} == FILES
    named = {files.checkpoint, files.recipe, files.log, files.metrics, files.curve, files.predictions}
    assert named == {files.folder / name for name in FILES}


def test_the_checkpoint_says_how_it_is_used(outcome: tuple[RunFiles, Evaluation]) -> None:
    files, _ = outcome
    assert read_metadata(files.checkpoint) == CheckpointMetadata("naive_litehrnet_18", "pose", 17, COCO, (64, 32))
    estimator = PoseEstimator(None, checkpoint=files.checkpoint)
    assert estimator.input_size == (64, 32)
    assert estimator.keypoint_set == COCO
    assert estimator.model.variant.name == "naive_litehrnet_18"


def test_what_is_measured_is_the_network_in_the_file(
    outcome: tuple[RunFiles, Evaluation], people: CocoKeypoints
) -> None:
    files, evaluation = outcome

    def results(decoder: Decoder, flip_test: bool = True) -> Evaluation:
        estimator = PoseEstimator(None, checkpoint=files.checkpoint, decoder=decoder, flip_test=flip_test, device="cpu")
        return evaluate(estimator, people, progress=False)

    again = results("udp")
    assert again.results == evaluation.results
    assert again.metrics == evaluation.metrics
    assert len(again.poses) == len(people.people)
    assert results("quarter").results != again.results, "the recipe's decoder matters"
    assert results("udp", flip_test=False).results != again.results


def test_metrics_and_log_agree_with_the_evaluation(
    outcome: tuple[RunFiles, Evaluation], training_people: CocoKeypoints
) -> None:
    files, evaluation = outcome
    assert json.loads(files.metrics.read_text()) == {"boxes": "annotated", "flip_test": True, **evaluation.metrics}
    recipe = json.loads(files.recipe.read_text())
    assert recipe["training"]["seed"] == 3
    assert recipe["input_size"] == list(RECIPE.input_size)
    epochs = list(map(json.loads, files.log.read_text().splitlines()))
    steps = len(training_people.people) // 4
    assert [(row["epoch"], row["step"]) for row in epochs] == [(1, steps), (2, 2 * steps)]
    assert {name: epochs[-1][name] for name in evaluation.metrics} == evaluation.metrics
    for row in epochs:
        assert len(row["loss_curve"]) == min(10, steps)
        assert row["loss"] == pytest.approx(sum(row["loss_curve"]) / len(row["loss_curve"]), rel=0.5)


def test_the_curve_has_the_loss_within_and_the_precision_after_epochs() -> None:
    history = [
        {"step": 4, "loss_curve": [4.0, 2.0], "loss": 3.0},
        {"step": 8, "loss_curve": [1.0, 0.5], "loss": 0.75, "AP": 0.25},
    ]
    assert run._curve(history) == [
        {"step": 1, "loss": 4.0},
        {"step": 3, "loss": 2.0},
        {"step": 5, "loss": 1.0},
        {"step": 7, "loss": 0.5},
        {"step": 8, "AP": 0.25},
    ]


def test_pictures_are_pictures(outcome: tuple[RunFiles, Evaluation]) -> None:
    files, _ = outcome
    for path in (files.curve, files.predictions):
        picture = cv2.imread(str(path))
        assert picture is not None, path.name
        assert picture.std() > 5, f"{path.name} is not blank"
    # Four pairs of 160 pixels, in four columns.
    assert cv2.imread(str(files.predictions)).shape[1] > 4 * 160


def test_equal_recipes_give_equal_networks_to_the_bit(
    outcome: tuple[RunFiles, Evaluation], training_people: CocoKeypoints, people: CocoKeypoints, tmp_path: Path
) -> None:
    first, evaluation = outcome
    second, again = run_training(tmp_path, RECIPE, training_people, people, device="cpu", progress=False)
    assert second.checkpoint.read_bytes() == first.checkpoint.read_bytes()
    weights = read_checkpoint(second.checkpoint)
    assert again.results == evaluation.results
    assert second.metrics.read_bytes() == first.metrics.read_bytes()
    assert second.predictions.read_bytes() == first.predictions.read_bytes()

    other_seed = replace(RECIPE, training=replace(RECIPE.training, seed=4, epochs=1))
    # In the same folder: files of the earlier run are replaced.
    third, _ = run_training(tmp_path, other_seed, training_people, people, device="cpu", progress=False)
    assert {path.name for path in tmp_path.iterdir()} == FILES
    changed = [name for name, value in read_checkpoint(third.checkpoint).items() if not value.equal(weights[name])]
    assert "backbone.stem.conv1.conv.weight" in changed
    assert len(third.log.read_text().splitlines()) == 1


def test_what_cannot_work_is_said_before_the_training(
    training_people: CocoKeypoints, people: CocoKeypoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise AssertionError("the training has begun")

    monkeypatch.setattr(run, "train", fail)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        run_training(tmp_path / "file", RECIPE, training_people, people, progress=False)
    with pytest.raises(InputError, match="unknown model 'litehrnet_81'"):
        replace(RECIPE, model="litehrnet_81")
    with pytest.raises(InputError, match=r"input_size: expected 32 to 8192 pixels each way, got \(16, 64\)"):
        replace(RECIPE, input_size=(16, 64))
    with pytest.raises(InputError, match="sigma: expected a positive number of heat-map pixels, got 0"):
        replace(RECIPE, sigma=0)
    with pytest.raises(InputError, match="device: expected one that can be used here"):
        run_training(tmp_path / "out", RECIPE, training_people, people, device="gpu", progress=False)
    assert not (tmp_path / "out").exists()


def test_a_silent_run_prints_nothing(
    training_people: CocoKeypoints, people: CocoKeypoints, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = replace(RECIPE, decoder="dark", training=replace(RECIPE.training, epochs=1))
    _, evaluation = run_training(tmp_path, recipe, training_people, people, device="cpu", progress=False)
    assert capfd.readouterr() == ("", "")
    assert len(evaluation.poses) == len(people.people)
