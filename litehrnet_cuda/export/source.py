"""What is exported: the network of a checkpoint, of any task."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import nn

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.models.checkpoints import CheckpointMetadata
from litehrnet_cuda.models.identification import describe_checkpoint
from litehrnet_cuda.models.registry import create_model


class Source(NamedTuple):
    """A network with weights, in evaluation mode on the CPU, and what is needed to use it.

    Args:
        network: the network.
        metadata: of it; where its checkpoint does not name its joints or classes, with the known ones that are as many.
        assumed: the name of those, if they are not from the checkpoint; else empty.
    """

    network: nn.Module
    metadata: CheckpointMetadata
    assumed: str


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
    named = replace(metadata.named(), variant=network.variant.name)
    names = named.keypoint_set or named.class_set
    is_assumed = names is not None and (metadata.keypoint_set or metadata.class_set) is None
    return Source(network.eval().requires_grad_(False), named, names.name if names and is_assumed else "")
