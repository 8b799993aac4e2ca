"""What network a checkpoint belongs to: as its metadata say, else as the names and shapes of its tensors do."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.files import sha256_of
from litehrnet_cuda.models.checkpoint_files import CheckpointMetadata, read_checkpoint
from litehrnet_cuda.models.checkpoints import read_metadata, resolve_checkpoint
from litehrnet_cuda.models.key_layouts import detect_segmentation, detect_variant, official_name
from litehrnet_cuda.models.litehrnet import VARIANTS, LiteHRNet, PoseNetwork
from litehrnet_cuda.models.published import PUBLISHED, published_as
from litehrnet_cuda.models.segmentation import SegmentationNetwork


def describe_checkpoint(path_or_name: str | os.PathLike[str]) -> CheckpointMetadata:
    """What a checkpoint says about the network that it belongs to, or what its weights show.

    Args:
        path_or_name: a file, a folder of ``save_pretrained``, or the name of a published checkpoint.

    Raises:
        InputError: there is no such checkpoint, it cannot be read, or it is of none of the released variants.
    """
    metadata = read_metadata(path_or_name)
    if metadata is not None:
        return metadata
    path = resolve_checkpoint(path_or_name)
    return identify_checkpoint(path_or_name, path, read_checkpoint(path))[0]


def identify_checkpoint(
    path_or_name: str | os.PathLike[str], path: Path, weights: Mapping[str, Tensor]
) -> tuple[CheckpointMetadata, str]:
    """What a checkpoint that was read is of, and in words where that was learnt: a published file by its checksum.

    Args:
        path_or_name: as above.
        path: the file that it stands for.
        weights: what is in it.

    Raises:
        InputError: it is of none of the released variants.
    """
    metadata = read_metadata(path_or_name)
    if metadata is not None:
        if os.fspath(path_or_name) in PUBLISHED:
            return metadata, "its name"
        entry = published_as(sha256_of(path))
        return metadata, "its metadata" if entry is None else f"its checksum, that of {entry.name}"
    try:
        return describe_weights(weights), "the names and shapes of its tensors"
    except InputError as error:
        raise InputError(f"{path}: {str(error).removeprefix('state_dict: ')}") from None


def describe_weights(state_dict: Mapping[str, Tensor]) -> CheckpointMetadata:
    """What the names and shapes of a state dict, in any known layout, show: neither joints nor input size are among it.

    Raises:
        InputError: this is no Lite-HRNet, or none of the released variants.
    """
    variant, joints = detect_variant(state_dict)
    segmentation = detect_segmentation(state_dict)
    if segmentation is not None:
        classes, head, iterative_head = segmentation
        return CheckpointMetadata(variant, "segmentation", classes, head=head, iterative_head=iterative_head)
    iterative_head = any(official_name(name).startswith("backbone.head_layer.") for name in state_dict)
    return CheckpointMetadata(
        variant, "backbone" if joints is None else "pose", joints or 0, iterative_head=iterative_head
    )


def describe_network(network: nn.Module) -> CheckpointMetadata:
    """What can be seen from a network.

    Raises:
        InputError: it is none that :func:`~litehrnet_cuda.models.registry.create_model` makes from a name.
    """
    if not isinstance(network, (PoseNetwork, SegmentationNetwork, LiteHRNet)):
        raise InputError(f"network: expected one of create_model, got {type(network).__name__}")
    variant = network.variant
    if VARIANTS.get(variant.name) != variant:
        raise InputError(
            f"network: expected one of {', '.join(VARIANTS)}, which a name stands for, got {variant.name!r} of your "
            "own; save it with save_checkpoint, and pass the Variant to create_model beside the checkpoint"
        )
    if (network if isinstance(network, LiteHRNet) else network.backbone).in_channels != 3:
        raise InputError("network: expected one for images of three channels, which checkpoints are taken to be of")
    if isinstance(network, LiteHRNet):
        return CheckpointMetadata(variant.name, "backbone", 0, iterative_head=network.with_head)
    if isinstance(network, PoseNetwork):
        if not network.backbone.with_head:
            raise InputError("network: expected a network for poses with the iterative head, got one without it")
        return CheckpointMetadata(variant.name, "pose", network.num_outputs)
    return CheckpointMetadata(
        variant.name,
        "segmentation",
        network.num_outputs,
        head=network.head,
        iterative_head=network.backbone.with_head,
    )
