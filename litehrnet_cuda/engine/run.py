"""A training run from data to pictures: what `litehrnet train` and `litehrnet demo` do."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any, overload

import torch
from torch import nn
from tqdm import tqdm

from litehrnet_cuda.data.annotations import PoseAnnotations
from litehrnet_cuda.data.images import encode_image
from litehrnet_cuda.data.masks import MaskAnnotations
from litehrnet_cuda.engine.distributed import ALONE, Processes
from litehrnet_cuda.engine.evaluate import Evaluation
from litehrnet_cuda.engine.evaluate_segmentation import SegmentationEvaluation
from litehrnet_cuda.engine.interruption import orderly_stops, plain_failures
from litehrnet_cuda.engine.log import TrainingLog, curve, score_label
from litehrnet_cuda.engine.pose_task import PoseTask
from litehrnet_cuda.engine.recipe import Recipe
from litehrnet_cuda.engine.recipe_files import AnyRecipe, to_json
from litehrnet_cuda.engine.run_files import RunFiles
from litehrnet_cuda.engine.segmentation_recipe import SegmentationRecipe
from litehrnet_cuda.engine.segmentation_task import SegmentationTask
from litehrnet_cuda.engine.start import Start, load_weights, require_fitting_state, state_to_go_on_from, take_data
from litehrnet_cuda.engine.task import Found, Task
from litehrnet_cuda.engine.train import ADVICE, Validation, train
from litehrnet_cuda.files import output_folder, written_whole
from litehrnet_cuda.metrics.undefined import with_nulls
from litehrnet_cuda.models.checkpoints import save_checkpoint
from litehrnet_cuda.predictors.arguments import choose_device
from litehrnet_cuda.visualize import plot_training_curve

SECONDS_BETWEEN_PICTURES = 60.0  # at least, so that drawing, which takes a few, costs little beside short epochs


@overload
def run_training(
    folder: str | Path,
    recipe: Recipe,
    training: PoseAnnotations,
    validation: PoseAnnotations,
    *,
    device: torch.device | str | None = ...,
    start: Start = ...,
    processes: Processes = ...,
    progress: bool = ...,
) -> tuple[RunFiles, Evaluation]: ...


@overload
def run_training(
    folder: str | Path,
    recipe: SegmentationRecipe,
    training: MaskAnnotations,
    validation: MaskAnnotations,
    *,
    device: torch.device | str | None = ...,
    start: Start = ...,
    processes: Processes = ...,
    progress: bool = ...,
) -> tuple[RunFiles, SegmentationEvaluation]: ...


def run_training(
    folder: str | Path,
    recipe: AnyRecipe,
    training: Any,
    validation: Any,
    *,
    device: torch.device | str | None = None,
    start: Start = "auto",
    processes: Processes = ALONE,
    progress: bool = True,
) -> tuple[RunFiles, Any]:
    """Trains a network, evaluates it, and leaves checkpoint, log, metrics and pictures.

    A run that was stopped goes on where it was when it is called again.

    Args:
        folder: for the results; created.
        recipe: see :class:`~litehrnet_cuda.engine.recipe.Recipe` and
            :class:`~litehrnet_cuda.engine.segmentation_recipe.SegmentationRecipe`, which says what is trained for.
        training: people or masks to learn from.
        validation: people or masks to measure with; people in their annotated boxes.
        device: by default a CUDA device if there is one.
        start: ``"auto"`` goes on from the state in the folder, if it is of the same recipe and data; ``"resume"`` goes
            on with this recipe and these data even if they are others; ``"anew"`` replaces what an earlier run left.
        processes: that train and evaluate together; the first one writes.
        progress: show progress bars.

    Raises:
        InputError: for a folder, data or recipe that cannot be used, a run that cannot go on, or what gives out.
        Interrupted: a ``KeyboardInterrupt``, after the state is saved.
    """
    with plain_failures(ADVICE):
        chosen_device = choose_device(device)
        task: Task[Any, Any]
        if isinstance(recipe, SegmentationRecipe):
            task = SegmentationTask(recipe, training, validation)
        else:
            task = PoseTask(recipe, training, validation)
        return _run(folder, recipe, task, chosen_device, start, processes, progress)


def _run(
    folder: str | Path,
    recipe: AnyRecipe,
    task: Task[Any, Any],
    device: torch.device,
    start: Start,
    processes: Processes,
    progress: bool,
) -> tuple[RunFiles, Any]:
    files = RunFiles(Path(folder))
    state = state_to_go_on_from(files, recipe, start)
    changes = take_data(state, files, start, people=task.samples, data=task.digests, measure=task.measure)
    dataset = task.dataset()
    torch.manual_seed(recipe.training.seed)
    model = task.create_network(device)
    require_fitting_state(state, files, model)
    changes += load_weights(model, recipe.training.weights, state)
    if processes.first:
        output_folder(folder)
    processes.wait()  # until all have looked at the files, and only then:
    if processes.first:
        _prepare_folder(files, recipe, anew=not state.learner)
        for line in (*changes, *task.remarks):
            _say(line)
    said: set[int] = set()  # images that were reported
    pictured = time.monotonic()

    def measured(predictor: Any) -> Found:
        found: Found = task.evaluate(predictor, processes, progress)
        if processes.first:
            for number, problem in found.skipped.items():
                if number not in said:
                    _say(f"skipped: {problem}")
        said.update(found.skipped)
        return found

    def save_and_measure(network: nn.Module) -> Validation:
        if processes.first:
            save_checkpoint(network, files.checkpoint, task.metadata)  # so that a run which is stopped leaves something
        predictor = task.predictor(network, device)
        found = measured(predictor)

        def show(history: list[dict[str, Any]]) -> None:
            nonlocal pictured
            if time.monotonic() - pictured >= SECONDS_BETWEEN_PICTURES:
                _draw(files, task, history, predictor, found)
                pictured = time.monotonic()

        figures = {**found.metrics, **_skipped(found)}
        return Validation(figures, found.score, found.score_name, found.measured_in, show)

    def keep_best(network: nn.Module) -> None:
        save_checkpoint(network, files.best, task.metadata)

    log = TrainingLog(files.log, tensorboard=files.tensorboard, progress=progress)
    history = train(
        model,
        dataset,
        recipe.training,
        loss=task.loss,
        validate=save_and_measure,
        keep_best=keep_best,
        log=log if processes.first else None,
        state=state,
        state_file=files.state,
        processes=processes,
    )
    with orderly_stops(lambda: f"the training is done, and its weights are in {files.checkpoint}", ADVICE):
        # From the file, not from memory, so that what is measured and shown is what the user gets.
        if processes.first:
            save_checkpoint(model, files.checkpoint, task.metadata)
        processes.wait()
        predictor = task.predictor(files.checkpoint, device)
        found = measured(predictor)
        if processes.first:
            _show(files, task, history, predictor, found)
    return files, found


def _show(files: RunFiles, task: Task[Any, Any], history: list[dict[str, Any]], predictor: Any, found: Found) -> None:
    """Leaves figures and pictures of a training that is done."""
    with written_whole(files.metrics) as draft:
        figures = {**task.details(found), **_skipped(found), **with_nulls(found.metrics)}
        draft.write_text(json.dumps(figures, indent=1) + "\n")
    _draw(files, task, history, predictor, found)


def _draw(files: RunFiles, task: Task[Any, Any], history: list[dict[str, Any]], predictor: Any, found: Found) -> None:
    """Leaves pictures of a training, after a validation."""
    with written_whole(files.curve) as draft:
        plot_training_curve(curve(history), draft, score_label(found.score_name, found.measured_in))
    pictures = task.pictures(predictor, found)
    for file, picture in zip((files.predictions, files.worst_and_best), pictures, strict=True):
        with written_whole(file) as draft:
            draft.write_bytes(encode_image(picture, ".png"))


def _skipped(found: Found) -> dict[str, int]:
    """How many images are missing from the figures, where there are any."""
    return {"skipped_images": len(found.skipped)} if found.skipped else {}


def _say(line: str) -> None:
    """A line on standard error, above a progress bar if there is one."""
    tqdm.write(line, file=sys.stderr)


def _prepare_folder(files: RunFiles, recipe: AnyRecipe, *, anew: bool) -> None:
    if anew:
        files.clear()  # what is here after a failure is of this run
    for draft in files.folder.glob(".unfinished-*"):  # of a process that was killed
        draft.unlink(missing_ok=True)
    with written_whole(files.recipe) as draft:
        draft.write_text(to_json(recipe))
