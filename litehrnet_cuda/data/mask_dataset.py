"""Training samples for segmentation: a part of an image, and the classes of its pixels."""

from __future__ import annotations

import sys

import numpy as np
import torch
from torch.utils.data import Dataset

from litehrnet_cuda.classes import IGNORE_INDEX
from litehrnet_cuda.data.mask_augmentation import Array, MaskAugmentation, augment
from litehrnet_cuda.data.masks import MaskAnnotations
from litehrnet_cuda.data.pose_dataset import BAD_IMAGES, BadImages, shared_zeros
from litehrnet_cuda.data.transforms import normalize
from litehrnet_cuda.errors import InputError


class MaskDataset(Dataset[dict[str, torch.Tensor]]):
    """Augmented parts of images with the classes of their pixels, for training.

    Sample i of epoch e depends only on (seed, e, i): not on the number of workers or on the order of access.

    Args:
        annotations: images and masks.
        input_size: (width, height) of the parts. Where an image is smaller, what is missing at the right and at the
            bottom is grey, and ignored.
        augmentation: what to change at random.
        seed: of the random numbers.
        cache_images: decode everything once, now, and keep it in memory.
        bad_images: ``"stop"`` at an image or mask that cannot be used, or ``"skip"`` it: it is reported once on
            standard error, and the next one is taken in its place.

    Raises:
        InputError: if an image or a mask is absent, unless bad ones are skipped.
    """

    unit = "images"

    def __init__(
        self,
        annotations: MaskAnnotations,
        input_size: tuple[int, int],
        *,
        augmentation: MaskAugmentation | None = None,
        seed: int = 0,
        cache_images: bool = False,
        bad_images: BadImages = "stop",
    ) -> None:
        if bad_images not in BAD_IMAGES:
            raise InputError(f"bad_images: expected one of {', '.join(BAD_IMAGES)}, got {bad_images!r}")
        self.annotations = annotations
        self.input_size = input_size
        self.augmentation = augmentation or MaskAugmentation()
        self.seed = seed
        self.bad_images: BadImages = bad_images
        # Shared memory, so that persistent workers see a new epoch too, and what the others have reported.
        self._epoch = shared_zeros(1)
        self._reported = shared_zeros(len(annotations))
        if bad_images == "stop":
            annotations.require_files()
        self._kept: dict[int, tuple[Array, Array]] = {}
        if cache_images:
            read = ((index, self._read(index)) for index in range(len(annotations)))
            self._kept = {index: found for index, found in read if found is not None}

    def __len__(self) -> int:
        return len(self.annotations)

    def set_epoch(self, epoch: int) -> None:
        """Choose the random numbers of an epoch; call it before the epoch's iteration over the loader begins."""
        self._epoch[0] = epoch

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """``image`` [3, H, W] float32 and ``labels`` [H, W] uint8, ``IGNORE_INDEX`` where there is no class."""
        pixels, labels = self.crop(index)
        width, height = self.input_size
        normalized = normalize(pixels)
        if labels.shape != (height, width):
            # Zeros after normalisation, as the published recipe has them.
            missing = (0, height - labels.shape[0]), (0, width - labels.shape[1])
            normalized = np.pad(normalized, ((0, 0), *missing))
            labels = np.pad(labels, missing, constant_values=IGNORE_INDEX)
        return {"image": torch.from_numpy(normalized), "labels": torch.from_numpy(np.ascontiguousarray(labels))}

    def crop(self, index: int) -> tuple[Array, Array]:
        """The augmented part of an image, ``[h, w, 3]`` uint8 BGR, and its labels: what a picture of a sample shows."""
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index}: expected 0 to {len(self) - 1}")
        image, labels = self._next_readable(index)
        random = np.random.default_rng((self.seed, int(self._epoch[0]), index))
        return augment(image, labels, self.input_size, self.augmentation, random)

    def _next_readable(self, index: int) -> tuple[Array, Array]:
        for row in (*range(index, len(self)), *range(index)):
            found = self._kept.get(row) or self._read(row)
            if found is not None:
                return found
        raise InputError(
            f"{self.annotations.place}: expected at least one image with a mask that can be read, but all {len(self)} "
            "are missing or damaged"
        )

    def _read(self, index: int) -> tuple[Array, Array] | None:
        """Image and labels; None, said once, if they are bad and bad ones are skipped."""
        try:
            return self.annotations.read(index)
        except InputError as error:
            if self.bad_images == "stop":
                raise
            if not self._reported[index]:
                self._reported[index] = 1
                print(f"skipped: {error}", file=sys.stderr, flush=True)
            return None
