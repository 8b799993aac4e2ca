"""The flip test: predict the mirrored image too, undo the mirroring, and average."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from litehrnet_cuda.errors import InputError

Indices = Sequence[int] | np.ndarray[Any, Any] | torch.Tensor


def flip_back(heatmaps: torch.Tensor, flip_indices: Indices, *, shift: bool = False) -> torch.Tensor:
    """Turn the heat maps of a mirrored image into heat maps of the image itself.

    Nothing is uploaded and nothing waits for the device, so that a CUDA graph can capture this, unless
    ``flip_indices`` is a tensor on a device itself.

    Args:
        heatmaps: ``[N, K, h, w]`` of the mirrored image, on any device.
        flip_indices: ``[K]``, for each joint the joint that takes its place in a mirror
            (:attr:`litehrnet_cuda.keypoints.KeypointSet.flip_indices`).
        shift: also move everything one heat-map pixel to the right (the first column repeats). Without UDP a
            mirrored crop is off by one crop pixel at a stride of four, and this makes up for more than that;
            the official evaluation does it.

    Returns:
        a new tensor ``[N, K, h, w]`` with the type and device of ``heatmaps``.

    Raises:
        InputError: if the shapes don't belong together.
    """
    if heatmaps.ndim != 4:
        raise InputError(f"heatmaps: expected shape [N, K, h, w], got {list(heatmaps.shape)}")
    if len(flip_indices) != heatmaps.shape[1]:
        raise InputError(
            f"flip_indices: expected {heatmaps.shape[1]} indices, one per channel, got {len(flip_indices)}"
        )
    channels = heatmaps.unbind(1)
    flipped = torch.stack([channels[int(index)] for index in flip_indices], dim=1).flip(-1)
    if shift:
        flipped = torch.cat([flipped[..., :1], flipped[..., :-1]], dim=-1)
    return flipped


def average_flipped(
    heatmaps: torch.Tensor, mirrored_heatmaps: torch.Tensor, flip_indices: Indices, *, shift: bool = True
) -> torch.Tensor:
    """Average the heat maps of an image, ``[N, K, h, w]``, with those of the mirrored image.

    Args are those of :func:`flip_back`; pass ``shift=False`` for models trained with UDP.
    """
    if heatmaps.shape != mirrored_heatmaps.shape:
        raise InputError(
            f"mirrored_heatmaps: expected shape {list(heatmaps.shape)} as heatmaps has,"
            f" got {list(mirrored_heatmaps.shape)}"
        )
    return (heatmaps + flip_back(mirrored_heatmaps, flip_indices, shift=shift)) * 0.5
