"""Networks by name."""

from __future__ import annotations

import difflib
from os import PathLike
from typing import Any, Literal, cast, overload

import torch

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.models.checkpoint_files import CheckpointMetadata
from litehrnet_cuda.models.checkpoints import load_checkpoint
from litehrnet_cuda.models.identification import describe_checkpoint
from litehrnet_cuda.models.litehrnet import VARIANTS, Branches, LiteHRNet, PoseNetwork, Variant
from litehrnet_cuda.models.segmentation import BRANCHES, SEGMENTATION_HEADS, SegmentationHead, SegmentationNetwork

Task = Literal["pose", "segmentation", "backbone"]
NUM_OUTPUTS = {"pose": 17, "segmentation": 19}  # COCO's joints, Cityscapes' classes


def list_models() -> list[str]:
    """The names that :func:`create_model` takes."""
    return list(VARIANTS)


def get_variant(name: str) -> Variant:
    """The description of a network by its name.

    Raises:
        InputError: for a name that is not in :func:`list_models`, with the nearest one that is.
    """
    if not isinstance(name, str):
        raise InputError(f"model: expected the name of a network, got {type(name).__name__}")
    try:
        return VARIANTS[name]
    except KeyError:
        near = difflib.get_close_matches(name, VARIANTS, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InputError(f"unknown model {name!r}, expected one of {', '.join(VARIANTS)}{hint}") from None


@overload
def create_model(
    name: str | Variant,
    task: Literal["pose"] = ...,
    *,
    num_outputs: int | None = ...,
    checkpoint: str | PathLike[str] | None = ...,
    with_cp: bool = ...,
    device: torch.device | str | None = ...,
    dtype: torch.dtype | None = ...,
) -> PoseNetwork: ...


@overload
def create_model(
    name: str | Variant,
    task: Literal["segmentation"],
    *,
    num_outputs: int | None = ...,
    head: SegmentationHead = ...,
    with_head: bool = ...,
    checkpoint: str | PathLike[str] | None = ...,
    with_cp: bool = ...,
    device: torch.device | str | None = ...,
    dtype: torch.dtype | None = ...,
) -> SegmentationNetwork: ...


@overload
def create_model(
    name: str | Variant,
    task: Literal["backbone"],
    *,
    checkpoint: str | PathLike[str] | None = ...,
    branches: Branches = ...,
    with_head: bool = ...,
    in_channels: int = ...,
    with_cp: bool = ...,
    device: torch.device | str | None = ...,
    dtype: torch.dtype | None = ...,
) -> LiteHRNet: ...


@overload
def create_model(
    name: None = ...,
    task: Task | None = ...,
    *,
    checkpoint: str | PathLike[str],
    num_outputs: int | None = ...,
    head: SegmentationHead | None = ...,
    branches: Branches = ...,
    with_head: bool | None = ...,
    in_channels: int = ...,
    with_cp: bool = ...,
    device: torch.device | str | None = ...,
    dtype: torch.dtype | None = ...,
) -> PoseNetwork | SegmentationNetwork | LiteHRNet: ...


def create_model(
    name: str | Variant | None = None,
    task: Task | None = None,
    *,
    num_outputs: int | None = None,
    checkpoint: str | PathLike[str] | None = None,
    head: SegmentationHead | None = None,
    branches: Branches = "all",
    with_head: bool | None = None,
    in_channels: int = 3,
    with_cp: bool = False,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> PoseNetwork | SegmentationNetwork | LiteHRNet:
    """Creates a network, in training mode, with the official initialisation or the weights of a checkpoint.

    Without a name, the network is what the checkpoint says, or what its names and shapes show, and nothing else has to
    be passed; what is passed all the same must agree with it. The backbone of a whole network may always be asked for.

    Args:
        name: one of :func:`list_models`, or a :class:`~litehrnet_cuda.models.litehrnet.Variant` of your own; not needed
            beside a checkpoint.
        task: ``"pose"`` (the default beside a name) for a network that returns heat maps, ``"segmentation"`` for one
            that returns logits of classes, ``"backbone"`` for the branches.
        num_outputs: number of joints or classes; beside a name by default COCO's 17 and Cityscapes' 19.
        checkpoint: a file, a folder of ``save_pretrained``, or the name of a published checkpoint; loaded strictly.
        head: ``"fcn"`` (the default beside a name) or ``"resize_concat"`` (segmentation only), see
            :class:`~litehrnet_cuda.models.segmentation.SegmentationNetwork`.
        branches: ``"all"`` or ``"top"`` (backbone only).
        with_head: whether the backbone ends with the iterative head (segmentation and backbone only); it does by
            default beside a name.
        in_channels: channels of the image (backbone only).
        with_cp: gradient checkpointing.
        device: where the parameters live.
        dtype: their type.

    Raises:
        InputError: for an unknown name or task, neither a name nor a checkpoint, a dtype that is none for weights, a
            device that cannot be used here, or a checkpoint that does not fit.
    """
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise InputError(f"dtype: expected a floating-point type such as torch.float16, got {dtype!r}")
    if device is not None:
        device = _usable(device)
    metadata = None
    if name is None:
        if checkpoint is None:
            raise InputError(
                f"create_model: expected one of {', '.join(VARIANTS)}, or a checkpoint, which says what it is of, got "
                "neither"
            )
        metadata = describe_checkpoint(checkpoint)
        _check_agreement(metadata, checkpoint, task, num_outputs, head, with_head)
        name, task = metadata.variant, task or cast(Task, metadata.task)
        num_outputs, head = metadata.num_outputs, cast("SegmentationHead | None", metadata.head)
        with_head = metadata.iterative_head if with_head is None else with_head
    task = "pose" if task is None else task
    variant = name if isinstance(name, Variant) else get_variant(name)
    if num_outputs is None:
        num_outputs = NUM_OUTPUTS.get(task, 0)
    head = "fcn" if head is None else head
    with_head = True if with_head is None else with_head
    model: PoseNetwork | SegmentationNetwork | LiteHRNet
    if task == "pose":
        model = PoseNetwork(LiteHRNet(variant, with_cp=with_cp), num_outputs)
    elif task == "segmentation":
        if head not in SEGMENTATION_HEADS:
            raise InputError(f"head: expected one of {', '.join(SEGMENTATION_HEADS)}, got {head!r}")
        backbone = LiteHRNet(variant, branches=BRANCHES[head], with_head=with_head, with_cp=with_cp)
        model = SegmentationNetwork(backbone, num_outputs, head)
    elif task == "backbone":
        model = LiteHRNet(variant, in_channels, branches, with_head, with_cp)
    else:
        raise InputError(f"unknown task {task!r}, expected 'pose', 'segmentation' or 'backbone'")
    if checkpoint is not None:
        load_checkpoint(model, checkpoint)
    if metadata is not None and metadata.task == task:
        model.metadata = metadata
    target: dict[str, Any] = {}
    if device is not None:
        target["device"] = device
    if dtype is not None:
        target["dtype"] = dtype
    return model.to(**target) if target else model


def _usable(device: torch.device | str) -> torch.device:
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, TypeError):  # torch has no one error for this
        raise InputError(
            f"device: expected one that can be used here, such as 'cpu', or 'cuda' where there is a GPU, got {device!r}"
        ) from None
    return chosen


def _check_agreement(
    metadata: CheckpointMetadata,
    checkpoint: str | PathLike[str],
    task: str | None,
    num_outputs: int | None,
    head: str | None,
    with_head: bool | None,
) -> None:
    """Raises :class:`InputError` where what was asked for is not what the checkpoint is of."""
    asked: dict[str, object] = {"task": task, "num_outputs": num_outputs, "head": head, "with_head": with_head}
    known: dict[str, object] = {
        "task": metadata.task,
        "num_outputs": metadata.num_outputs,
        "head": metadata.head,
        "with_head": metadata.iterative_head,
    }
    if task == "backbone":  # of whatever network; its iterative head may be left out, but not be made up
        asked = {"with_head": with_head} if with_head and not metadata.iterative_head else {}
    for argument, value in asked.items():
        if value is not None and value != known[argument]:
            raise InputError(
                f"{argument}: expected {known[argument]!r}, which {checkpoint} is of, got {value!r}; leave it out, or "
                "create the network by its name and load what fits by load_checkpoint(model, ..., strict=False)"
            )
