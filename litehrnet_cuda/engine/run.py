"""A training run from data to pictures: what `litehrnet train` and `litehrnet demo` do."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch

from litehrnet_cuda.data.annotations import PoseAnnotations
from litehrnet_cuda.data.images import encode_image
from litehrnet_cuda.data.pose_dataset import PoseDataset
from litehrnet_cuda.engine.distributed import ALONE, Processes
from litehrnet_cuda.engine.evaluate import Evaluation, evaluate
from litehrnet_cuda.engine.log import TrainingLog, curve
from litehrnet_cuda.engine.recipe import Recipe
from litehrnet_cuda.engine.recipe_files import differences, recipe_of, to_json
from litehrnet_cuda.engine.report import predictions_beside_truth, worst_and_best
from litehrnet_cuda.engine.state import TrainingState
from litehrnet_cuda.engine.train import Validation, train
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

# "auto" goes on where an earlier run with the same recipe stopped, and refuses to replace one with another recipe;
# "resume" goes on with the recipe that is given, whatever the earlier one was; "anew" replaces what there is.
Start = Literal["auto", "resume", "anew"]


@dataclass(frozen=True)
class RunFiles:
    """Where a run leaves its results."""

    folder: Path

    @property
    def checkpoint(self) -> Path:
        """The trained weights, with what is needed to use them."""
        return self.folder / "model.safetensors"

    @property
    def best(self) -> Path:
        """The weights with the highest score in a validation."""
        return self.folder / "best.safetensors"

    @property
    def state(self) -> Path:
        """What the training goes on from."""
        return self.folder / "state.pt"

    @property
    def recipe(self) -> Path:
        """Everything that decided the outcome, beside the data."""
        return self.folder / "recipe.json"

    @property
    def log(self) -> Path:
        """One JSON object per epoch."""
        return self.folder / "log.jsonl"

    @property
    def tensorboard(self) -> Path:
        """A folder of TensorBoard's files, where it is installed."""
        return self.folder / "tensorboard"

    @property
    def metrics(self) -> Path:
        """Average precision on the validation people."""
        return self.folder / "metrics.json"

    @property
    def curve(self) -> Path:
        """Loss and average precision over the steps."""
        return self.folder / "curve.png"

    @property
    def predictions(self) -> Path:
        """Predictions beside the truth."""
        return self.folder / "predictions.png"

    @property
    def worst_and_best(self) -> Path:
        """The people that were found worst, and those that were found best."""
        return self.folder / "worst_and_best.png"

    def clear(self) -> None:
        """Removes what an earlier run left."""
        pictures = (self.curve, self.predictions, self.worst_and_best)
        for file in (self.checkpoint, self.best, self.state, self.log, self.metrics, *pictures):
            file.unlink(missing_ok=True)
        shutil.rmtree(self.tensorboard, ignore_errors=True)


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
) -> tuple[RunFiles, Evaluation | None]:
    """Trains a network, evaluates it, and leaves checkpoint, log, metrics and pictures.

    A run that was stopped goes on where it was when it is called again.

    Args:
        folder: for the results; created.
        recipe: see :class:`~litehrnet_cuda.engine.recipe.Recipe`.
        training_people: to learn from.
        validation_people: to measure with, in their annotated boxes.
        device: by default a CUDA device if there is one.
        start: ``"auto"`` goes on from the state in the folder, if it is of the same recipe; ``"resume"`` goes on with
            this recipe even if it is another; ``"anew"`` replaces what an earlier run left.
        processes: that train together; the first one evaluates and writes, the others return no evaluation.
        progress: show progress bars.

    Raises:
        InputError: for a folder, data or recipe that cannot be used, or a run that cannot go on.
        Interrupted: a ``KeyboardInterrupt``, after the state is saved.
    """
    chosen_device = choose_device(device)
    files = RunFiles(output_folder(folder) if processes.first else Path(folder))
    state = _state_to_go_on_from(files, recipe, len(training_people.people), start)
    dataset = _dataset(training_people, recipe)
    validation_people.require_images(person.image_id for person in validation_people.people)
    processes.wait()  # until all have looked at the files, and only then:
    if processes.first:
        _prepare_folder(files, recipe, anew=not state.learner)
    keypoint_set = training_people.keypoint_set
    torch.manual_seed(recipe.training.seed)
    model = create_model(
        recipe.model,
        num_outputs=len(keypoint_set),
        with_cp=recipe.training.gradient_checkpointing,
        device=chosen_device,
    )
    metadata = CheckpointMetadata(
        variant=recipe.model,
        task="pose",
        num_outputs=len(keypoint_set),
        keypoint_set=keypoint_set,
        input_size=recipe.input_size,
    )

    def save_and_measure(network: PoseNetwork) -> Validation:
        save_checkpoint(network, files.checkpoint, metadata)  # so that a run which is stopped leaves something
        estimator = PoseEstimator(
            network,
            input_size=recipe.input_size,
            keypoint_set=keypoint_set,
            decoder=recipe.decoder,
            flip_test=recipe.flip_test,
            device=chosen_device,
        )
        found = evaluate(estimator, validation_people, workers=recipe.training.workers, progress=progress)
        return Validation(found.metrics, found.score, found.score_name)

    def keep_best(network: PoseNetwork) -> None:
        save_checkpoint(network, files.best, metadata)

    log = TrainingLog(files.log, tensorboard=files.tensorboard, progress=progress)
    history = train(
        model,
        dataset,
        recipe.training,
        validate=save_and_measure,
        keep_best=keep_best,
        log=log if processes.first else None,
        state=state,
        state_file=files.state,
        processes=processes,
    )
    if not processes.first:
        return files, None
    # From the file, not from memory, so that what is measured and shown is what the user gets.
    save_checkpoint(model, files.checkpoint, metadata)
    estimator = PoseEstimator(
        None, checkpoint=files.checkpoint, decoder=recipe.decoder, flip_test=recipe.flip_test, device=chosen_device
    )
    evaluation = evaluate(estimator, validation_people, workers=recipe.training.workers, progress=progress)
    with written_whole(files.metrics) as draft:
        figures = {"boxes": evaluation.boxes, "flip_test": recipe.flip_test, **evaluation.metrics}
        draft.write_text(json.dumps(figures, indent=1) + "\n")
    with written_whole(files.curve) as draft:
        plot_training_curve(curve(history), draft, evaluation.score_name)
    with written_whole(files.predictions) as draft:
        draft.write_bytes(encode_image(predictions_beside_truth(estimator, validation_people), ".png"))
    with written_whole(files.worst_and_best) as draft:
        draft.write_bytes(encode_image(worst_and_best(evaluation, validation_people), ".png"))
    return files, evaluation


def _state_to_go_on_from(files: RunFiles, recipe: Recipe, people: int, start: Start) -> TrainingState:
    """The state in the folder, or the beginning."""
    beginning = TrainingState(asdict(recipe), people)
    if start == "anew" or (start == "auto" and not files.state.exists()):
        if start == "auto" and files.checkpoint.exists():
            raise InputError(
                f"{files.folder}: holds weights ({files.checkpoint.name}) and no state to go on from; choose another "
                "--out, or replace them with --restart"
            )
        return beginning
    state = TrainingState.load(files.state)
    earlier = recipe_of(state.recipe, str(files.state))
    changed = differences(earlier, recipe)
    if "model" in changed:
        raise InputError(
            f"{files.state}: expected the state of a training of {recipe.model}, got one of {earlier.model}; choose "
            "another --out, or train anew with --restart"
        )
    if changed and start == "auto":
        listed = ", ".join(f"{name} was {before} and is {now}" for name, (before, now) in list(changed.items())[:4])
        raise InputError(
            f"{files.folder}: holds a training with another recipe ({listed}); choose another --out, go on all the "
            "same with --resume, or train anew with --restart"
        )
    state.recipe = asdict(recipe)
    return state


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
