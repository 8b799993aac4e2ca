"""What the tests of shared work run in each of several processes."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import torch

from litehrnet_cuda.data.coco import CocoKeypoints
from litehrnet_cuda.data.mask_dataset import MaskDataset
from litehrnet_cuda.data.mask_datasets import find_mask_splits, locate_mask_splits
from litehrnet_cuda.engine import train
from litehrnet_cuda.engine.distributed import ALONE, Processes
from litehrnet_cuda.engine.evaluate import Evaluation, evaluate
from litehrnet_cuda.engine.evaluate_segmentation import SegmentationEvaluation, evaluate_segmentation
from litehrnet_cuda.engine.interruption import Interrupted
from litehrnet_cuda.engine.learner import Learner
from litehrnet_cuda.engine.losses import mask_loss
from litehrnet_cuda.engine.order import BatchOrder
from litehrnet_cuda.engine.recipe import TrainConfig
from litehrnet_cuda.engine.run import run_training
from litehrnet_cuda.engine.segmentation_recipe import SegmentationRecipe
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.models.registry import create_model
from litehrnet_cuda.predictors.pose_estimator import PoseEstimator
from litehrnet_cuda.predictors.segmenter import Segmenter


def exchange(processes: Processes) -> dict[str, Any]:
    """Who is who, shares of seven things, tensors of the first, and errors of one or both."""

    def fail(numbers: tuple[int, ...], error: type[Exception]) -> str:
        def work() -> None:
            if processes.rank in numbers:
                raise error(f"no luck in {processes.rank}")

        try:
            processes.gathered(work)
        except Exception as raised:
            return f"{type(raised).__name__}: {raised}"
        return "nothing"

    tensors = [torch.full((2, 2), processes.rank + 0.5), torch.tensor(processes.rank + 7), torch.ones(0)]
    processes.copy_first(tensors)
    return {
        "number": (processes.rank, processes.count),
        "shares": [list(processes.share(range(7), size)) for size in (1, 2, 8)],
        "found": processes.gathered(lambda: {"rank": processes.rank}),
        "of the first": [tensor.tolist() for tensor in tensors],
        "errors": [
            fail((), InputError),
            fail((1,), InputError),
            fail((0, 1), InputError),
            fail((1,), KeyError),
        ],
    }


def evaluate_files(
    processes: Processes, annotation_file: Path, images: Path, checkpoint: Path, **options: Any
) -> Evaluation:
    """The evaluation of a checkpoint on a COCO file, in batches of two people."""
    estimator = PoseEstimator(checkpoint=checkpoint, batch_size=2, flip_test=True, decoder="dark")
    people = CocoKeypoints(annotation_file, images)
    return evaluate(estimator, people, processes=processes, progress=False, **options)


def evaluate_in_several_ways(
    processes: Processes, annotation_file: Path, images: Path, broken_images: Path, checkpoint: Path
) -> tuple[Evaluation, float | None, str, Evaluation]:
    """With the other process; in the first one while the other does something else; and where an image is broken."""
    shared = evaluate_files(processes, annotation_file, images, checkpoint)
    alone = evaluate_files(ALONE, annotation_file, images, checkpoint).score if processes.first else None
    said = "nothing"
    try:
        evaluate_files(processes, annotation_file, broken_images, checkpoint)
    except InputError as error:
        said = str(error)
    return shared, alone, said, evaluate_files(processes, annotation_file, broken_images, checkpoint, bad_images="skip")


def evaluate_masks(processes: Processes, folder: Path, checkpoint: Path) -> SegmentationEvaluation:
    """The evaluation of a checkpoint on a folder of images and masks."""
    segmenter = Segmenter(checkpoint=checkpoint, device="cpu")
    masks = locate_mask_splits(folder)["val"].read(segmenter.class_set)
    return evaluate_segmentation(segmenter, masks, processes=processes, progress=False)


def train_on_masks(processes: Processes, folder: Path, out: Path, recipe: SegmentationRecipe) -> list[int]:
    """A run on a folder of images and masks; returns what its evaluation counted."""
    masks = find_mask_splits(folder)
    _, found = run_training(out, recipe, *masks, device="cpu", processes=processes, progress=False)
    counts: list[int] = found.matrix.reshape(-1).tolist()
    return counts


def learn_on_masks(processes: Processes, folder: Path, batch_size: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Losses and weights of two steps without dropout, in fp64 to see more than rounding."""
    torch.manual_seed(0)
    network = create_model("naive_litehrnet_18", "segmentation", num_outputs=3).double()
    network.decode_head.dropout.p = 0.0
    config = TrainConfig(batch_size=batch_size, optimizer="sgd", weight_decay=1e-3)
    learner = Learner(network, config, processes, loss=mask_loss)
    dataset = MaskDataset(find_mask_splits(folder)[0], (32, 32))
    order = BatchOrder(8, batch_size, seed=0, rank=processes.rank, processes=processes.count)
    losses = []
    for indices in order:
        samples = [dataset[index] for index in indices]
        batch = {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}
        losses.append(learner.step([batch | {"image": batch["image"].double()}], 1e-2))
    return processes.mean(torch.stack(losses)), learner.export().state_dict()


def stop_training_on_masks(processes: Processes, folder: Path, out: Path, recipe: SegmentationRecipe) -> str:
    """Such a run, which the second process is asked to stop in its second epoch; returns what it says then."""

    class Stopped(BatchOrder):
        def start(self, epoch: int, first: int = 0) -> None:
            if epoch == 2 and not processes.first:
                os.kill(os.getpid(), signal.SIGTERM)
            super().start(epoch, first)

    train.BatchOrder = Stopped  # type: ignore[misc]
    try:
        train_on_masks(processes, folder, out, recipe)
    except Interrupted as stop:
        return str(stop)
    return "nothing"
