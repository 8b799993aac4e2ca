"""Images that the ranges of 8-bit numbers are measured with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from litehrnet_cuda.data.datasets import Split, image_folder, is_mpii_file, locate_splits
from litehrnet_cuda.data.images import find_images, read_image
from litehrnet_cuda.data.mask_datasets import is_mask_dataset, locate_mask_splits
from litehrnet_cuda.data.pose_dataset import PersonCrops
from litehrnet_cuda.data.transforms import boxes_to_centers_scales, crop, normalize, warp_matrix
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.models.checkpoints import CheckpointMetadata

MAX_IMAGES = 200  # ranges hardly grow beyond


@dataclass(frozen=True)
class _Images(Sequence[Tensor]):
    """Images that are read when they are asked for: hundreds of them need not fit into memory."""

    number: int
    read: Callable[[int], Tensor]

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < self.number:
            raise IndexError(index)
        return self.read(index)


def calibration_images(
    source: str | Path, metadata: CheckpointMetadata, size: tuple[int, int], count: int = MAX_IMAGES
) -> Sequence[Tensor]:
    """What the network sees in use, normalised.

    Args:
        source: for poses an annotation file or a data set (a folder or a TOML file), whose people are cut out; for
            segmentation a data set of masks, whose images are taken as a whole; from the part to train with if there is
            one. Or, for every task, a folder of images that are taken as a whole.
        metadata: of the network.
        size: (width, height) of its input.
        count: the most images; they are taken from all over the source.

    Returns:
        ``[1, 3, H, W]`` float32 each, read when it is asked for.

    Raises:
        InputError: if there are none.
    """
    path = Path(source)
    split = _people(path, metadata) if metadata.task == "pose" else None
    if split is None:
        files = _spread(_images(path, metadata), count)
        return _Images(len(files), lambda index: _whole(files[index], metadata.task, size))
    annotations = split.read()
    if not annotations.people:
        raise InputError(f"{split.annotation_file}: expected people to calibrate with, found none")
    crops = PersonCrops(annotations, _spread(annotations.people, count), size)
    return _Images(len(crops), lambda index: crops[index]["image"][None])


def _people(path: Path, metadata: CheckpointMetadata) -> Split | None:
    """The annotated people at a path; None for a folder that has nothing but images."""
    if path.suffix.lower() == ".json":
        return Split(path, image_folder(path), None if is_mpii_file(path) else metadata.keypoint_set)
    if path.is_dir() and not (path / "annotations").is_dir():
        return None
    splits = locate_splits(path)
    return splits.get("train") or next(iter(splits.values()))


def _images(path: Path, metadata: CheckpointMetadata) -> list[Path]:
    if metadata.task == "segmentation" and is_mask_dataset(path):
        splits = locate_mask_splits(path)
        return [pair.image for pair in (splits.get("train") or splits["val"]).images]
    return find_images([path])


def _spread(items: list, count: int) -> list:  # type: ignore[type-arg]
    """So many of them, at equal distances."""
    chosen = np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int))
    return [items[index] for index in chosen]


def _whole(file: Path, task: str, size: tuple[int, int]) -> Tensor:
    image = read_image(file)
    if task == "pose":  # as PoseEstimator cuts out an image without boxes
        corners = np.array([[0, 0, image.shape[1], image.shape[0]]], np.float32)
        centers, scales = boxes_to_centers_scales(corners, size)
        pixels = crop(image, warp_matrix(centers[0], scales[0], size), size)
    else:
        pixels = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR))
    return torch.from_numpy(normalize(pixels))[None]
