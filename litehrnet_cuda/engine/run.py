"""A training run from data to pictures: what `litehrnet train` and `litehrnet demo` do."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from litehrnet_cuda.data.annotations import PoseAnnotations
from litehrnet_cuda.data.coco import CocoKeypoints
from litehrnet_cuda.data.images import encode_image
from litehrnet_cuda.data.pose_dataset import PoseDataset
from litehrnet_cuda.engine.distributed import ALONE, Processes
from litehrnet_cuda.engine.evaluate import Evaluation, evaluate, natural_metric, why_not_pckh
from litehrnet_cuda.engine.interruption import orderly_stops, plain_failures
from litehrnet_cuda.engine.learner import require_fitting
from litehrnet_cuda.engine.log import TrainingLog, curve
from litehrnet_cuda.engine.recipe import Recipe
from litehrnet_cuda.engine.recipe_files import to_json
from litehrnet_cuda.engine.report import predictions_beside_truth, worst_and_best
from litehrnet_cuda.engine.run_files import RunFiles
from litehrnet_cuda.engine.start import Start, state_to_go_on_from, take_data
from litehrnet_cuda.engine.train import ADVICE, Validation, train
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.files import output_folder, written_whole
from litehrnet_cuda.models.checkpoint_files import CheckpointMetadata
from litehrnet_cuda.models.checkpoints import save_checkpoint
from litehrnet_cuda.models.litehrnet import PoseNetwork
from litehrnet_cuda.models.registry import create_model
from litehrnet_cuda.predictors.arguments import choose_device
from litehrnet_cuda.predictors.pose_estimator import PoseEstimator
from litehrnet_cuda.visualize import plot_training_curve

MAX_CACHE_BYTES = 2 * 1024**3  # of decoded images kept in memory


def run_training(
    folder: str | Path,
    recipe: Recipe,
    training_people: PoseAnnotations,
    validation_people: PoseAnnotations,
    *,
    device: torch.device | str | None = None,
    start: Start = "auto",
    processes: Processes = ALONE,
    progress: bool = True,
) -> tuple[RunFiles, Evaluation]:
    """Trains a network, evaluates it, and leaves checkpoint, log, metrics and pictures.

    A run that was stopped goes on where it was when it is called again.

    Args:
        folder: for the results; created.
        recipe: see :class:`~litehrnet_cuda.engine.recipe.Recipe`.
        training_people: to learn from.
        validation_people: to measure with, in their annotated boxes.
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
        return _run(folder, recipe, training_people, validation_people, device, start, processes, progress)


