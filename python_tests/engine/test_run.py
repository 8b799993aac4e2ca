"""A whole run, tiny: every file is there, valid, and the same when the run is repeated."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import pytest
from sample_checkpoints import assert_same

from litehrnet_cuda.codecs.heatmap import Decoder
from litehrnet_cuda.data.coco import CocoKeypoints
from litehrnet_cuda.data.generated.coco_folder import write_coco
from litehrnet_cuda.engine import pose_task, run
from litehrnet_cuda.engine.evaluate import Evaluation, evaluate
from litehrnet_cuda.engine.interruption import Interrupted
from litehrnet_cuda.engine.log import TrainingLog
from litehrnet_cuda.engine.recipe import Recipe, TrainConfig
from litehrnet_cuda.engine.recipe_files import load_recipe
from litehrnet_cuda.engine.run import run_training
from litehrnet_cuda.engine.run_files import RunFiles
from litehrnet_cuda.engine.start import Start
from litehrnet_cuda.engine.state import TrainingState
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import COCO, KeypointSet
from litehrnet_cuda.models.checkpoints import CheckpointMetadata, read_checkpoint, read_metadata
from litehrnet_cuda.predictors.pose_estimator import PoseEstimator

RECIPE = Recipe(
    model="naive_litehrnet_18",
    input_size=(64, 32),
    sigma=1.0,
    decoder="udp",
    training=TrainConfig(epochs=2, batch_size=3, seed=3),
)
FILES = {"model.safetensors", "best.safetensors", "state.pt", "recipe.json", "log.jsonl", "metrics.json"}
FILES |= {"curve.png", "predictions.png", "worst_and_best.png"}


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"tensorboard"}  # which is there where it is installed


def run_of(folder: Path, recipe: Recipe, *people: CocoKeypoints, **options: Any) -> tuple[RunFiles, Evaluation]:
    files, evaluation = run_training(folder, recipe, *people, device="cpu", progress=False, **options)
    return files, evaluation


@pytest.fixture(scope="module")
def training_people(tmp_path_factory: pytest.TempPathFactory) -> CocoKeypoints:
    folder = tmp_path_factory.mktemp("train")
    return CocoKeypoints(write_coco(folder, 4, seed=1, size=(160, 120)), folder / "train")


@pytest.fixture(scope="module")
def outcome(
    training_people: CocoKeypoints, people: CocoKeypoints, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunFiles, Evaluation]:
    folder = tmp_path_factory.mktemp("run") / "new" / "folder"
    return run_of(folder, RECIPE, training_people, people)


def test_the_folder_holds_the_files_and_nothing_else(outcome: tuple[RunFiles, Evaluation]) -> None:
    files, _ = outcome
    assert names_in(files.folder) == FILES
    named = {files.checkpoint, files.recipe, files.log, files.metrics, files.curve, files.predictions}
    named |= {files.best, files.state, files.worst_and_best}
    assert named == {files.folder / name for name in FILES}


def test_the_checkpoint_says_how_it_is_used(outcome: tuple[RunFiles, Evaluation]) -> None:
    files, _ = outcome
    expected = CheckpointMetadata(
        "naive_litehrnet_18", "pose", 17, COCO, (64, 32), box_convention="mmpose1", decoder="udp"
    )
    assert read_metadata(files.checkpoint) == expected
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
    figures = {name: None if value < 0 else value for name, value in evaluation.metrics.items()}
    assert json.loads(files.metrics.read_text()) == {"boxes": "annotated", "flip_test": True, **figures}
    assert load_recipe(files.recipe) == RECIPE
    epochs = list(map(json.loads, files.log.read_text().splitlines()))
    steps = len(training_people.people) // 3
    assert [(row["epoch"], row["step"]) for row in epochs] == [(1, steps), (2, 2 * steps)]
    assert {name: epochs[-1][name] for name in evaluation.metrics} == evaluation.metrics
    for row in epochs:
        assert len(row["loss_curve"]) == min(10, steps)
        assert row["loss"] == pytest.approx(sum(row["loss_curve"]) / len(row["loss_curve"]), rel=0.5)


def test_the_log_says_which_boxes(outcome: tuple[RunFiles, Evaluation]) -> None:
    files, _ = outcome
    assert [json.loads(line)["measured_in"] for line in files.log.read_text().splitlines()] == ["annotated boxes"] * 2


@pytest.mark.parametrize(("seconds", "there"), [(0.0, True), (60.0, False)])
def test_a_run_that_is_stopped_leaves_pictures_of_its_validations(
    training_people: CocoKeypoints,
    people: CocoKeypoints,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    there: bool,
) -> None:
    monkeypatch.setattr(run, "TrainingLog", Stopped)
    monkeypatch.setattr(run, "SECONDS_BETWEEN_PICTURES", seconds)
    with pytest.raises(Interrupted):
        run_of(tmp_path, RECIPE, training_people, people)
    pictures = {"curve.png", "predictions.png", "worst_and_best.png"}
    assert names_in(tmp_path) & pictures == (pictures if there else set())


def test_a_run_starts_from_weights_and_goes_on_without_them(
    outcome: tuple[RunFiles, Evaluation],
    training_people: CocoKeypoints,
    people: CocoKeypoints,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    weights = tmp_path / "weights.safetensors"
    shutil.copy(outcome[0].checkpoint, weights)
    recipe = replace(RECIPE, training=replace(RECIPE.training, weights=str(weights)))
    with monkeypatch.context() as patch:
        patch.setattr(run, "TrainingLog", Stopped)
        with pytest.raises(Interrupted):
            run_of(tmp_path / "out", recipe, training_people, people)
    whole, _ = run_of(tmp_path / "whole", recipe, training_people, people)
    assert f"starting from {weights}: " in capsys.readouterr().err
    weights.unlink()
    files, _ = run_of(tmp_path / "out", recipe, training_people, people)
    assert_same(read_checkpoint(files.checkpoint), read_checkpoint(whole.checkpoint))
    other = read_checkpoint(outcome[0].checkpoint)  # of a run that started from random weights
    assert not all(value.equal(other[name]) for name, value in read_checkpoint(whole.checkpoint).items())


def test_pictures_are_pictures(outcome: tuple[RunFiles, Evaluation]) -> None:
    files, _ = outcome
    for path in (files.curve, files.predictions, files.worst_and_best):
        picture = cv2.imread(str(path))
        assert picture is not None, path.name
        assert picture.std() > 5, f"{path.name} is not blank"
    # Four pairs of 160 pixels, in four columns.
    assert cv2.imread(str(files.predictions)).shape[1] > 4 * 160


def test_equal_recipes_give_equal_networks_to_the_bit(
    outcome: tuple[RunFiles, Evaluation], training_people: CocoKeypoints, people: CocoKeypoints, tmp_path: Path
) -> None:
    first, evaluation = outcome
    second, again = run_of(tmp_path, RECIPE, training_people, people)
    assert second.checkpoint.read_bytes() == first.checkpoint.read_bytes()
    weights = read_checkpoint(second.checkpoint)
    assert again.results == evaluation.results
    assert second.metrics.read_bytes() == first.metrics.read_bytes()
    assert second.predictions.read_bytes() == first.predictions.read_bytes()

    other_seed = replace(RECIPE, training=replace(RECIPE.training, seed=4, epochs=1))
    with pytest.raises(InputError, match=r"holds a training with another recipe \(training.epochs was 2 and is 1, "):
        run_of(tmp_path, other_seed, training_people, people)
    # In the same folder: files of the earlier run are replaced.
    third, _ = run_of(tmp_path, other_seed, training_people, people, start="anew")
    assert names_in(tmp_path) == FILES
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
    with pytest.raises(InputError, match="device: expected one that can be used here"):
        run_training(tmp_path / "out", RECIPE, training_people, people, device="gpu", progress=False)
    assert not (tmp_path / "out").exists()


def test_a_silent_run_prints_nothing(
    training_people: CocoKeypoints, people: CocoKeypoints, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = replace(RECIPE, decoder="dark", training=replace(RECIPE.training, epochs=1))
    _, evaluation = run_of(tmp_path, recipe, training_people, people)
    assert capfd.readouterr() == ("", "")
    assert len(evaluation.poses) == len(people.people)


# ---------------------------------------------------------------------------------------------------------- going on


class Stopped(TrainingLog):
    """Ends the run, as Ctrl-C does, after some steps."""

    steps = 3

    def advance(self) -> None:
        super().advance()
        self.steps -= 1
        if self.steps == 0:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def stopped(
    training_people: CocoKeypoints, people: CocoKeypoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The folder of a run that was stopped in its second epoch."""
    with monkeypatch.context() as patch:
        patch.setattr(run, "TrainingLog", Stopped)
        with pytest.raises(Interrupted, match=r"state.pt \(epoch 2, step 3 of 4\)$"):
            run_of(tmp_path, RECIPE, training_people, people)
    (tmp_path / ".unfinished-1-2.pt").touch()  # as a process that is killed leaves it
    return tmp_path


