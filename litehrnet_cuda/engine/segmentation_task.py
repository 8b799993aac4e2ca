"""Training for segmentation: the class of every pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from litehrnet_cuda.classes import CITYSCAPES
from litehrnet_cuda.data.mask_dataset import MaskDataset
from litehrnet_cuda.data.masks import MaskAnnotations
from litehrnet_cuda.engine.distributed import Processes
from litehrnet_cuda.engine.evaluate_segmentation import SegmentationEvaluation, evaluate_segmentation
from litehrnet_cuda.engine.losses import mask_loss
from litehrnet_cuda.engine.segmentation_recipe import SegmentationRecipe
from litehrnet_cuda.engine.segmentation_report import predictions_beside_truth, worst_and_best
from litehrnet_cuda.engine.task import Array, Task
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.models.checkpoint_files import CheckpointMetadata
from litehrnet_cuda.models.registry import create_model
from litehrnet_cuda.models.segmentation import SegmentationNetwork
from litehrnet_cuda.predictors.segmenter import Segmenter

MAX_CACHE_BYTES = 2 * 1024**3  # of decoded images and masks kept in memory


class SegmentationTask(Task[Segmenter, SegmentationEvaluation]):
    """See :class:`~litehrnet_cuda.engine.task.Task`; images are measured at their own size.

    Raises:
        InputError: for data that are not of the kind that the recipe is for, or parts with other classes.
    """

    def __init__(self, recipe: SegmentationRecipe, training: MaskAnnotations, validation: MaskAnnotations) -> None:
        classes = training.class_set
        if validation.class_set != classes:
            raise InputError(
                f"{validation.place}: expected the classes to train with, {classes.name}, to validate with too, got "
                f"{validation.class_set.name}"
            )
        if recipe.data == "cityscapes" and classes != CITYSCAPES:
            raise InputError(
                f"{training.place}: expected Cityscapes, which the recipe is for, got {len(classes)} classes "
                f"({classes.name}); choose a recipe for these, or use this one all the same with --set data=any"
            )
        self.recipe, self.training, self.validation = recipe, training, validation
        self.metadata = CheckpointMetadata(
            variant=recipe.model,
            task="segmentation",
            num_outputs=len(classes),
            input_size=recipe.input_size,
            class_set=classes,
            head=recipe.head,
            iterative_head=recipe.iterative_head,
        )
        self.samples = len(training)
        self.digests = {"train": training.digest, "val": validation.digest}
        self.measure = {"metric": "mIoU", "mode": recipe.mode, "flip_test": recipe.flip_test}
        if recipe.mode == "slide":
            self.measure["window"] = list(recipe.input_size)
        self.remarks = []
        self.loss = mask_loss

    def create_network(self, device: torch.device) -> SegmentationNetwork:
        return create_model(
            self.recipe.model,
            "segmentation",
            num_outputs=self.metadata.num_outputs,
            head=self.recipe.head,
            with_head=self.recipe.iterative_head,
            with_cp=self.recipe.training.gradient_checkpointing,
            device=device,
        )

    def dataset(self) -> MaskDataset:
        recipe = self.recipe
        if recipe.training.bad_images == "stop":
            self.validation.require_files()
        return MaskDataset(
            self.training,
            recipe.input_size,
            augmentation=recipe.augmentation,
            seed=recipe.training.seed,
            cache_images=self.training.decoded_bytes() < MAX_CACHE_BYTES,
            bad_images=recipe.training.bad_images,
        )

    def predictor(self, network: nn.Module | Path, device: torch.device) -> Segmenter:
        mode, flip_test = self.recipe.mode, self.recipe.flip_test
        if isinstance(network, Path):
            return Segmenter(checkpoint=network, mode=mode, flip_test=flip_test, device=device)
        return Segmenter(
            cast(SegmentationNetwork, network),
            class_set=self.metadata.class_set,
            mode=mode,
            window=self.recipe.input_size,
            flip_test=flip_test,
            device=device,
        )

    def evaluate(self, predictor: Segmenter, processes: Processes, progress: bool) -> SegmentationEvaluation:
        return evaluate_segmentation(
            predictor,
            self.validation,
            workers=self.recipe.training.workers,
            bad_images=self.recipe.training.bad_images,
            processes=processes,
            progress=progress,
        )

    def details(self, found: SegmentationEvaluation) -> dict[str, Any]:
        return {"mode": found.mode, "flip_test": self.recipe.flip_test}

    def pictures(self, predictor: Segmenter, found: SegmentationEvaluation) -> tuple[Array, Array]:
        good = self.validation.without(found.skipped)
        return predictions_beside_truth(predictor, good), worst_and_best(predictor, found, self.validation)
