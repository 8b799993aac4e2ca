"""Small networks to export, saved as checkpoints of a variant that the registry knows for the time of a test."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from litehrnet_cuda.benchmarking.contenders import with_statistics
from litehrnet_cuda.classes import PERSON
from litehrnet_cuda.keypoints import COCO
from litehrnet_cuda.models.checkpoints import CheckpointMetadata, save_checkpoint
from litehrnet_cuda.models.litehrnet import LiteHRNet, PoseNetwork, Variant
from litehrnet_cuda.models.segmentation import BRANCHES, SegmentationHead, SegmentationNetwork

SMALL = Variant("small", (1, 1), (8, 16, 32), num_blocks=1, stem_channels=8)
SIZE = (64, 96)
METADATA = CheckpointMetadata(SMALL.name, "pose", len(COCO), COCO, SIZE)
OF_CLASSES = CheckpointMetadata(SMALL.name, "segmentation", len(PERSON), input_size=SIZE, class_set=PERSON, head="fcn")


def small_network() -> PoseNetwork:
    """Of both block types' operations, with statistics of images, so that its output is of order one."""
    torch.manual_seed(0)
    return with_statistics(PoseNetwork(LiteHRNet(SMALL), len(COCO)), torch.randn(2, 3, 96, 64))  # type: ignore[return-value]


def save_small(path: Path) -> Path:
    """A checkpoint of it; read it where ``VARIANTS`` has :data:`SMALL`."""
    return save_checkpoint(small_network(), path, METADATA)


def small_segmentation(head: SegmentationHead = "fcn", *, with_head: bool = True) -> SegmentationNetwork:
    """The same backbone for people and background, with as many pixels of the one as of the other about."""
    torch.manual_seed(0)
    network = SegmentationNetwork(LiteHRNet(SMALL, branches=BRANCHES[head], with_head=with_head), len(PERSON), head)
    nn.init.normal_(network.decode_head.conv_seg.weight)
    return with_statistics(network, torch.randn(2, 3, 96, 64))  # type: ignore[return-value]


def save_small_segmentation(path: Path, head: SegmentationHead = "fcn") -> Path:
    """A checkpoint of it; read it where ``VARIANTS`` has :data:`SMALL`."""
    return save_checkpoint(small_segmentation(head), path, replace(OF_CLASSES, head=head))