@pytest.mark.parametrize("start", ["auto", "resume"])
def test_a_run_goes_on_as_if_it_had_not_stopped(
    outcome: tuple[RunFiles, Evaluation],
    stopped: Path,
    training_people: CocoKeypoints,
    people: CocoKeypoints,
    start: Start,
) -> None:
    expected, _ = outcome
    workers = replace(RECIPE, training=replace(RECIPE.training, workers=1))  # which makes no difference
    files, _ = run_of(stopped, workers, training_people, people, start=start)
    assert names_in(stopped) == FILES
    for name in ("model.safetensors", "best.safetensors", "metrics.json", "predictions.png"):
        assert (files.folder / name).read_bytes() == (expected.folder / name).read_bytes(), name

    def log(file: Path) -> list[dict[str, Any]]:
        return [json.loads(line) | {"images_per_second": 0} for line in file.read_text().splitlines()]

    assert log(files.log) == log(expected.log)


def test_a_finished_run_stays_as_it_is(
    outcome: tuple[RunFiles, Evaluation], training_people: CocoKeypoints, people: CocoKeypoints
) -> None:
    files, evaluation = outcome
    before = {path.name: path.read_bytes() for path in files.folder.iterdir() if path.is_file()}
    _, again = run_of(files.folder, RECIPE, training_people, people)
    assert again.metrics == evaluation.metrics
    assert {path.name: path.read_bytes() for path in files.folder.iterdir() if path.is_file()} == before


