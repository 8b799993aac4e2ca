"""Networks for the tests of plans: recipe weights, which unlike fresh ones make every path matter."""

from __future__ import annotations

from functools import cache
from typing import Any

from official_reference import load_recipe

from litehrnet_cuda.models.litehrnet import VARIANTS, LiteHRNet, PoseNetwork, Variant

# 256x192 divides at every resolution; 50x71 gives 13x18, 7x9, 4x5, 2x3, where windows of pooling and of upsampling
# overlap or are empty; 33x97 gives a lowest resolution of 2x4.
SIZES = [(256, 192), (50, 71), (33, 97)]

# What the published networks do not have: three blocks or none, so that free planes are used again; a first branch that
# goes on from the stem as it is; two branches at most; halves of odd width.
UNUSUAL = [
    Variant("three_blocks", (1, 2), (16, 32, 64), num_blocks=3),
    Variant("five_blocks", (2,), (20, 46), num_blocks=5, stem_channels=20),
    Variant("no_blocks", (2, 1), (16, 24, 40), num_blocks=0),
    Variant("wide_stem", (1, 1), (18, 30, 66), "NAIVE", num_blocks=3, stem_channels=16, expand_ratio=1.5),
    Variant("five_branches", (1, 1, 1, 1), (16, 16, 24, 32, 48)),
]


@cache
def pose_network(variant: str | Variant, num_outputs: int = 5, **options: Any) -> PoseNetwork:
    """A pose network in evaluation mode, in float64; the tests share it, and none changes it."""
    network = PoseNetwork(backbone_of(variant, **options), num_outputs)
    return load_recipe(network, "w0").eval()  # type: ignore[return-value]


@cache
def backbone_of(variant: str | Variant, **options: Any) -> LiteHRNet:
    """A backbone in evaluation mode, in float64; the tests share it."""
    backbone = LiteHRNet(variant if isinstance(variant, Variant) else VARIANTS[variant], **options)
    return load_recipe(backbone, "w0").eval()  # type: ignore[return-value]
