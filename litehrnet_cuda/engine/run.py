"""A training run from data to pictures: what `litehrnet train` and `litehrnet demo` do."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from litehrnet_cuda.codecs.heatmap import Decoder, HeatmapMode
from litehrnet_cuda.data.annotations import PoseAnnotations
from litehrnet_cuda.data.images import encode_image
from litehrnet_cuda.data.pose_dataset import Augmentation, PoseDataset
from litehrnet_cuda.engine.evaluate import Evaluation, evaluate
from litehrnet_cuda.engine.report import predictions_beside_truth
from litehrnet_cuda.engine.train import TrainConfig, train
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.files import output_folder, written_whole
from litehrnet_cuda.models.checkpoint_files import CheckpointMetadata
from litehrnet_cuda.models.checkpoints import save_checkpoint
from litehrnet_cuda.models.litehrnet import MIN_SIZE, PoseNetwork
from litehrnet_cuda.models.registry import create_model, get_variant
from litehrnet_cuda.predictors import MAX_SIZE, PoseEstimator, choose_device
from litehrnet_cuda.visualize import plot_training_curve

MAX_CACHE_BYTES = 2 * 1024**3  # of decoded images kept in memory


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the outcome of a run, beside the data.

    Args:
        model: name of the network.
        input_size: (width, height) of the crops in pixels.
        sigma: of the target heat maps, in heat-map pixels.
        decoder: used in validation; targets are drawn to suit it: ``"dark"`` needs unbiased ones, ``"udp"`` its own.
        flip_test: average with the mirrored image in validation, as the official evaluation does.
        augmentation: of the people.
        training: steps, learning rate and so on.
    """

    model: str = "litehrnet_18"
    input_size: tuple[int, int] = (192, 256)
    sigma: float = 2.0
    decoder: Decoder = "quarter"
    flip_test: bool = True
    augmentation: Augmentation = field(default_factory=Augmentation)
    training: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        get_variant(self.model)  # an unknown name is better said before the work than after it
        if not all(MIN_SIZE <= side <= MAX_SIZE for side in self.input_size):
            raise InputError(f"input_size: expected {MIN_SIZE} to {MAX_SIZE} pixels each way, got {self.input_size}")
        if not self.sigma > 0:
            raise InputError(f"sigma: expected a positive number of heat-map pixels, got {self.sigma}")

    @property
    def targets(self) -> HeatmapMode:
        """How target heat maps are drawn, see :func:`~litehrnet_cuda.codecs.heatmap.encode_heatmaps`."""
        modes: dict[Decoder, HeatmapMode] = {"dark": "unbiased", "udp": "udp"}
        return modes.get(self.decoder, "gaussian")


@dataclass(frozen=True)
class RunFiles:
    """Where a run leaves its results."""

    folder: Path

    @property
    def checkpoint(self) -> Path:
        """The trained weights, with what is needed to use them."""
        return self.folder / "model.safetensors"

    @property
    def recipe(self) -> Path:
        """Everything that decided the outcome, beside the data."""
        return self.folder / "recipe.json"

    @property
    def log(self) -> Path:
        """One JSON object per epoch."""
        return self.folder / "log.jsonl"

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


def run_training(
    folder: str | Path,
    recipe: Recipe,
    training_people: PoseAnnotations,
    validation_people: PoseAnnotations,
    *,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> tuple[RunFiles, Evaluation]:
    """Trains a network from scratch, evaluates it, and leaves checkpoint, log, metrics and pictures.

    Args:
        folder: for the results; created, files of an earlier run are removed.
        recipe: see :class:`Recipe`.
        training_people: to learn from.
        validation_people: to measure with, in their annotated boxes.
        device: by default a CUDA device if there is one.
        progress: show progress bars.

    Raises:
        InputError: for a folder, data or recipe that cannot be used.
    """
    chosen_device = choose_device(device)
    files = RunFiles(output_folder(folder))
    keypoint_set = training_people.keypoint_set
    torch.manual_seed(recipe.training.seed)
    model = create_model(
        recipe.model,
        num_outputs=len(keypoint_set),
        device=chosen_device,
    )
    for old in (files.checkpoint, files.log, files.metrics, files.curve, files.predictions):
        old.unlink(missing_ok=True)  # what is here after a failure is of this run
    with written_whole(files.recipe) as draft:
        draft.write_text(json.dumps(asdict(recipe), indent=1) + "\n")
    dataset = PoseDataset(
        training_people,
        recipe.input_size,
        sigma=recipe.sigma,
        augmentation=recipe.augmentation,
        mode=recipe.targets,
        seed=recipe.training.seed,
        cache_images=training_people.decoded_bytes < MAX_CACHE_BYTES,
    )

    metadata = CheckpointMetadata(
        variant=recipe.model,
        task="pose",
        num_outputs=len(keypoint_set),
        keypoint_set=keypoint_set,
        input_size=recipe.input_size,
    )

    def save_and_measure(network: PoseNetwork) -> dict[str, float]:
        save_checkpoint(network, files.checkpoint, metadata)  # so that a run which is stopped leaves something
        estimator = PoseEstimator(
            network,
            input_size=recipe.input_size,
            keypoint_set=keypoint_set,
            decoder=recipe.decoder,
            flip_test=recipe.flip_test,
            device=chosen_device,
        )
        return evaluate(estimator, validation_people, workers=recipe.training.workers, progress=False).metrics

    history = train(model, dataset, recipe.training, log_file=files.log, validate=save_and_measure, progress=progress)
    # From the file, not from memory, so that what is measured and shown is what the user gets.
    estimator = PoseEstimator(
        None, checkpoint=files.checkpoint, decoder=recipe.decoder, flip_test=recipe.flip_test, device=chosen_device
    )
    evaluation = evaluate(estimator, validation_people, workers=recipe.training.workers, progress=progress)
    with written_whole(files.metrics) as draft:
        draft.write_text(
            json.dumps({"boxes": "annotated", "flip_test": recipe.flip_test, **evaluation.metrics}, indent=1) + "\n"
        )
    with written_whole(files.curve) as draft:
        plot_training_curve(_curve(history), draft)
    with written_whole(files.predictions) as draft:
        draft.write_bytes(encode_image(predictions_beside_truth(estimator, validation_people), ".png"))
    return files, evaluation


def _curve(history: list[dict[str, Any]]) -> list[dict[str, float]]:
    """The points of a training curve: the loss within the epochs, average precision after them."""
    rows: list[dict[str, float]] = []
    before = 0
    for record in history:
        losses, after = record["loss_curve"], record["step"]
        width = (after - before) / len(losses)
        rows += [{"step": before + (i + 0.5) * width, "loss": loss} for i, loss in enumerate(losses)]
        rows += [{"step": after, "AP": record["AP"]}] if "AP" in record else []
        before = after
    return rows
