"""What training makes small. A loss takes what the network returned, and the batch on its device."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch.nn.functional as F
from torch import Tensor

from litehrnet_cuda.classes import IGNORE_INDEX

Loss = Callable[[Tensor, Mapping[str, Tensor]], Tensor]


def heatmap_loss(heatmaps: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """The loss of batches with ``heatmaps`` and ``weights``."""
    return joints_mse_loss(heatmaps, batch["heatmaps"], batch["weights"])


def mask_loss(logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """The loss of batches with ``labels``."""
    return pixel_cross_entropy(logits, batch["labels"])


def joints_mse_loss(heatmaps: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Mean squared error of heat maps, weighted per joint (official: ``JointsMSELoss`` with target weights).

    Args:
        heatmaps, targets: ``[N, K, h, w]``.
        weights: ``[N, K]``; 0 leaves a joint out. Joints that are left out still count in the mean.
    """
    weights = weights[..., None, None]
    return (heatmaps * weights - targets * weights).square().mean()


def pixel_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of classes of pixels, the mean over all of them, ignored ones included.

    Those count with 0, as in mmsegmentation's ``CrossEntropyLoss``, so that the mean of equal batches is that of all of
    them, in whatever processes they are.

    Args:
        logits: ``[N, C, h, w]``; resized bilinearly to the labels.
        labels: ``[N, H, W]`` integers, ``IGNORE_INDEX`` for pixels that don't count.
    """
    resized = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)
    total = F.cross_entropy(resized, labels.long(), ignore_index=IGNORE_INDEX, reduction="sum")
    return total / labels.numel()
