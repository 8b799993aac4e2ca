"""The loss, against its official definition term by term."""

from __future__ import annotations

import pytest
import torch

from litehrnet_cuda.engine.losses import joints_mse_loss


def test_loss_is_the_mean_over_joints_of_each_joint_s_error() -> None:
    # The official definition: for every joint, the mean squared difference of prediction and target, each times the
    # joint's weight, over batch and pixels; the mean of these over all joints, left-out ones included.
    generator = torch.Generator().manual_seed(0)
    heatmaps, targets = torch.randn(2, 3, 5, 17, 8, 6, generator=generator, dtype=torch.float64)[:, 0]
    joint_weights = torch.randint(0, 2, (5, 17), generator=generator).double()
    joint_weights[:, 4] = 0
    joint_weights[2, 3] = 0.5
    expected = 0.0
    for joint in range(17):
        errors = [
            (joint_weights[person, joint] * (heatmaps[person, joint] - targets[person, joint])).square().sum()
            for person in range(5)
        ]
        expected += float(sum(errors)) / (5 * 8 * 6) / 17
    # Float64 sums of 4080 terms in another order.
    assert joints_mse_loss(heatmaps, targets, joint_weights).item() == pytest.approx(expected, rel=1e-12)


def test_joints_that_are_left_out_have_no_gradient() -> None:
    heatmaps = torch.ones(1, 2, 3, 3, requires_grad=True)
    joints_mse_loss(heatmaps, torch.zeros(1, 2, 3, 3), torch.tensor([[1.0, 0.0]])).backward()
    assert heatmaps.grad is not None
    # d/dp of p^2 / 18 at p = 1.
    torch.testing.assert_close(heatmaps.grad[0, 0], torch.full((3, 3), 2 / 18))
    assert not heatmaps.grad[0, 1].any()
