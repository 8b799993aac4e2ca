"""What is exported: the network of a checkpoint, of any task."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import nn

from litehrnet_cuda.classes import CLASS_SETS
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import KEYPOINT_SETS
from litehrnet_cuda.models.checkpoints import CheckpointMetadata
from litehrnet_cuda.models.identification import describe_checkpoint
from litehrnet_cuda.models.registry import create_model


class Source(NamedTuple):
    """A network with weights, in evaluation mode on the CPU, and what is needed to use it."""

    network: nn.Module
    metadata: CheckpointMetadata


def read_source(checkpoint: str | os.PathLike[str], model: str | None = None) -> Source:
    """The network of a checkpoint.

    Args:
        checkpoint: a file, or the name of a published one.
        model: a name of :func:`litehrnet_cuda.list_models`; by default what the checkpoint is of.

    Raises:
        InputError: for a checkpoint that cannot be read, or is of another network.
    """
    metadata = describe_checkpoint(checkpoint)
    if metadata.task == "backbone":
        raise InputError(f"{checkpoint}: expected a network that finds something, got a backbone without a head")
    options: dict[str, Any] = {"task": metadata.task, "num_outputs": metadata.num_outputs, "checkpoint": checkpoint}
    if metadata.task == "segmentation":
        options |= {"head": metadata.head or "fcn", "with_head": metadata.iterative_head}
    with torch.inference_mode(False):
        network: Any = create_model(model or metadata.variant, **options)
    return Source(network.eval().requires_grad_(False), replace(_named(metadata), variant=network.variant.name))


def _named(metadata: CheckpointMetadata) -> CheckpointMetadata:
    """With the joints or classes that are known by their number, where the checkpoint does not say them."""
    outputs = metadata.num_outputs
    if metadata.task == "segmentation":
        classes = next((known for known in CLASS_SETS.values() if len(known) == outputs), None)
        return replace(metadata, class_set=metadata.class_set or classes)
    joints = next((known for known in KEYPOINT_SETS.values() if len(known) == outputs), None)
    return replace(metadata, keypoint_set=metadata.keypoint_set or joints)
