"""What is done with logits of classes: the flip test around the network, and classes at full resolution."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 16  # of the image at a time, which stay in a CPU's cache; all logits at full resolution would fill the memory


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


@dataclass(frozen=True)
class LargestLogits:
    """What is done around a network where nothing but tensor operations can be: the class of every pixel of images."""

    def __call__(self, network: Callable[[Tensor], list[Tensor]], images: Tensor) -> list[Tensor]:
        """``[N, H, W]`` int32, of images ``[N, 3, H, W]``, as :func:`class_labels` gives them in uint8."""
        return [resized_to_images(network(images)[0].float(), images).argmax(dim=1).int()]


def resized_to_images(logits: Tensor, images: Tensor) -> Tensor:
    """Logits ``[N, C, h, w]`` at the size of the images, bilinearly, corners not aligned."""
    return F.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)


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
        scores = parts[0] if len(parts) == 1 else _summed_probabilities(parts)
        rows.append(_largest(scores))
    return torch.cat(rows, dim=1)


def class_probabilities(logits: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """The probability of every class at every pixel.

    Args:
        logits, size: as :func:`class_labels` takes them.

    Returns:
        ``[N, C, height, width]`` in the logits' type; over the classes they add up to one.
    """
    rows = zip(*(_resized_rows(maps, size) for maps in logits), strict=True)
    return torch.cat([_summed_probabilities(parts) / len(parts) for parts in rows], dim=2)


def _largest(scores: Tensor) -> Tensor:
    """``scores.argmax(dim=1)`` as uint8; of equal ones the first.

    Through maxima, because on a CPU argmax over channels is not vectorised and takes longer than the network.
    """
    count = scores.shape[1]
    ranks = torch.arange(count, 0, -1, dtype=scores.dtype, device=scores.device)[:, None, None]
    first = scores.clone().ge_(scores.amax(dim=1, keepdim=True)).mul_(ranks).amax(dim=1)
    return (count - first).clamp_(max=count - 1).to(torch.uint8)  # NaN is not the largest of anything


def _summed_probabilities(parts: Sequence[Tensor]) -> Tensor:
    total = parts[0].softmax(dim=1)
    for part in parts[1:]:
        total += part.softmax(dim=1)
    return total


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
    count = ROWS if maps.device.type == "cpu" else 16 * ROWS  # elsewhere fewer launches count for more
    for first in range(0, height, count):
        rows = slice(first, first + count)
        below = (low[rows] + 1).clamp(max=last)
        yield torch.lerp(wide.index_select(2, low[rows]), wide.index_select(2, below), share[rows])