def _run(
    folder: str | Path,
    recipe: Recipe,
    training_people: PoseAnnotations,
    validation_people: PoseAnnotations,
    device: torch.device | str | None,
    start: Start,
    processes: Processes,
    progress: bool,
) -> tuple[RunFiles, Evaluation]:
    chosen_device = choose_device(device)
    config = recipe.training
    for people in (training_people, validation_people):
        _require_kind(people, recipe)
    files = RunFiles(output_folder(folder) if processes.first else Path(folder))
    state = state_to_go_on_from(files, recipe, start)
    changes = take_data(
        *(state, files, start),
        people=len(training_people.people),
        data={"train": training_people.digest, "val": validation_people.digest},
        measure={
            "metric": natural_metric(validation_people),
            "boxes": "annotated",
            "decoder": recipe.decoder,
            "flip_test": recipe.flip_test,
        },
    )
    dataset = _dataset(training_people, recipe)
    if config.bad_images == "stop":
        validation_people.require_images(person.image_id for person in validation_people.people)
    keypoint_set = training_people.keypoint_set
    torch.manual_seed(config.seed)
    model = create_model(
        recipe.model,
        num_outputs=len(keypoint_set),
        with_cp=config.gradient_checkpointing,
        device=chosen_device,
    )
    if state.learner:
        try:
            require_fitting(state.learner, model)
        except InputError as error:
            raise InputError(f"{files.state}: {error}; choose another --out, or train anew with --restart") from None
    processes.wait()  # until all have looked at the files, and only then:
    if processes.first:
        _prepare_folder(files, recipe, anew=not state.learner)
        for line in filter(None, (*changes, why_not_pckh(validation_people))):
            _say(line)
    metadata = CheckpointMetadata(
        variant=recipe.model,
        task="pose",
        num_outputs=len(keypoint_set),
        keypoint_set=keypoint_set,
        input_size=recipe.input_size,
    )
    said: set[int] = set()  # images that were reported

    def measured(estimator: PoseEstimator) -> Evaluation:
        found = evaluate(
            estimator,
            validation_people,
            workers=config.workers,
            bad_images=config.bad_images,
            processes=processes,
            progress=progress,
        )
        if processes.first:
            for image_id, problem in found.skipped.items():
                if image_id not in said:
                    _say(f"skipped: {problem}")
        said.update(found.skipped)
        return found

    def save_and_measure(network: PoseNetwork) -> Validation:
        if processes.first:
            save_checkpoint(network, files.checkpoint, metadata)  # so that a run which is stopped leaves something
        estimator = PoseEstimator(
            network,
            input_size=recipe.input_size,
            keypoint_set=keypoint_set,
            decoder=recipe.decoder,
            flip_test=recipe.flip_test,
            device=chosen_device,
        )
        found = measured(estimator)
        return Validation({**found.metrics, **_skipped(found)}, found.score, found.score_name)

    def keep_best(network: PoseNetwork) -> None:
        save_checkpoint(network, files.best, metadata)

    log = TrainingLog(files.log, tensorboard=files.tensorboard, progress=progress)
    history = train(
        model,
        dataset,
        config,
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
            save_checkpoint(model, files.checkpoint, metadata)
        processes.wait()
        estimator = PoseEstimator(
            None, checkpoint=files.checkpoint, decoder=recipe.decoder, flip_test=recipe.flip_test, device=chosen_device
        )
        evaluation = measured(estimator)
        if processes.first:
            _show(files, recipe, history, estimator, evaluation, validation_people.without_images(evaluation.skipped))
    return files, evaluation


def _show(
    files: RunFiles,
    recipe: Recipe,
    history: list[dict[str, Any]],
    estimator: PoseEstimator,
    evaluation: Evaluation,
    people: PoseAnnotations,
) -> None:
    """Leaves figures and pictures of a training that is done."""
    with written_whole(files.metrics) as draft:
        figures = {"boxes": evaluation.boxes, "flip_test": recipe.flip_test, **_skipped(evaluation)}
        draft.write_text(json.dumps({**figures, **evaluation.metrics}, indent=1) + "\n")
    with written_whole(files.curve) as draft:
        plot_training_curve(curve(history), draft, evaluation.score_name)
    with written_whole(files.predictions) as draft:
        draft.write_bytes(encode_image(predictions_beside_truth(estimator, people), ".png"))
    with written_whole(files.worst_and_best) as draft:
        draft.write_bytes(encode_image(worst_and_best(evaluation, people), ".png"))


def _skipped(evaluation: Evaluation) -> dict[str, int]:
    """How many images are missing from the figures, where there are any."""
    return {"skipped_images": len(evaluation.skipped)} if evaluation.skipped else {}


def _say(line: str) -> None:
    """A line on standard error, above a progress bar if there is one."""
    tqdm.write(line, file=sys.stderr)


def _require_kind(people: PoseAnnotations, recipe: Recipe) -> None:
    """Compares what a recipe is for with the people it is to be used for."""
    kind = "coco" if isinstance(people, CocoKeypoints) else "mpii"
    if recipe.data not in ("any", kind):
        raise InputError(
            f"{people.annotation_file}: expected people in the form of {recipe.data.upper()}, which the recipe is for, "
            f"got {kind.upper()}'s; choose a recipe for these, or use this one all the same with --set data=any"
        )
    if isinstance(people, CocoKeypoints) and people.box_convention != recipe.box_convention:
        raise InputError(
            f"{people.annotation_file}: expected boxes that are clipped as the recipe says (box_convention = "
            f"{recipe.box_convention!r}), got {people.box_convention!r}"
        )


def _prepare_folder(files: RunFiles, recipe: Recipe, *, anew: bool) -> None:
    if anew:
        files.clear()  # what is here after a failure is of this run
    for draft in files.folder.glob(".unfinished-*"):  # of a process that was killed
        draft.unlink(missing_ok=True)
    with written_whole(files.recipe) as draft:
        draft.write_text(to_json(recipe))


def _dataset(people: PoseAnnotations, recipe: Recipe) -> PoseDataset:
    return PoseDataset(
        people,
        recipe.input_size,
        sigma=recipe.sigma,
        augmentation=recipe.augmentation,
        mode=recipe.targets,
        seed=recipe.training.seed,
        cache_images=people.decoded_bytes < MAX_CACHE_BYTES,
        bad_images=recipe.training.bad_images,
    )
