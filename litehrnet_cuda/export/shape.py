"""The images that an exported network takes: how many at once, and of which size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.models.litehrnet import MIN_SIZE
from litehrnet_cuda.predictors.arguments import MAX_SIZE
from litehrnet_cuda.predictors.onnx_network import STRIDE

_OTHER_SIZES = ((64, 96), (160, 128))  # a free size is tried out with
_BATCHES = (1, 2, 5)


@dataclass(frozen=True)
class InputShape:
    """Images ``[N, 3, H, W]``.

    Args:
        size: (width, height), the only one unless the size is free.
        batch: N; any number from 1 up if None.
        free_size: take images of any size whose sides are multiples of 32.

    Raises:
        InputError: for sizes and numbers that no network takes.
    """

    size: tuple[int, int]
    batch: int | None = None
    free_size: bool = False

    def __post_init__(self) -> None:
        if min(self.size) < MIN_SIZE or max(self.size) > MAX_SIZE:
            raise InputError(
                f"size: expected (width, height) of {MIN_SIZE} to {MAX_SIZE} pixels each way, got {self.size}"
            )
        if self.free_size and any(side % STRIDE for side in self.size):
            raise InputError(
                f"size: expected multiples of {STRIDE} where the size is free, got {self.size[0]}x{self.size[1]}; "
                f"export for that size alone"
            )
        if self.batch is not None and self.batch < 1:
            raise InputError(f"batch: expected at least 1 image at once, got {self.batch}")

    @property
    def example(self) -> tuple[int, int, int, int]:
        """What an export is traced with.

        Of a free number two, because an export with one image is for one alone, as one with a side of one stride is.
        """
        width, height = (max(side, 2 * STRIDE) for side in self.size) if self.free_size else self.size
        return (self.batch or _BATCHES[1], 3, height, width)

    def dynamic_shapes(self) -> dict[int, Any]:
        """The free dimensions, as ``torch.export`` takes them."""
        free: dict[int, Any] = {} if self.batch else {0: torch.export.Dim("batch")}
        if self.free_size:
            for axis, name in ((2, "height"), (3, "width")):
                free[axis] = STRIDE * torch.export.Dim(f"{name}_{STRIDE}", min=1, max=MAX_SIZE // STRIDE)
        return free

    def samples(self) -> list[tuple[int, int, int, int]]:
        """Shapes to try an export with: several numbers of images, and several sizes, as far as these are free."""
        sizes = [self.size, *(size for size in _OTHER_SIZES if size != self.size)] if self.free_size else [self.size]
        batches = (self.batch,) if self.batch else _BATCHES
        first = [(batch, 3, self.size[1], self.size[0]) for batch in batches]
        return first + [(batches[-1], 3, height, width) for width, height in sizes[1:]]

    def __str__(self) -> str:
        size = f"any size in steps of {STRIDE}" if self.free_size else f"{self.size[0]}x{self.size[1]}"
        return f"{self.batch or 'any number of'} {'image' if self.batch == 1 else 'images'} of {size}"
