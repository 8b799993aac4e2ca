"""What is done with logits of classes: the flip test around the network, and classes at full resolution."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 64  # of the image at a time: logits at full resolution would be the largest thing in memory by far


@dataclass(frozen=True)
class Logits:
    """What is done around a network, on its device: the logits of images, and with the flip test of mirrored ones too.

    Args:
        flip_test: whether to run the network on the mirrored images as well.
    """

    flip_test: bool = False

    def __call__(self, network: Callable[[Tensor], list[Tensor]], images: Tensor) -> list[Tensor]:
        """One ``[N, C, h, w]`` float32, or two, the second of the mirrored images and mirrored back."""
        logits = [network(images)[0].float()]
        if self.flip_test:
            logits.append(network(images.flip(-1))[0].flip(-1).float())
        return logits


def class_labels(logits: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """The most probable class of every pixel.

    Args:
        logits: one or more ``[N, C, h, w]``, whose probabilities are averaged.
        size: (height, width) of the image, to which logits are resized bilinearly, corners not aligned.

    Returns:
        ``[N, height, width]`` uint8
    """
    rows = []
    for parts in zip(*(_resized_rows(maps, size) for maps in logits), strict=True):
        scores = parts[0] if len(parts) == 1 else _mean_probabilities(parts)
        rows.append(scores.argmax(dim=1).to(torch.uint8))
    return torch.cat(rows, dim=1)


def class_probabilities(logits: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """The probability of every class at every pixel.

    Args:
        logits, size: as :func:`class_labels` takes them.

    Returns:
        ``[N, C, height, width]`` in the logits' type; over the classes they add up to one.
    """
    rows = zip(*(_resized_rows(maps, size) for maps in logits), strict=True)
    return torch.cat([_mean_probabilities(parts) for parts in rows], dim=2)


def _mean_probabilities(parts: Sequence[Tensor]) -> Tensor:
    return torch.stack([part.softmax(dim=1) for part in parts]).mean(dim=0)


def _resized_rows(maps: Tensor, size: tuple[int, int]) -> Iterator[Tensor]:
    """``F.interpolate(maps, size, mode="bilinear")``, some rows at a time: columns first, then rows as they are asked.

    The centre of row i is at i + 1/2 in both images, and beyond the first and the last centre nothing changes.
    """
    height, width = size
    wide = F.interpolate(maps, size=(maps.shape[2], width), mode="bilinear", align_corners=False)
    last = maps.shape[2] - 1
    # In fp64, so that a row never falls on the wrong side of a centre.
    position = (torch.arange(height, dtype=torch.float64, device=maps.device) + 0.5) * (last + 1) / height - 0.5
    position = position.clamp(0, last)
    low = position.floor().long()
    share = (position - low).to(maps.dtype)[:, None]
    for first in range(0, height, ROWS):
        rows = slice(first, first + ROWS)
        below = (low[rows] + 1).clamp(max=last)
        yield torch.lerp(wide[:, :, low[rows]], wide[:, :, below], share[rows])
