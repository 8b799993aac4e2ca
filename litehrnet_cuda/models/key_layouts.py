"""What other code bases call the parameters of Lite-HRNet, and what names and shapes say about the network.

The official names are the package's own: ``backbone.*`` (:class:`LiteHRNet`) and
``keypoint_head.final_layer.{weight,bias}``. Everything else is translated by the tables below.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.models.litehrnet import VARIANTS

# Names that training code puts around a network: DataParallel, torch.compile, FSDP, Lightning.
_WRAPPERS = (
    (re.compile(r"(^|\.)(?:_orig_mod|_fsdp_wrapped_module)\."), r"\1"),
    (re.compile(r"^(?:(?:module|model|net|network)\.)+"), ""),
)

# The remapping table, applied from top to bottom to every name. One row per difference, so that mixtures of
# layouts (an official backbone under an mmpose 1.x head) need no case of their own.
_TO_OFFICIAL = (
    # A backbone saved on its own.
    (re.compile(r"^(?=(?:stem|transition\d|stage\d|head_layer)\.)"), "backbone."),
    # PaddleDetection (ppdet/modeling/backbones/lite_hrnet.py): its convolution weights are [out, in, h, w] as in
    # PyTorch, so only names differ.
    (re.compile(r"\.norm\."), ".bn."),
    (re.compile(r"\._mean$"), ".running_mean"),
    (re.compile(r"\._variance$"), ".running_var"),
)

# Heads by task: mmpose 1.x; PaddleDetection.
_HEADS_TO_OFFICIAL = {
    "pose": ((re.compile(r"^(?:head\.final_layer|final_conv)\."), "keypoint_head.final_layer."),),
    "segmentation": (),
}

# Where others keep the head that is keypoint_head here. The official repository is written for mmpose 0.x.
_HEADS_OF_LAYOUTS = {"official": "keypoint_head.", "mmpose": "head."}

HEAD_WEIGHT = "keypoint_head.final_layer.weight"
CLASSIFIER_WEIGHT = "decode_head.conv_seg.weight"


def strip_wrappers(name: str) -> str:
    """The name without the prefixes of ``DataParallel``, ``torch.compile``, FSDP and Lightning."""
    for pattern, replacement in _WRAPPERS:
        name = pattern.sub(replacement, name)
    return name


def official_name(name: str, task: str = "pose") -> str:
    """The official name of a parameter or buffer; a name that no table row fits is returned without its wrappers."""
    if task not in _HEADS_TO_OFFICIAL:
        raise InputError(f"task: expected one of {', '.join(_HEADS_TO_OFFICIAL)}, got {task!r}")
    name = strip_wrappers(name)
    for pattern, replacement in (*_TO_OFFICIAL, *_HEADS_TO_OFFICIAL[task]):
        name = pattern.sub(replacement, name)
    return name


def convert_keys(state_dict: Mapping[str, Tensor], task: str = "pose") -> dict[str, Tensor]:
    """Translate a state dict of any known layout to the official one.

    Known are the official repository and mmpose 0.x (``keypoint_head.final_layer``), mmpose 1.x
    (``head.final_layer``), PaddleDetection (``*.norm._mean``, ``final_conv``), a backbone on its own (``stem.*``), and
    mixtures of them. Batch norms that do not count their batches, as PaddleDetection's, get a
    ``num_batches_tracked`` of zero. Tensors are not copied.

    Args:
        state_dict: names to tensors.
        task: ``"pose"`` or ``"segmentation"``; says which heads to rename.

    Raises:
        InputError: the task is unknown, or two names become the same.
    """
    converted: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    for name, tensor in state_dict.items():
        official = official_name(name, task)
        if official in converted:
            raise InputError(
                f"state_dict: expected one tensor for {official}, got two: {origin[official]} and {name}; remove one"
            )
        converted[official], origin[official] = tensor, name
    for name in [name for name in converted if name.endswith(".running_mean")]:
        counter = name.removesuffix("running_mean") + "num_batches_tracked"
        if counter not in converted:
            converted[counter] = torch.zeros((), dtype=torch.int64)
    return converted


def to_layout(state_dict: Mapping[str, Tensor], layout: str) -> dict[str, Tensor]:
    """Translate a state dict of the official layout to that of another code base; tensors are not copied.

    Args:
        state_dict: names, official ones, to tensors.
        layout: ``"official"`` for the official repository and mmpose 0.x, ``"mmpose"`` for mmpose 1.x.

    Raises:
        InputError: the layout is unknown.
    """
    if layout not in _HEADS_OF_LAYOUTS:
        raise InputError(f"layout: expected one of {', '.join(_HEADS_OF_LAYOUTS)}, got {layout!r}")
    head = _HEADS_OF_LAYOUTS[layout]
    return {re.sub(r"^keypoint_head\.", head, name): tensor for name, tensor in state_dict.items()}


def layout_of(state_dict: Mapping[str, Tensor]) -> str:
    """The layout that the names follow, in words, for reports."""
    names = [strip_wrappers(name) for name in state_dict]
    if any(name.endswith("._variance") for name in names):
        return "PaddleDetection"
    if any(name.startswith("head.final_layer.") for name in names):
        return "mmpose 1.x"
    if any(name.startswith("keypoint_head.") for name in names):
        return "official"
    if any(name.startswith("decode_head.") for name in names):
        return "mmsegmentation"
    return "backbone only"


class DetectedHead(NamedTuple):
    """What a state dict says about a network for segmentation, besides the variant.

    Args:
        num_outputs: number of classes.
        head: ``"fcn"`` or ``"resize_concat"``.
        iterative_head: whether the backbone ends with the iterative head.
    """

    num_outputs: int
    head: str
    iterative_head: bool


def detect_segmentation(state_dict: Mapping[str, Tensor]) -> DetectedHead | None:
    """What kind of network for segmentation a state dict is of, in any known layout; None where it is of none."""
    tensors = {official_name(name, "segmentation"): tensor for name, tensor in state_dict.items()}
    classifier = tensors.get(CLASSIFIER_WEIGHT)
    if classifier is None:
        return None
    head = "fcn" if "decode_head.conv_cat.conv.weight" in tensors else "resize_concat"
    count = len(classifier) if classifier.dim() else 0
    return DetectedHead(count, head, any(name.startswith("backbone.head_layer.") for name in tensors))


def detect_variant(state_dict: Mapping[str, Tensor]) -> tuple[str, int | None]:
    """Tell the variant of a network from the names and shapes of its state dict, in any known layout.

    Returns:
        The registry's name of the variant, such as ``"litehrnet_18"``, and the number of outputs of the keypoint
        head, ``None`` where there is no such head.

    Raises:
        InputError: this is no Lite-HRNet, or none of the released variants.
    """
    tensors = {official_name(name): tensor for name, tensor in state_dict.items()}
    first_branch = tensors.get("backbone.transition0.0.2.weight")
    if first_branch is None or "backbone.stem.conv1.conv.weight" not in tensors:
        examples = ", ".join(list(state_dict)[:3]) or "nothing"
        raise InputError(f"state_dict: expected the names of a Lite-HRNet, such as backbone.stem.*, got {examples}")
    num_modules = tuple(
        len({name.split(".")[2] for name in tensors if name.startswith(f"backbone.stage{stage}.")})
        for stage in range(len({name.split(".")[1] for name in tensors if name.startswith("backbone.stage")}))
    )
    module_type = "LITE" if any(".cross_resolution_weighting." in name for name in tensors) else "NAIVE"
    channels = len(first_branch) if first_branch.dim() else 0
    head = tensors.get(HEAD_WEIGHT)
    for variant in VARIANTS.values():
        if (variant.num_modules, variant.module_type, variant.channels[0]) == (num_modules, module_type, channels):
            return variant.name, None if head is None else len(head) if head.dim() else 0
    raise InputError(
        f"state_dict: expected one of {', '.join(VARIANTS)}, got a Lite-HRNet of type {module_type} with {num_modules} "
        f"modules in its stages and {channels} channels in the first branch"
    )
