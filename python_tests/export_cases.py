"""A small network to export, saved as a checkpoint of a variant that the registry knows for the time of a test."""

from __future__ import annotations

from pathlib import Path

import torch

from litehrnet_cuda.benchmarking.contenders import with_statistics
from litehrnet_cuda.keypoints import COCO
from litehrnet_cuda.models.checkpoints import CheckpointMetadata, save_checkpoint
from litehrnet_cuda.models.litehrnet import LiteHRNet, PoseNetwork, Variant

SMALL = Variant("small", (1, 1), (8, 16, 32), num_blocks=1, stem_channels=8)
SIZE = (64, 96)
METADATA = CheckpointMetadata(SMALL.name, "pose", len(COCO), COCO, SIZE)


def small_network() -> PoseNetwork:
    """Of both block types' operations, with statistics of images, so that its output is of order one."""
    torch.manual_seed(0)
    return with_statistics(PoseNetwork(LiteHRNet(SMALL), len(COCO)), torch.randn(2, 3, 96, 64))  # type: ignore[return-value]


def save_small(path: Path) -> Path:
    """A checkpoint of it; read it where ``VARIANTS`` has :data:`SMALL`."""
    return save_checkpoint(small_network(), path, METADATA)
