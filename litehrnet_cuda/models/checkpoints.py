"""Loading checkpoints into networks, strictly and with a readable difference where they do not fit, and saving them."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.files import sha256_of
from litehrnet_cuda.keypoints import KEYPOINT_SETS
from litehrnet_cuda.models.checkpoint_files import (
    CheckpointMetadata,
    read_checkpoint,
    write_safetensors,
)
from litehrnet_cuda.models.checkpoint_files import read_metadata as _read_file_metadata
from litehrnet_cuda.models.folders import CONFIG, WEIGHTS, read_config
from litehrnet_cuda.models.key_layouts import (
    HEAD_WEIGHT,
    convert_keys,
    detect_segmentation,
    detect_variant,
    layout_of,
    official_name,
    strip_wrappers,
)
from litehrnet_cuda.models.pretrained import Pretrained
from litehrnet_cuda.models.published import PUBLISHED, PublishedCheckpoint, did_you_mean, fetch, published_as

__all__ = [
    "CheckpointMetadata",
    "LoadReport",
    "convert_keys",
    "detect_variant",
    "load_checkpoint",
    "load_weights",
    "published_metadata",
    "read_checkpoint",
    "read_metadata",
    "resolve_checkpoint",
    "save_checkpoint",
]

# What training code adds and no prediction needs: mmsegmentation's second head.
FOR_TRAINING_ALONE = re.compile(r"auxiliary_head\.")
_BACKBONE = "backbone."
_HEAD_LAYER = "backbone.head_layer."  # the iterative head
_NAMES_SHOWN = 4  # of each kind of difference, so that a message stays within a screen


@dataclass(frozen=True)
class LoadReport:
    """What :func:`load_checkpoint` did.

    Args:
        path: the file.
        layout: whose names the file uses.
        loaded: number of tensors that were loaded.
        kept: names of the model's tensors that kept their values, with ``strict=False``.
        left_out: names in the checkpoint, in the official layout, that the model has no use for.
    """

    path: Path
    layout: str
    loaded: int
    kept: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"{self.path}: {self.loaded} tensors loaded ({self.layout} layout)"
        if self.kept:
            text += f", {len(self.kept)} of the model kept their values ({_in_words(self.kept)})"
        if self.left_out:
            text += f", {len(self.left_out)} of the checkpoint left out ({_in_words(self.left_out)})"
        return text


def resolve_checkpoint(path_or_name: str | os.PathLike[str]) -> Path:
    """The file that a path or the name of a published checkpoint stands for; downloads the latter the first time.

    A folder of ``save_pretrained``, or of a training run, stands for the ``model.safetensors`` in it.

    Raises:
        InputError: it is neither, with the names that come close; or the download fails.
    """
    path = Path(path_or_name)
    try:
        if path.exists():
            return path / WEIGHTS if (path / WEIGHTS).is_file() else path
    except OSError as error:  # such as a name that is too long for the file system
        raise InputError(f"{str(path)[:80]}...: expected a checkpoint: {error.strerror}") from None
    name = os.fspath(path_or_name)
    if name in PUBLISHED:
        return fetch(name)
    beside = [str(path.parent / file.name) for file in path.parent.iterdir()] if path.parent.is_dir() else []
    hint = did_you_mean(str(path), beside) or did_you_mean(path.name, PUBLISHED)
    raise InputError(
        f"checkpoint: expected a file or one of {', '.join(PUBLISHED)}, got {name!r}, which is neither{hint}"
    )


def read_metadata(path_or_name: str | os.PathLike[str]) -> CheckpointMetadata | None:
    """What a checkpoint says about the network that it belongs to; ``None`` where it says nothing.

    Files of :func:`save_checkpoint` say it in their header, folders of ``save_pretrained`` in ``config.json``; for
    names of published checkpoints it is known without a download, and for their files by the checksum.

    Raises:
        InputError: there is no such checkpoint, or it cannot be read.
    """
    entry = PUBLISHED.get(os.fspath(path_or_name))
    if entry is not None and not Path(path_or_name).exists():
        return published_metadata(entry)
    if os.path.isfile(os.path.join(path_or_name, CONFIG)):
        return read_config(path_or_name)
    path = resolve_checkpoint(path_or_name)
    metadata = _read_file_metadata(path)
    if metadata is None:
        entry = published_as(sha256_of(path))
        return None if entry is None else published_metadata(entry)
    return metadata


def published_metadata(entry: PublishedCheckpoint) -> CheckpointMetadata:
    """What is known about a published checkpoint without opening it."""
    return CheckpointMetadata(
        variant=entry.variant,
        task="pose",
        num_outputs=entry.num_outputs,
        keypoint_set=KEYPOINT_SETS.get(entry.keypoint_set),
        input_size=entry.input_size,
    )


def load_checkpoint(model: nn.Module, path_or_name: str | os.PathLike[str], *, strict: bool = True) -> LoadReport:
    """Load a checkpoint of any known layout into a network.

    Every tensor of the network must be in the checkpoint with the same shape, and the other way round; if anything
    differs, the network stays as it is. Values are converted to the network's dtype and device. A backbone
    (:class:`LiteHRNet` itself) loads from the checkpoint of a whole network, whose head it leaves out. What only
    training needs is left out too, such as mmsegmentation's second head. A network that is loaded strictly then has the
    checkpoint's metadata as its own, and else none.

    Args:
        model: a network with the official parameter names, bare or wrapped in ``DataParallel`` or ``torch.compile``.
        path_or_name: a file as :func:`read_checkpoint` takes it, or the name of a published checkpoint.
        strict: with ``False``, the head may differ, as for training on other joints, and the iterative head may be in
            one alone: what does not fit keeps its values. The rest must fit all the same.

    Raises:
        InputError: the checkpoint cannot be read, does not fit, or holds values that are not finite.
    """
    path = resolve_checkpoint(path_or_name)
    metadata = read_metadata(path_or_name) if strict else None
    report = load_weights(model, read_checkpoint(path), path, strict=strict)
    network = _unwrapped(model)
    if isinstance(network, Pretrained):
        network.metadata = metadata if metadata and _is_of(metadata, network) else None
    return report


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], path: Path, *, strict: bool = True) -> LoadReport:
    """Load weights of any known layout into a network, as :func:`load_checkpoint` does.

    Args:
        model: as above.
        weights: names to tensors, as :func:`read_checkpoint` returns them.
        path: the file that they are from, for messages.
        strict: as above.

    Raises:
        InputError: they do not fit, or hold values that are not finite.
    """
    source = convert_keys(weights)
    own = model.state_dict()
    own_names = {official_name(name): name for name in own}
    target = {official: own[name] for official, name in own_names.items()}

    left_out = tuple(name for name in source if FOR_TRAINING_ALONE.match(name) and name not in target)
    left_out += tuple(name for name in _unused_by_backbone(source, target) if name not in left_out)
    source = {name: value for name, value in source.items() if name not in left_out}
    missing = [name for name in target if name not in source]
    unexpected = [name for name in source if name not in target]
    misshapen = [name for name in target if name in source and source[name].shape != target[name].shape]
    tolerated = set() if strict else {name for name in (*missing, *unexpected, *misshapen) if _in_head(name)}
    if not tolerated.issuperset((*missing, *unexpected, *misshapen)):
        raise InputError(_difference(path, source, target, missing, unexpected, misshapen))

    fitting = {name: source[name].to(target[name].dtype) for name in target if name not in tolerated}
    broken = [name for name, value in fitting.items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise InputError(
            f"{path}: expected finite weights, got NaN or infinity (in {target[broken[0]].dtype}) in {len(broken)} of "
            f"{len(fitting)} tensors: {_listed(broken)}; the training diverged or the file is damaged"
        )
    model.load_state_dict({own_names[name]: value for name, value in fitting.items()}, strict=strict)
    return LoadReport(
        path=path,
        layout=layout_of(weights),
        loaded=len(fitting),
        kept=tuple(name for name in target if name in tolerated),
        left_out=(
            *left_out,
            *(name for name in unexpected if name in tolerated),
        ),
    )


def save_checkpoint(model: nn.Module, path: str | os.PathLike[str], metadata: CheckpointMetadata) -> Path:
    """Write a network to a ``.safetensors`` file, whole or not at all, with what is needed to use it.

    Names are the network's own without the prefixes of ``DataParallel`` and ``torch.compile``.

    Raises:
        InputError: the name does not end in ``.safetensors``, or the place cannot be written to.
    """
    return write_safetensors(
        {strip_wrappers(name): value for name, value in model.state_dict().items()}, path, metadata
    )


def _unwrapped(model: nn.Module) -> nn.Module:
    """The network in ``DataParallel``, ``DistributedDataParallel`` and ``torch.compile``."""
    for name in ("_orig_mod", "module"):
        inner = getattr(model, name, None)
        if isinstance(inner, nn.Module):
            return _unwrapped(inner)
    return model


def _is_of(metadata: CheckpointMetadata, model: Pretrained) -> bool:
    try:
        return not model.disagreement(metadata)
    except InputError:  # a variant of one's own, which no metadata are of
        return False


def _in_backbone(name: str) -> bool:
    return name.startswith(_BACKBONE)


def _in_head(name: str) -> bool:
    return not _in_backbone(name) or name.startswith(_HEAD_LAYER)


def _unused_by_backbone(source: Iterable[str], target: Iterable[str]) -> tuple[str, ...]:
    """The names in a checkpoint of a whole network that a backbone on its own has no place for: the heads."""
    target = list(target)
    if not all(map(_in_backbone, target)):
        return ()
    # A backbone that returns all of its branches has no iterative head either.
    without_head_layer = not any(name.startswith(_HEAD_LAYER) for name in target)
    return tuple(
        name for name in source if not _in_backbone(name) or (without_head_layer and name.startswith(_HEAD_LAYER))
    )


def _difference(
    path: Path,
    source: Mapping[str, Tensor],
    target: Mapping[str, Tensor],
    missing: list[str],
    unexpected: list[str],
    misshapen: list[str],
) -> str:
    """How a checkpoint differs from a network, on one screen, and what to do about it."""
    lines = [f"{path}: expected the {len(target)} tensors of the model, got {len(source)} that do not fit"]
    for names, what in ((missing, "missing from the checkpoint"), (unexpected, "in the checkpoint, not in the model")):
        if names:
            lines.append(f"  {len(names)} {what} ({_in_words(names)}): {_listed(names)}")
    if misshapen:
        shown = [f"{name} {_shape(source[name])} instead of {_shape(target[name])}" for name in misshapen]
        lines.append(f"  {len(misshapen)} of another shape ({_in_words(misshapen)}): {_listed(shown)}")
    lines += [f"  {hint}" for hint in _hints(source, target)]
    return "\n".join(lines)


def _hints(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> list[str]:
    try:
        source_variant, source_outputs = detect_variant(source)
    except InputError as error:
        return [str(error).removeprefix("state_dict: ")]
    try:
        target_variant, target_outputs = detect_variant(target)
    except InputError:  # a network of the caller's own
        target_variant, target_outputs = "none of the released variants", None
    if detect_segmentation(source) or detect_segmentation(target):
        return _segmentation_hints(source_variant, source, target_variant, target)
    outputs = source_outputs or target_outputs
    call = f'create_model("{source_variant}"' + (f", num_outputs={outputs})" if outputs else ")")
    if source_variant != target_variant:
        command = f"--model {source_variant} on the command line"
        return [f"the checkpoint is of {source_variant}, the model is {target_variant}: use {call}, or {command}"]
    if source_outputs is None and HEAD_WEIGHT in target:
        return ["the checkpoint is of a backbone without a head: strict=False keeps the head of the model"]
    if target_outputs is not None and source_outputs != target_outputs:
        return [
            f"the head has {source_outputs} outputs, the model's {target_outputs}: use {call}, or strict=False to keep "
            "the head of the model"
        ]
    return []


def _segmentation_hints(
    source_variant: str, source: Mapping[str, Tensor], target_variant: str, target: Mapping[str, Tensor]
) -> list[str]:
    """Where the checkpoint or the network is of segmentation."""
    found, own = detect_segmentation(source), detect_segmentation(target)
    if found is None:
        if source_variant != target_variant:
            return [f"the checkpoint is of {source_variant}, the model is {target_variant}"]
        return ["the checkpoint is of no network for segmentation: strict=False keeps the head of the model"]
    if (source_variant, found) == (target_variant, own):
        return []
    call = (
        f'create_model("{source_variant}", "segmentation", num_outputs={found.num_outputs}, head="{found.head}", '
        f"with_head={found.iterative_head})"
    )
    return [f"the checkpoint is of {source_variant} for segmentation: use {call}"]


def _in_words(names: Iterable[str]) -> str:
    """The parts of the network that names belong to, with their counts: ``backbone.stage1: 12, keypoint_head: 2``."""
    parts = Counter(".".join(name.split(".")[: 2 if _in_backbone(name) else 1]) for name in names)
    shown = [f"{part}: {count}" for part, count in parts.most_common(6)]
    return ", ".join(shown) + (f", {len(parts) - 6} other parts" if len(parts) > 6 else "")


def _listed(names: list[str]) -> str:
    rest = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _shape(tensor: Tensor) -> str:
    return str(list(tensor.shape))
