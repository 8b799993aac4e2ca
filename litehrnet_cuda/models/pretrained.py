"""What networks share that can be saved to a folder and come back from it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

# Everything else is imported when it is used, because checkpoints know the networks that are saved here.
from litehrnet_cuda.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from litehrnet_cuda.models.checkpoint_files import CheckpointMetadata

Network = TypeVar("Network", bound="Pretrained")


class Pretrained:
    """Gives a network ``save_pretrained`` and ``from_pretrained``.

    Attributes:
        metadata: what the network's checkpoint says about it; None if it has none.
    """

    metadata: CheckpointMetadata | None = None

    def save_pretrained(self, folder: str | os.PathLike[str], metadata: CheckpointMetadata | None = None) -> Path:
        """Writes ``model.safetensors`` and ``config.json`` into a folder, which is created.

        Args:
            folder: a local one; other files in it stay.
            metadata: what is stored beside the weights, such as the joints and the input size; by default what the
                network was loaded with, else what can be seen from the network itself.

        Returns:
            the folder.

        Raises:
            InputError: the metadata are of another network, the network is none that can be created by its name, or
                the place cannot be written to.
        """
        from litehrnet_cuda.models.folders import write_folder
        from litehrnet_cuda.models.identification import describe_network

        metadata = metadata or self.metadata or describe_network(cast("nn.Module", self))
        disagreement = self.disagreement(metadata)
        if disagreement:
            raise InputError(f"metadata: {disagreement}")
        return write_folder(cast("nn.Module", self).state_dict(), folder, metadata)

    def disagreement(self, metadata: CheckpointMetadata) -> str:
        """In what metadata are of another network, in words; nothing if they are of this one."""
        from litehrnet_cuda.models.identification import describe_network

        described = describe_network(cast("nn.Module", self))
        for field in ("variant", "task", "num_outputs", "head", "iterative_head"):
            expected, got = getattr(described, field), getattr(metadata, field)
            if expected != got:
                return f"expected {field} {expected!r}, as the network has it, got {got!r}"
        return ""

    @classmethod
    def from_pretrained(
        cls: type[Network],
        folder: str | os.PathLike[str],
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Network:
        """Creates the network that :meth:`save_pretrained` wrote, in training mode as :func:`create_model` does.

        Args:
            folder: a local one; nothing is ever downloaded.
            device: where the parameters live.
            dtype: their type.

        Raises:
            InputError: there is no such folder, what is in it is damaged, or it holds a network of another kind.
        """
        from litehrnet_cuda.models.folders import read_config
        from litehrnet_cuda.models.registry import create_model

        if not Path(folder).is_dir():
            raise InputError(f"{folder}: expected a folder of save_pretrained, got a path where there is none")
        task = read_config(folder).task
        network = create_model(checkpoint=folder, device=device, dtype=dtype)
        if not isinstance(network, cls):
            raise InputError(
                f"{folder}: expected a {cls.__name__}, got a network for task {task!r}; use "
                f"{type(network).__name__}.from_pretrained"
            )
        return network
