"""What training makes small."""

from __future__ import annotations

from torch import Tensor


def joints_mse_loss(heatmaps: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Mean squared error of heat maps, weighted per joint (official: ``JointsMSELoss`` with target weights).

    Args:
        heatmaps, targets: ``[N, K, h, w]``.
        weights: ``[N, K]``; 0 leaves a joint out. Joints that are left out still count in the mean.
    """
    weights = weights[..., None, None]
    return (heatmaps * weights - targets * weights).square().mean()
