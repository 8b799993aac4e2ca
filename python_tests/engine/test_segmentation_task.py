"""Training for segmentation in whole runs: files, what the file of weights says, going on, and two processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from mask_cases import write_part
from process_cases import learn_on_masks, stop_training_on_masks, train_on_masks
from processes import run_together

from litehrnet_cuda.classes import CITYSCAPES, ClassSet
from litehrnet_cuda.data.mask_augmentation import MaskAugmentation
from litehrnet_cuda.data.mask_datasets import find_mask_splits
from litehrnet_cuda.data.masks import MaskAnnotations
from litehrnet_cuda.engine import run
from litehrnet_cuda.engine.distributed import ALONE
from litehrnet_cuda.engine.evaluate_segmentation import SegmentationEvaluation, evaluate_segmentation
from litehrnet_cuda.engine.interruption import Interrupted
from litehrnet_cuda.engine.log import TrainingLog
from litehrnet_cuda.engine.recipe import Recipe, TrainConfig
from litehrnet_cuda.engine.run import run_training
from litehrnet_cuda.engine.run_files import RunFiles
from litehrnet_cuda.engine.segmentation_recipe import SegmentationRecipe
from litehrnet_cuda.engine.segmentation_task import SegmentationTask
from litehrnet_cuda.engine.start import state_to_go_on_from
from litehrnet_cuda.engine.state import TrainingState
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.models.checkpoints import CheckpointMetadata, read_metadata
from litehrnet_cuda.predictors.segmenter import Segmenter

RECIPE = SegmentationRecipe(
    model="naive_litehrnet_18",
    input_size=(32, 32),
    training=TrainConfig(epochs=2, batch_size=2, learning_rate=1e-3, warm_up_steps=1, seed=4, optimizer="sgd"),
)
SAME = ("model.safetensors", "best.safetensors", "metrics.json", "predictions.png", "worst_and_best.png")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("masks")
    write_part(folder, "train", 8)
    write_part(folder, "val", 2)
    return folder


def run_of(folder: Path, data: Path, recipe: SegmentationRecipe = RECIPE, **options: Any) -> Any:
    options = {"progress": False, **options}
    return run_training(folder, recipe, *find_mask_splits(data), device="cpu", **options)


@pytest.fixture(scope="module")
def outcome(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFiles, SegmentationEvaluation]:
    files, found = run_of(tmp_path_factory.mktemp("run"), data)
    return files, found


def test_what_is_measured_is_the_network_in_the_file(
    outcome: tuple[RunFiles, SegmentationEvaluation], data: Path
) -> None:
    files, found = outcome
    assert read_metadata(files.checkpoint) == CheckpointMetadata(
        *("naive_litehrnet_18", "segmentation", 3),
        input_size=(32, 32),
        class_set=ClassSet.numbered(3),
        head="fcn",
    )
    segmenter = Segmenter(checkpoint=files.checkpoint, device="cpu")
    again = evaluate_segmentation(segmenter, find_mask_splits(data)[1], progress=False)
    assert again.matrix.tolist() == found.matrix.tolist()
    metrics = json.loads(files.metrics.read_text())
    assert metrics == {"mode": "whole", "flip_test": False, **found.metrics}
    rows = [json.loads(line) for line in files.log.read_text().splitlines()]
    assert [row["step"] for row in rows] == [4, 8]
    assert rows[-1]["score"] == rows[-1]["mIoU"] == found.score
    assert rows[-1]["measured_in"] == "whole images"


def assert_same_file(one: Path, other: Path) -> None:
    """Without a listing of the differences, which takes pytest minutes."""
    same = one.read_bytes() == other.read_bytes()
    assert same, f"{one} and {other} differ"


class Stopped(TrainingLog):
    """Ends the run, as Ctrl-C does, after some steps."""

    steps = 5

    def advance(self) -> None:
        super().advance()
        self.steps -= 1
        if self.steps == 0:
            os.kill(os.getpid(), signal.SIGINT)


class Begun(TrainingLog):
    """Knows at which steps runs begin."""

    steps: ClassVar[list[int]] = []

    def begin(self, epochs: int, total_steps: int, step: int, history: list[dict[str, Any]]) -> None:
        self.steps.append(step)
        super().begin(epochs, total_steps, step, history)


def test_a_run_goes_on_as_if_it_had_not_stopped(
    outcome: tuple[RunFiles, SegmentationEvaluation], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout included, whose random numbers are those of the step."""
    with monkeypatch.context() as patch:
        patch.setattr(run, "TrainingLog", Stopped)
        with pytest.raises(Interrupted, match=r"state.pt \(epoch 2, step 5 of 8\)$"):
            run_of(tmp_path, data)
    torch.manual_seed(99)
    workers = replace(RECIPE, training=replace(RECIPE.training, workers=1))  # which makes no difference
    monkeypatch.setattr(run, "TrainingLog", Begun)
    files, _ = run_of(tmp_path, data, workers)
    assert Begun.steps == [5], "it did not begin anew"
    for name in SAME:
        assert_same_file(files.folder / name, outcome[0].folder / name)


