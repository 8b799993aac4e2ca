"""Accuracy of networks for segmentation on images with masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from litehrnet_cuda.classes import ClassSet
from litehrnet_cuda.data.masks import MaskAnnotations
from litehrnet_cuda.data.pose_dataset import BadImages, use_one_thread
from litehrnet_cuda.engine.distributed import ALONE, Processes
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.metrics.segmentation import confusion_matrix, mean_iou, segmentation_figures
from litehrnet_cuda.predictors.segmenter import Mode, Segmenter

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class SegmentationEvaluation:
    """What an evaluation found.

    Args:
        matrix: ``[C, C]`` int64, of row t and column p how many pixels of class t were taken for class p, in all images
            together.
        class_set: the C classes.
        of_images: mIoU of each image by its number, -1 for one without labelled pixels; for an order, since the mean
            over images is not the mIoU of all.
        mode: how images were put through the network.
        resizing: what was done to their size before, in words.
        skipped: images that could not be used, by number, and what is wrong with each; they do not count.
    """

    matrix: Array
    class_set: ClassSet
    of_images: dict[int, float]
    mode: Mode = "whole"
    resizing: str = ""
    skipped: dict[int, str] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, float]:
        """See :func:`~litehrnet_cuda.metrics.segmentation.segmentation_figures`."""
        return segmentation_figures(self.matrix, self.class_set.names)

    @property
    def score_name(self) -> str:
        """What :attr:`score` is called."""
        return "mIoU"

    @property
    def score(self) -> float:
        """The figure to choose a checkpoint by, 0 to 1; -1 if nothing is labelled."""
        return mean_iou(self.matrix)

    @property
    def measured_in(self) -> str:
        """How images were put through the network, in words."""
        if self.mode == "whole":
            return f"whole images {self.resizing}".rstrip()
        return "sliding windows" + (f" over images {self.resizing}" if self.resizing else "")


def evaluate_segmentation(
    segmenter: Segmenter,
    annotations: MaskAnnotations,
    *,
    workers: int = 0,
    bad_images: BadImages = "stop",
    processes: Processes = ALONE,
    progress: bool = True,
) -> SegmentationEvaluation:
    """Accuracy of a segmenter, at the images' own sizes.

    Args:
        segmenter: network, mode and flip test.
        annotations: the truth.
        workers: processes that read images; 0 does it in this one.
        bad_images: ``"stop"`` at an image or mask that cannot be used, or ``"skip"`` it.
        processes: that share the work; all have to call this, and all get the same, which is what one would get.
        progress: show a progress bar, where standard error is a terminal.

    Raises:
        InputError: if annotations and segmenter have another number of classes, or the same ones in another order, or
            no image can be read.
    """
    classes = len(segmenter.class_set)
    if len(annotations.class_set) != classes:
        raise InputError(
            f"{annotations.place}: expected masks of {classes} classes as the network has outputs "
            f"({segmenter.class_set.name}), got {len(annotations.class_set)} ({annotations.class_set.name})"
        )
    ours, theirs = segmenter.class_set.names, annotations.class_set.names
    if ours != theirs and set(ours) == set(theirs):
        raise InputError(
            f"{annotations.place}: expected the network's classes in its order, {', '.join(ours)}, got "
            f"{', '.join(theirs)}"
        )

    def measure(share: Sequence[int]) -> tuple[Array, dict[int, float], dict[int, str]]:
        total = np.zeros((classes, classes), np.int64)
        of_images: dict[int, float] = {}
        skipped: dict[int, str] = {}
        loader: DataLoader[Any] = DataLoader(
            _Images(annotations, share), batch_size=None, num_workers=workers, worker_init_fn=use_one_thread
        )
        with tqdm(
            total=len(share), desc="evaluate", unit="image", disable=None if progress else True, leave=False
        ) as bar:
            for index, (image, labels, problem) in zip(share, loader, strict=True):
                if not problem:
                    try:
                        found = segmenter(np.asarray(image)).labels
                    except InputError as error:  # such as an image that is too small
                        problem = f"{annotations.images[index].image}: {error}"
                if problem and bad_images == "stop":
                    raise InputError(problem)
                if problem:
                    skipped[index] = problem
                else:
                    matrix = confusion_matrix(np.asarray(labels), found, classes)
                    of_images[index] = mean_iou(matrix)
                    total += matrix
                bar.update()
        return total, of_images, skipped

    everything = range(len(annotations))
    parts = processes.gathered(lambda: measure(processes.share(everything, 1)))
    of_images = {index: score for _, of_part, _ in parts for index, score in of_part.items()}
    skipped = {index: problem for _, _, problems in parts for index, problem in problems.items()}
    if not of_images:
        raise InputError(
            f"{annotations.place}: expected at least one image with a mask that can be read, but all {len(skipped)} "
            "are missing or damaged"
        )
    matrix = np.sum([of_part for of_part, _, _ in parts], axis=0)
    if not matrix.any():
        raise InputError(f"{annotations.place}: expected masks with labelled pixels to measure with, found none")
    return SegmentationEvaluation(matrix, annotations.class_set, of_images, segmenter.mode, segmenter.resizing, skipped)


class _Images(Dataset[tuple[Array, Array, str]]):
    """Image, labels, and what is wrong with them, for some of the images."""

    def __init__(self, annotations: MaskAnnotations, indices: Sequence[int]) -> None:
        self.annotations = annotations
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Array, Array, str]:
        try:
            return *self.annotations.read(self.indices[index]), ""
        except InputError as error:
            return np.empty(0), np.empty(0), str(error)
