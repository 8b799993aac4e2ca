"""The network of a predictor: the caller's own, a checkpoint's, or an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.inference import LiveNetwork
from litehrnet_cuda.models.checkpoint_files import CheckpointMetadata
from litehrnet_cuda.models.checkpoints import load_checkpoint, read_metadata
from litehrnet_cuda.models.identification import describe_checkpoint
from litehrnet_cuda.models.registry import create_model
from litehrnet_cuda.predictors.arguments import check_metadata, choose_device
from litehrnet_cuda.predictors.onnx_network import OnnxNetwork, is_onnx_file


class Source(NamedTuple):
    """A network, where it runs, and what is known about it."""

    network: Any
    device: torch.device
    metadata: CheckpointMetadata | None


def choose_network(
    model: Any,
    checkpoint: str | Path | None,
    device: torch.device | str | None,
    *,
    task: str,
    kind: type[nn.Module],
    predictor: str,
) -> Source:
    """What a predictor's arguments of these names mean.

    Args:
        model: a name, a network, or None.
        checkpoint: as :func:`~litehrnet_cuda.models.checkpoints.load_checkpoint` takes it, or an ONNX file.
        device: by default where a network is that was passed, the CPU for ONNX files, else a CUDA device if there is
            one.
        task: of the network.
        kind: its class.
        predictor: who asks, for messages.

    Raises:
        InputError: for a model, checkpoint or device that cannot be used.
    """
    if model is not None and not isinstance(model, (str, kind)):
        raise InputError(
            f"model: expected a name or a {kind.__name__} of create_model, which {predictor} optimises by itself, got "
            f"{type(model).__name__}"
        )
    if checkpoint is not None and is_onnx_file(checkpoint):
        if model is not None:
            raise InputError(f"{checkpoint}: expected no model beside an ONNX file, which is one; leave it out")
        chosen = choose_device(device or "cpu")
        network = OnnxNetwork(checkpoint, chosen)
        check_metadata(network.metadata, task, str(checkpoint))
        return Source(network, chosen, network.metadata)
    if isinstance(model, nn.Module):
        chosen = choose_device(next(model.parameters()).device if device is None else device)
        known: Any = model.metadata if checkpoint is None else read_metadata(checkpoint)
        if known is not None:
            check_metadata(known, task, "model" if checkpoint is None else str(checkpoint))
        if checkpoint is not None:
            load_checkpoint(model, checkpoint)
        return Source(model, chosen, known)
    if checkpoint is None:
        raise InputError(
            f"{predictor}: expected a checkpoint, because a network without trained weights finds nothing; pass "
            "checkpoint=, or a network of your own as model="
        )
    chosen = choose_device(device)
    metadata = describe_checkpoint(checkpoint)
    check_metadata(metadata, task, str(checkpoint))
    return Source(_create(model or metadata.variant, metadata, checkpoint), chosen, metadata)


def runner_of(source: Source, *, optimize: bool) -> OnnxNetwork | LiveNetwork:
    """What puts images through a network, which is moved to its device and into evaluation mode."""
    if isinstance(source.network, OnnxNetwork):
        return source.network
    source.network.to(source.device).eval()
    return LiveNetwork(source.network, unplanned="" if optimize else "its user does not want it")


def task_of(checkpoint: str | Path) -> str:
    """What the network of a checkpoint or an ONNX file is for.

    Raises:
        InputError: for one that cannot be read, or says nothing and is of none of the released variants.
    """
    metadata = OnnxNetwork(checkpoint).metadata if is_onnx_file(checkpoint) else describe_checkpoint(checkpoint)
    return metadata.task


@torch.inference_mode(False)
def _create(name: str, metadata: CheckpointMetadata, checkpoint: str | Path) -> nn.Module:
    """A network with the weights of a checkpoint, of ordinary tensors, whose changes PyTorch counts, in every mode."""
    options: dict[str, Any] = {"num_outputs": metadata.num_outputs, "checkpoint": checkpoint}
    if metadata.task == "segmentation":
        options |= {"head": metadata.head, "with_head": metadata.iterative_head}
    network: nn.Module = create_model(name, metadata.task, **options)  # type: ignore[call-overload]
    return network
