"""A network that finds spots, for tests that know where these are."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from litehrnet_cuda.models.litehrnet import LiteHRNet, PoseNetwork, Variant

Array = np.ndarray[Any, Any]


class SpotNetwork(PoseNetwork):
    """Finds the brightest spot for every joint, and remembers the batches that it was given.

    Heat-map pixel p shows crop pixel 4 p, as in training; with ``udp``, first and last pixels coincide.
    """

    def __init__(self, num_outputs: int = 17, udp: bool = False) -> None:
        super().__init__(LiteHRNet(Variant("spot", (1,), (8, 16))), num_outputs)
        self.batches: list[Tensor] = []
        self.was_training: list[bool] = []
        self.udp = udp

    def forward(self, x: Tensor) -> Tensor:
        self.batches.append(x)
        self.was_training.append(self.training)
        assert torch.is_inference_mode_enabled()
        maps = x.mean(1, keepdim=True)
        if self.udp:
            maps = torch.nn.functional.interpolate(maps, scale_factor=0.25, mode="bilinear", align_corners=True)
        else:
            maps = maps[..., ::4, ::4]
        return (maps - maps.amin()).expand(-1, self.num_outputs, -1, -1)


def spot_image(x: int, y: int) -> Array:
    """160x120 pixels, dark, with a soft spot around the centre of one pixel."""
    ys, xs = np.mgrid[:120, :160]
    spot = 255 * np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * 4.0**2))
    return np.repeat(spot[..., None], 3, axis=2).round().astype(np.uint8)
