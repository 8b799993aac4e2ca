"""Checkpoints of other code bases as files of this package, and the way back, proven by running what was written."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn

from litehrnet_cuda.classes import ClassSet
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.files import sha256_of, written_whole
from litehrnet_cuda.keypoints import KeypointSet
from litehrnet_cuda.models.checkpoint_files import CheckpointMetadata, read_file, to_safetensors
from litehrnet_cuda.models.checkpoints import (
    load_checkpoint,
    load_weights,
    resolve_checkpoint,
)
from litehrnet_cuda.models.identification import identify_checkpoint
from litehrnet_cuda.models.key_layouts import convert_keys, official_name, to_layout
from litehrnet_cuda.models.registry import create_model
from litehrnet_cuda.models.segmentation import SegmentationHead

Target = Literal["litehrnet_cuda", "official", "mmpose"]
TARGETS: tuple[Target, ...] = get_args(Target)
_SUFFIXES = {"litehrnet_cuda": (".safetensors",), "official": (".pth", ".pt"), "mmpose": (".pth", ".pt")}

_TRIAL_SIZE = (128, 96)  # (height, width) of the random image; every weight has its part in the output for it


@dataclass(frozen=True)
class ConversionReport:
    """What :func:`convert_checkpoint` did.

    Args:
        source: the file that was read.
        layout: whose names it uses.
        source_sha256: its checksum.
        known_by: where it was learnt from what the checkpoint is of.
        out: the file that was written.
        target: for which code base.
        out_sha256: its checksum.
        metadata: what a ``.safetensors`` file says about the network; others hold weights alone.
        assumed: whether joints or classes were taken from the known set of as many.
        tensors: how many are stored.
        parameters: how many numbers training changes.
        added: how many counters of batch norms the source does not have; stored as zero.
        left_out: names of what the source holds besides.
        trial_size: (width, height) of the random image, for which the outputs before and after are the same bits.
    """

    source: Path
    layout: str
    source_sha256: str
    known_by: str
    out: Path
    target: Target
    out_sha256: str
    metadata: CheckpointMetadata
    assumed: bool
    tensors: int
    parameters: int
    added: int
    left_out: tuple[str, ...]
    trial_size: tuple[int, int]


def convert_checkpoint(
    path_or_name: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    target: Target = "litehrnet_cuda",
    variant: str | None = None,
    task: str | None = None,
    keypoint_set: KeypointSet | None = None,
    class_set: ClassSet | None = None,
    input_size: tuple[int, int] | None = None,
) -> ConversionReport:
    """Write a checkpoint of any known layout as a file of this package or of another code base, in float32.

    The result is loaded strictly into a new network, and only if that gives the same output for a random image, to the
    bit, does the file get its name.

    Args:
        path_or_name: the checkpoint, as :func:`~litehrnet_cuda.load_checkpoint` takes it.
        out: ends in ``.safetensors`` for this package, in ``.pth`` for others.
        target: ``"litehrnet_cuda"``; ``"official"`` for the official repository, mmpose 0.x and mmsegmentation;
            ``"mmpose"`` for mmpose 1.x.
        variant: what the checkpoint is of. That is found by itself, and what is passed must agree.
        task: the same; but ``"backbone"`` leaves the head of whatever network out.
        keypoint_set: the joints; by default as the checkpoint says, else the known set of as many.
        class_set: the classes; the same.
        input_size: (width, height) that the network was trained on; by default as the checkpoint says, else not stored.

    Raises:
        InputError: for a checkpoint that cannot be read or is of something else than was passed, or a place that
            cannot be written to.
    """
    out = Path(out)
    if target not in TARGETS:
        raise InputError(f"target: expected one of {', '.join(TARGETS)}, got {target!r}")
    if out.suffix.lower() not in _SUFFIXES[target]:
        raise InputError(f"out: expected a name that ends in {_SUFFIXES[target][0]} for {target}, got {out.name}")
    source = resolve_checkpoint(path_or_name)
    raw, beside = read_file(source)
    source_sha256 = sha256_of(source)
    found, known_by = identify_checkpoint(path_or_name, source, raw)
    stated = _agreed(found, variant, task)
    metadata = _with_names(stated, keypoint_set, class_set)
    if input_size is not None:
        metadata = replace(metadata, input_size=input_size)

    network = _network(metadata)
    loaded = load_weights(network, raw, source)
    state = network.state_dict()
    with written_whole(out, durable=True) as draft:
        if target == "litehrnet_cuda":
            draft.write_bytes(to_safetensors(state, metadata))
        else:
            official = {official_name(name): tensor for name, tensor in state.items()}
            content = io.BytesIO()  # a full disk is an OSError then
            torch.save({"meta": {}, "state_dict": to_layout(official, target)}, content)
            draft.write_bytes(content.getvalue())
        _check_outputs(network, draft, metadata, source)
        out_sha256 = sha256_of(draft)
    return ConversionReport(
        source=source,
        layout=loaded.layout,
        source_sha256=source_sha256,
        known_by=known_by,
        out=out,
        target=target,
        out_sha256=out_sha256,
        metadata=metadata,
        assumed=(metadata.keypoint_set, metadata.class_set) != (stated.keypoint_set, stated.class_set)
        and (keypoint_set, class_set) == (None, None),
        tensors=len(state),
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        added=len(convert_keys(raw)) - len(raw),
        left_out=(*beside, *loaded.left_out),
        trial_size=_TRIAL_SIZE[::-1],
    )


def _agreed(found: CheckpointMetadata, variant: str | None, task: str | None) -> CheckpointMetadata:
    """What was found, unless somebody who should know says something else."""
    if variant not in (None, found.variant):
        raise InputError(f"variant: expected {found.variant}, which the checkpoint is of, got {variant}; leave it out")
    if task == "backbone" and found.task != task:
        return replace(found, task=task, num_outputs=0, keypoint_set=None, class_set=None, head=None)
    if task not in (None, found.task):
        raise InputError(f"task: expected {found.task}, which the checkpoint is for, or backbone, got {task}")
    return found


def _with_names(
    metadata: CheckpointMetadata, keypoint_set: KeypointSet | None, class_set: ClassSet | None
) -> CheckpointMetadata:
    """The same with joints or classes: those that are passed, those that it has, or the known ones that are as many."""
    for name, task, passed in (("keypoint_set", "pose", keypoint_set), ("class_set", "segmentation", class_set)):
        if passed is not None and metadata.task != task:
            raise InputError(f"{name}: expected none for a network whose task is {metadata.task}, got {passed.name}")
        if passed is not None and len(passed) != metadata.num_outputs:
            raise InputError(
                f"{name}: expected {metadata.num_outputs} as the network has outputs, got {len(passed)} ({passed.name})"
            )
    joints, classes = keypoint_set or metadata.keypoint_set, class_set or metadata.class_set
    return replace(metadata, keypoint_set=joints, class_set=classes).named()


def _network(metadata: CheckpointMetadata) -> nn.Module:
    if metadata.task == "pose":
        return create_model(metadata.variant, num_outputs=metadata.num_outputs)
    if metadata.task == "segmentation":
        return create_model(
            metadata.variant,
            "segmentation",
            num_outputs=metadata.num_outputs,
            head=cast(SegmentationHead, metadata.head),
            with_head=metadata.iterative_head,
        )
    return create_model(metadata.variant, "backbone", with_head=metadata.iterative_head)


@torch.inference_mode()
def _check_outputs(before: nn.Module, written: Path, metadata: CheckpointMetadata, source: Path) -> None:
    """Raises :class:`InputError` unless a file, loaded strictly, computes the same as a network, to the bit."""
    after = _network(metadata)
    load_checkpoint(after, written)
    image = torch.randn(1, 3, *_TRIAL_SIZE, generator=torch.Generator().manual_seed(0))
    outputs = [network.eval()(image) for network in (before, after)]
    expected, got = (
        [*network.state_dict().values(), *([output] if isinstance(output, Tensor) else output)]
        for network, output in zip((before, after), outputs, strict=True)
    )
    if not all(map(_same_bits, expected, got)):
        raise InputError(
            f"{source}: expected a network that computes the same when it has been written and read, got another "
            "output; nothing was kept"
        )


def _same_bits(a: Tensor, b: Tensor) -> bool:
    """Also where weights are such that outputs overflow."""
    return a.dtype == b.dtype and a.shape == b.shape and bool(torch.equal(_bits(a), _bits(b)))


def _bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().view(torch.int32) if tensor.is_floating_point() else tensor
