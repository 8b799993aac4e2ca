"""Training for poses: heat maps of people in boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from litehrnet_cuda.data.annotations import PoseAnnotations
from litehrnet_cuda.data.coco import CocoKeypoints
from litehrnet_cuda.data.pose_dataset import PoseDataset
from litehrnet_cuda.engine.distributed import Processes
from litehrnet_cuda.engine.evaluate import Evaluation, evaluate, natural_metric, why_not_pckh
from litehrnet_cuda.engine.losses import heatmap_loss
from litehrnet_cuda.engine.recipe import Recipe
from litehrnet_cuda.engine.report import predictions_beside_truth, worst_and_best
from litehrnet_cuda.engine.task import Array, Task
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.models.checkpoint_files import CheckpointMetadata
from litehrnet_cuda.models.litehrnet import PoseNetwork
from litehrnet_cuda.models.registry import create_model
from litehrnet_cuda.predictors.pose_estimator import PoseEstimator

MAX_CACHE_BYTES = 2 * 1024**3  # of decoded images kept in memory


class PoseTask(Task[PoseEstimator, Evaluation]):
    """See :class:`~litehrnet_cuda.engine.task.Task`; people are measured in their annotated boxes.

    Raises:
        InputError: for people that are not of the kind that the recipe is for.
    """

    def __init__(self, recipe: Recipe, training: PoseAnnotations, validation: PoseAnnotations) -> None:
        for people in (training, validation):
            _require_kind(people, recipe)
        self.recipe, self.training, self.validation = recipe, training, validation
        keypoint_set = training.keypoint_set
        self.metadata = CheckpointMetadata(
            variant=recipe.model,
            task="pose",
            num_outputs=len(keypoint_set),
            keypoint_set=keypoint_set,
            input_size=recipe.input_size,
            box_convention=recipe.box_convention if isinstance(training, CocoKeypoints) else None,
            decoder=recipe.decoder,
        )
        self.samples = len(training.people)
        self.digests = {"train": training.digest, "val": validation.digest}
        self.measure = {
            "metric": natural_metric(validation),
            "boxes": "annotated",
            "decoder": recipe.decoder,
            "flip_test": recipe.flip_test,
        }
        remark = why_not_pckh(validation)
        self.remarks = [] if remark is None else [remark]
        self.loss = heatmap_loss

    def create_network(self, device: torch.device) -> PoseNetwork:
        return create_model(
            self.recipe.model,
            num_outputs=self.metadata.num_outputs,
            with_cp=self.recipe.training.gradient_checkpointing,
            device=device,
        )

    def dataset(self) -> PoseDataset:
        recipe, people = self.recipe, self.validation.people
        dataset = PoseDataset(
            self.training,
            recipe.input_size,
            sigma=recipe.sigma,
            augmentation=recipe.augmentation,
            mode=recipe.targets,
            seed=recipe.training.seed,
            cache_images=self.training.decoded_bytes < MAX_CACHE_BYTES,
            bad_images=recipe.training.bad_images,
        )
        if recipe.training.bad_images == "stop":
            self.validation.require_images(person.image_id for person in people)
        return dataset

    def predictor(self, network: nn.Module | Path, device: torch.device) -> PoseEstimator:
        decoder, flip_test = self.recipe.decoder, self.recipe.flip_test
        if isinstance(network, Path):
            return PoseEstimator(None, checkpoint=network, decoder=decoder, flip_test=flip_test, device=device)
        return PoseEstimator(
            cast(PoseNetwork, network),
            input_size=self.recipe.input_size,
            keypoint_set=self.metadata.keypoint_set,
            decoder=decoder,
            flip_test=flip_test,
            device=device,
        )

    def evaluate(self, predictor: PoseEstimator, processes: Processes, progress: bool) -> Evaluation:
        return evaluate(
            predictor,
            self.validation,
            workers=self.recipe.training.workers,
            bad_images=self.recipe.training.bad_images,
            processes=processes,
            progress=progress,
        )

    def details(self, found: Evaluation) -> dict[str, Any]:
        return {"boxes": found.boxes, "flip_test": self.recipe.flip_test}

    def pictures(self, predictor: PoseEstimator, found: Evaluation) -> tuple[Array, Array]:
        people = self.validation.without_images(found.skipped)
        return predictions_beside_truth(predictor, people), worst_and_best(found, people)


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