def test_weights_without_a_state_are_not_replaced_unasked(
    training_people: CocoKeypoints, people: CocoKeypoints, tmp_path: Path
) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    with pytest.raises(InputError, match=r"holds weights \(model\.safetensors\) and no state to go on from"):
        run_of(tmp_path, RECIPE, training_people, people)
    absent = CocoKeypoints(training_people.annotation_file, tmp_path)
    with pytest.raises(InputError, match="is missing; check the image folder"):  # nor before all is there
        run_of(tmp_path, RECIPE, absent, people, start="anew")
    with pytest.raises(InputError, match="is missing; check the image folder"):
        run_of(tmp_path, RECIPE, training_people, absent, start="anew")
    assert (tmp_path / "model.safetensors").read_bytes() == b"weights"


def test_a_run_goes_on_with_another_recipe_if_it_is_asked_to(
    stopped: Path, training_people: CocoKeypoints, people: CocoKeypoints
) -> None:
    longer = replace(RECIPE, training=replace(RECIPE.training, epochs=3, batch_size=2))
    files, _ = run_of(stopped, longer, training_people, people, start="resume")
    rows = [json.loads(line) for line in files.log.read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    # Three steps were taken before, two and one; of the second epoch's batches of two, one is done.
    in_an_epoch = len(training_people.people) // 2
    assert [row["step"] for row in rows] == [2, 3 + in_an_epoch - 1, 3 + in_an_epoch - 1 + in_an_epoch]
    assert load_recipe(files.recipe) == longer
    assert TrainingState.load(files.state).epoch == 4


def test_what_there_is_to_go_on_from_must_fit(
    stopped: Path, training_people: CocoKeypoints, people: CocoKeypoints, tmp_path_factory: pytest.TempPathFactory
) -> None:
    before = (stopped / "state.pt").read_bytes()
    with pytest.raises(InputError, match=r"of a training of litehrnet_18, got one of naive_litehrnet_18; choose"):
        run_of(stopped, replace(RECIPE, model="litehrnet_18"), training_people, people, start="resume")
    with pytest.raises(
        InputError,
        match=r"other data \(train was \d+ people with 17 joints in 4 images, \w+, and is .*\); choose another",
    ):
        run_of(stopped, RECIPE, people, people)
    with pytest.raises(
        InputError, match=r"state.pt: expected the state of a training to go on from, and there is none"
    ):
        run_of(tmp_path_factory.mktemp("empty"), RECIPE, training_people, people, start="resume")
    assert (stopped / "state.pt").read_bytes() == before


def test_checkpointed_blocks_learn_the_same(
    outcome: tuple[RunFiles, Evaluation], training_people: CocoKeypoints, people: CocoKeypoints, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, training=replace(RECIPE.training, epochs=1, warm_up_steps=0))
    losses = []
    for checkpointing in (False, True):
        training = replace(recipe.training, gradient_checkpointing=checkpointing)
        folder = tmp_path / str(checkpointing)
        files, _ = run_of(folder, replace(recipe, training=training), training_people, people)
        losses.append(json.loads(files.log.read_text())["loss_curve"])
    assert len(losses[0]) == 2
    assert losses[0] == losses[1]  # the same operations, some of them twice


def test_average_weights_are_what_is_saved(
    training_people: CocoKeypoints, people: CocoKeypoints, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, training=replace(RECIPE.training, epochs=1, ema=0.5))
    files, _ = run_of(tmp_path, recipe, training_people, people)
    learner = TrainingState.load(files.state).learner
    for name, value in read_checkpoint(files.checkpoint).items():
        assert value.equal(learner["average"]["values"][name])
    assert not all(value.equal(learner["network"][name]) for name, value in read_checkpoint(files.checkpoint).items())


# -------------------------------------------------------------------------------------------- other data, other measure


def test_other_data_are_refused_unless_they_are_asked_for(
    stopped: Path, training_people: CocoKeypoints, people: CocoKeypoints, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = copy.copy(training_people)  # as many people, one of them annotated anew
    moved.people = [replace(person, box=person.box + (index == 0)) for index, person in enumerate(moved.people)]
    before = (stopped / "state.pt").read_bytes()
    with pytest.raises(InputError, match=r"holds a training with other data \(train was \d+ people .*; choose another"):
        run_of(stopped, RECIPE, moved, people)
    assert (stopped / "state.pt").read_bytes() == before
    fewer = copy.copy(training_people)
    fewer.people = training_people.people[:-1]
    files, _ = run_of(stopped, RECIPE, fewer, people, start="resume")
    said = capsys.readouterr().err
    assert re.search(r"^going on with other data than the training was begun with: train was \d+ people", said, re.M)
    assert "afresh" not in said, "the people to validate with are the same"
    state = TrainingState.load(files.state)
    assert (state.people, state.data["train"]) == (len(fewer.people), fewer.digest)
    run_of(stopped, RECIPE, fewer, people)  # and from now on these are its data


def test_a_score_by_another_measure_starts_afresh(
    stopped: Path, training_people: CocoKeypoints, people: CocoKeypoints, capsys: pytest.CaptureFixture[str]
) -> None:
    state = TrainingState.load(stopped / "state.pt")
    assert state.measure == {
        "metric": "coco", "boxes": "annotated", "decoder": "udp", "flip_test": True, "data": people.digest
    }  # fmt: skip
    state.best = 2.0  # no score is that high
    state.save(stopped / "state.pt")
    (stopped / "best.safetensors").write_bytes(b"of the other measure")
    files, evaluation = run_of(stopped, replace(RECIPE, decoder="dark"), training_people, people, start="resume")
    assert (
        "the best score so far, 2.000, no longer compares (other decoder): it starts afresh" in capsys.readouterr().err
    )
    assert TrainingState.load(files.state).best == evaluation.score
    assert files.best.read_bytes() == files.checkpoint.read_bytes()


def test_a_score_by_the_same_measure_stays(
    stopped: Path, training_people: CocoKeypoints, people: CocoKeypoints, capsys: pytest.CaptureFixture[str]
) -> None:
    state = TrainingState.load(stopped / "state.pt")
    state.best = 2.0
    state.save(stopped / "state.pt")
    run_of(stopped, RECIPE, training_people, people)
    assert TrainingState.load(stopped / "state.pt").best == 2.0
    assert capsys.readouterr().err == ""


def test_the_state_of_a_network_for_other_joints_is_refused(
    stopped: Path, training_people: CocoKeypoints, people: CocoKeypoints
) -> None:
    joints = KeypointSet("few", COCO.names[:5], ((1, 2), (3, 4)), COCO.sigmas[:5])
    few = [copy.copy(one) for one in (training_people, people)]
    for one in few:
        one.keypoint_set = joints
        one.people = [replace(p, keypoints=p.keypoints[:5], visible=p.visible[:5]) for p in one.people]
    before = {path: path.read_bytes() for path in stopped.iterdir() if path.is_file()}
    message = r"state.pt: .* network with \S+ of shape \[5, .*other joints or classes, .*--restart$"
    with pytest.raises(InputError, match=message):
        run_of(stopped, RECIPE, *few, start="resume")
    assert {path: path.read_bytes() for path in stopped.iterdir() if path.is_file()} == before


def test_a_recipe_is_for_one_kind_of_data(
    training_people: CocoKeypoints, people: CocoKeypoints, tmp_path: Path
) -> None:
    for recipe, message in (
        (replace(RECIPE, data="mpii"), r"in the form of MPII, which the recipe is for, got COCO's; .* --set data=any$"),
        (
            replace(RECIPE, box_convention="official"),
            r"clipped as the recipe says \(box_convention = 'official'\)",
        ),
    ):
        with pytest.raises(InputError, match=message):
            run_of(tmp_path / "out", recipe, training_people, people)
    assert not (tmp_path / "out").exists()


# --------------------------------------------------------------------------------------------------- what gives out


def test_bad_images_are_skipped_in_validation_too_and_said_once(
    training_people: CocoKeypoints, people: CocoKeypoints, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for entry in people.images.values():
        (tmp_path / entry.path.name).write_bytes(entry.path.read_bytes())
    first = people.images[people.people[0].image_id].path.name
    (tmp_path / first).unlink()
    broken = CocoKeypoints(people.annotation_file, tmp_path)
    with pytest.raises(InputError, match="is missing; check the image folder"):
        run_of(tmp_path / "stop", RECIPE, training_people, broken)
    recipe = replace(RECIPE, training=replace(RECIPE.training, bad_images="skip"))
    files, evaluation = run_of(tmp_path / "skip", recipe, training_people, broken)
    assert names_in(files.folder) == FILES
    assert capfd.readouterr().err.count(f"skipped: {tmp_path / first}: image") == 1  # of three validations
    assert len(evaluation.poses) < len(people.people)
    assert json.loads(files.metrics.read_text())["skipped_images"] == 1
    assert [json.loads(line)["skipped_images"] for line in files.log.read_text().splitlines()] == [1, 1]


def test_why_it_is_not_pckh_is_said_before_the_training(
    training_people: CocoKeypoints,
    people: CocoKeypoints,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(pose_task, "why_not_pckh", lambda annotations: f"why of {annotations.annotation_file.name}")
    monkeypatch.setattr(run, "train", lambda *args, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_of(tmp_path, RECIPE, training_people, people)
    assert capsys.readouterr().err == "why of person_keypoints_val.json\n"


@pytest.mark.parametrize("name", ["PoseDataset", "create_model", "predictions_beside_truth"])
def test_memory_that_gives_out_before_or_after_the_loop_is_one_sentence(
    training_people: CocoKeypoints, people: CocoKeypoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise MemoryError

    record = {"step": 1, "loss": 1.0, "loss_curve": [1.0], "learning_rate": 0.1}
    monkeypatch.setattr(pose_task, name, fail)
    monkeypatch.setattr(run, "train", lambda *args, **options: [record])
    with pytest.raises(InputError, match=r"^out of memory: try a smaller --batch-size[^\n]*$") as stopped:
        run_of(tmp_path, RECIPE, training_people, people)
    done = f"the training is done, and its weights are in {tmp_path / 'model.safetensors'}"
    assert (done in str(stopped.value)) is (name == "predictions_beside_truth")


def test_ctrl_c_in_the_last_evaluation_says_that_the_training_is_done(
    training_people: CocoKeypoints, people: CocoKeypoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "train", lambda *args, **options: [])
    monkeypatch.setattr(pose_task, "evaluate", interrupted)
    with pytest.raises(Interrupted, match=r"^interrupted; the training is done, and its weights are in .*safetensors$"):
        run_of(tmp_path, RECIPE, training_people, people)
