"""The losses, against their definitions term by term."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from litehrnet_cuda.engine.losses import heatmap_loss, joints_mse_loss, mask_loss, pixel_cross_entropy


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


def test_cross_entropy_is_the_mean_over_all_pixels_ignored_ones_with_zero() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 3, (2, 8, 10), generator=generator)
    labels[0, :3] = 255
    # Twice as large: between the centres of two pixels at 1/4 and 3/4, at the edges one of them.
    large = F.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(
        large[..., 1, 1], (logits[..., :2, :2] * torch.tensor([[9, 3], [3, 1]]) / 16).sum((2, 3))
    )
    expected = 0.0
    for image in range(2):
        for y in range(8):
            for x in range(10):
                label = int(labels[image, y, x])
                if label != 255:
                    expected -= float(large[image, :, y, x].log_softmax(0)[label])
    # Float64 sums of 160 terms in another order.
    found = pixel_cross_entropy(logits, labels.to(torch.uint8))
    assert found.item() == pytest.approx(expected / 160, rel=1e-12)
    halves = [pixel_cross_entropy(logits[i : i + 1], labels[i : i + 1]) for i in range(2)]
    assert torch.stack(halves).mean().item() == pytest.approx(found.item(), rel=1e-12)


def test_ignored_pixels_alone_have_no_loss_and_no_gradient() -> None:
    logits = torch.ones(1, 2, 3, 3, requires_grad=True)
    loss = pixel_cross_entropy(logits, torch.full((1, 3, 3), 255))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_losses_take_what_their_batches_hold() -> None:
    generator = torch.Generator().manual_seed(2)
    heatmaps, targets = torch.randn(2, 3, 4, 5, 5, generator=generator)
    weights = torch.ones(3, 4)
    batch = {"image": torch.zeros(3), "heatmaps": targets, "weights": weights}
    assert heatmap_loss(heatmaps, batch) == joints_mse_loss(heatmaps, targets, weights)
    labels = torch.zeros(3, 9, 9, dtype=torch.uint8)
    assert mask_loss(heatmaps, {"image": torch.zeros(3), "labels": labels}) == pixel_cross_entropy(heatmaps, labels)
