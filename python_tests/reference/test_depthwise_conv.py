from __future__ import annotations

import torch

from litehrnet_cuda.reference.depthwise_conv import depthwise_conv


def test_filters_each_channel_by_itself() -> None:
    x = torch.zeros(1, 2, 3, 4)
    x[0, 0, 1, 1] = 1
    weight = torch.arange(18.0).view(2, 3, 3)
    (y,) = depthwise_conv([x], [weight], [torch.tensor([0.5, -1.0])])
    # The response to an impulse is the kernel, turned by half a turn.
    assert torch.equal(y[0, 0, :, :3] - 0.5, weight[0].flip(0, 1))
    assert torch.equal(y[0, 1], torch.full((3, 4), -1.0))
