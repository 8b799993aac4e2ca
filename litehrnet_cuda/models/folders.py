"""A network as a folder: ``model.safetensors`` holds the weights, ``config.json`` says what they belong to.

The configuration is written last and names the weights by their checksum, so that one that belongs to other weights, as
after a save that was interrupted, is found out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.files import sha256_of, written_whole
from litehrnet_cuda.models.checkpoint_files import CheckpointMetadata, to_safetensors

WEIGHTS = "model.safetensors"
CONFIG = "config.json"

_FORMAT = "litehrnet_cuda"
_VERSION = 1


def write_folder(
    state_dict: Mapping[str, Tensor], folder: str | os.PathLike[str], metadata: CheckpointMetadata
) -> Path:
    """Write weights and what they belong to into a folder, which is created; what else is in it stays.

    The weights get their name first, each file when it is on the disk.

    Raises:
        InputError: the place cannot be written to.
    """
    folder = Path(folder)
    with (
        written_whole(folder / CONFIG, durable=True) as config_draft,
        written_whole(folder / WEIGHTS, durable=True) as weights_draft,
    ):
        weights_draft.write_bytes(to_safetensors(state_dict, metadata))
        config = {
            "format": _FORMAT,
            "version": _VERSION,
            "weights": {"file": WEIGHTS, "sha256": sha256_of(weights_draft)},
            "network": json.loads(metadata.to_json()),
        }
        config_draft.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return folder


def read_config(folder: str | os.PathLike[str]) -> CheckpointMetadata:
    """What ``config.json`` says about the weights beside it.

    Raises:
        InputError: one of the files is missing or damaged, belongs to another program or a newer version of this one,
            or the weights are others than the configuration was written for.
    """
    file = Path(folder) / CONFIG
    try:
        config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        found, version = (config.get(key) for key in ("format", "version"))
    except (OSError, ValueError, AttributeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{file}: expected a file of save_pretrained, got one that cannot be read: {reason}") from None
    if found != _FORMAT or not isinstance(version, int):
        raise InputError(f'{file}: expected "format": "{_FORMAT}" and a version, got {found!r:.40} and {version!r:.40}')
    if version > _VERSION:
        raise InputError(f"{file}: expected a version up to {_VERSION}, got {version}; update litehrnet_cuda")
    try:
        metadata = CheckpointMetadata.from_json(json.dumps(config["network"]))
        expected = str(config["weights"]["sha256"])
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{file}: expected what save_pretrained writes, got something else: {error!r:.200}") from None
    weights = file.with_name(WEIGHTS)
    if not weights.is_file():
        raise InputError(f"{weights}: expected the weights that {CONFIG} belongs to, got no such file")
    if sha256_of(weights) != expected:
        raise InputError(
            f"{weights}: expected the weights that {CONFIG} was written for, got others, as after a save that was "
            "interrupted; save again, or name this file itself, which says what it is of"
        )
    return metadata