RUN = """
import sys
from pathlib import Path
from test_segmentation_task import RECIPE, run_of, replace
recipe = replace(RECIPE, training=replace(RECIPE.training, save_every="1"))
if __name__ == "__main__":
    run_of(Path(sys.argv[1]), Path(sys.argv[2]), recipe, progress=True)
"""


def start(folder: Path, data: Path) -> subprocess.Popen[str]:
    """A run in a process of its own, in which nothing that other tests have put in place changes how networks run."""
    here = Path(__file__).parent
    path = os.pathsep.join([str(here.parents[1]), str(here.parent), str(here)])
    command = [sys.executable, "-c", RUN, str(folder), str(data)]
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, stderr=subprocess.PIPE, text=True)


def test_a_killed_run_goes_on_as_if_it_had_not_been(data: Path, tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = start(killed, data)
    deadline = time.monotonic() + 100
    while not (killed / "state.pt").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert (killed / "state.pt").exists()
    assert process.returncode == -signal.SIGKILL, "it was over before it could be killed"
    for folder in (killed, whole):
        with start(folder, data) as process:
            try:
                _, said = process.communicate(timeout=200)
            finally:
                process.kill()
        assert process.returncode == 0, said
        assert ("going on at step " in said) == (folder == killed)
    for name in SAME:
        assert_same_file(killed / name, whole / name)


def test_two_processes_do_what_one_does_with_twice_the_batch(data: Path, tmp_path: Path) -> None:
    """Without dropout, whose numbers are each process's own."""
    one = learn_on_masks(ALONE, data, 4)
    two, other = run_together(tmp_path, learn_on_masks, data, 2)
    for losses, weights in (two, other):
        # fp64 sums in another order, whose rounding the batch norms of few pixels and two steps enlarge; that of fp32
        # would be a hundred million times as large.
        torch.testing.assert_close(losses, one[0], rtol=1e-9, atol=0)
        for name, value in one[1].items():
            torch.testing.assert_close(weights[name], value, rtol=1e-8, atol=1e-8, msg=name)


@pytest.mark.slow
def test_two_processes_go_on_as_if_they_had_not_stopped(data: Path, tmp_path: Path) -> None:
    """With dropout, whose numbers differ between the processes."""
    for name in ("calls", "more", "last"):
        (tmp_path / name).mkdir()
    run_together(tmp_path / "calls", train_on_masks, data, tmp_path / "whole", RECIPE)
    said = run_together(tmp_path / "more", stop_training_on_masks, data, tmp_path / "parts", RECIPE)
    assert "epoch 2, step 3 of 4" in said[0]
    assert "interrupted" in said[1]
    run_together(tmp_path / "last", train_on_masks, data, tmp_path / "parts", RECIPE)
    for name in ("model.safetensors", "metrics.json"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_data_that_are_not_of_the_recipe_are_refused(data: Path, outcome: Any, tmp_path: Path) -> None:
    train, val = find_mask_splits(data)
    with pytest.raises(InputError, match="expected Cityscapes, which the recipe is for, got 3 classes"):
        SegmentationTask(replace(RECIPE, data="cityscapes"), train, val)
    other = MaskAnnotations(val.place, val.images, CITYSCAPES)
    with pytest.raises(InputError, match="to validate with too, got cityscapes"):
        SegmentationTask(RECIPE, train, other)
    files = RunFiles(tmp_path)
    TrainingState(asdict(Recipe()), 3).save(files.state)
    with pytest.raises(InputError, match="expected the state of a training of segmentation, got one of pose"):
        state_to_go_on_from(files, RECIPE, "resume")


def test_windows_and_heads_reach_the_network(data: Path) -> None:
    recipe = replace(RECIPE, mode="slide", head="resize_concat", iterative_head=False, augmentation=MaskAugmentation())
    task = SegmentationTask(recipe, *find_mask_splits(data))
    network = task.create_network(torch.device("cpu"))
    assert network.head == "resize_concat"
    assert not network.backbone.with_head
    predictor = task.predictor(network, torch.device("cpu"))
    assert (predictor.mode, predictor.window) == ("slide", (32, 32))
    assert task.measure["window"] == [32, 32]
