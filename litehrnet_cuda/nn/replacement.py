"""Puts this package's modules in the place of those of an existing model, without touching what the model has learnt.

A module is swapped by giving the object another class, as PyTorch's own parametrizations do. So parameters, buffers,
hooks, flags, names and every reference to the module stay what they were, whoever holds them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from litehrnet_cuda.backends import use_backend
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.nn.blocks import ConditionalChannelWeighting
from litehrnet_cuda.nn.fuse import LiteHRModule
from litehrnet_cuda.nn.weighting import CrossResolutionWeighting
from litehrnet_cuda.reference.conditional_channel_weighting import conditional_channel_weighting

Model = TypeVar("Model", bound=nn.Module)

# Only what brings something: the fused block, cross-resolution weighting whose backward pass is deterministic on a
# GPU, and the fuse step that evaluates no path twice.
CLASSES: dict[str, type[nn.Module]] = {
    cls.__name__: cls for cls in (ConditionalChannelWeighting, CrossResolutionWeighting, LiteHRModule)
}
# Both sides of a trial are fp64 and differ by rounding, some 1e-13; whatever else differs, differs in the first digits.
TRIAL_TOLERANCE = 1e-9


class _Unfit(Exception):
    """Why a module is left as it is."""


def use_fused_modules(model: Model) -> Model:
    """Swaps the modules of a Lite-HRNet of the official repository, mmpose 0.x or mmpose 1.x for this package's.

    Swapped are ``ConditionalChannelWeighting``, ``CrossResolutionWeighting`` and ``LiteHRModule``. They are
    recognised by the name of their class and by their parts. Copies of these classes in other projects may compute
    something else under the same name, so each is tried out against its replacement on random weights (a copy, in fp64
    on the CPU, in evaluation and training mode) and swapped only if outputs and running statistics agree. For a whole
    network that takes some seconds, on a busy CPU half a minute.

    The model is changed in place. Its parameters and buffers stay the same objects, so optimizers, exponential
    averages and distributed wrappers made before go on working, and so do hooks, ``state_dict`` and its order, devices,
    dtypes, training flags and frozen parts. Calling it again changes nothing. Call it before ``torch.compile``.

    Three things differ afterwards, all for the better: the fuse step leaves the blocks' outputs as they were, which the
    official code overwrites; input sizes are free; and ``with_cp=True``, at which the official block fails, works.

    Args:
        model: any module that contains them, or one of them.

    Returns:
        the same object.

    Warns:
        UserWarning: for each reason why a module of one of these names, or of a class derived from one, was left as
            it is: other norms than batch norm, stride 2, other activations, more or fewer parts, another result.

    Raises:
        InputError: if there is nothing to swap, or nothing that fits.
    """
    found = 0
    left: dict[str, list[str]] = {}
    for name, module in list(model.named_modules()):
        if isinstance(module, tuple(CLASSES.values())):
            found += 1  # this package's already
            continue
        try:
            found += _swap(module)
        except _Unfit as unfit:
            left.setdefault(f"{type(module).__name__}: {unfit}", []).append(name or "the model itself")
    reasons = [f"{names[0]}{_and_more(names)} ({reason})" for reason, names in left.items()]
    if not found:
        looked_for = f"expected a model with modules of the classes {', '.join(CLASSES)}"
        got = f"could use none of: {'; '.join(reasons)}" if reasons else f"got {type(model).__name__} with none of them"
        raise InputError(f"use_fused_modules: {looked_for}, as the official repository and mmpose have them, {got}")
    for reason in reasons:
        warnings.warn(f"use_fused_modules: left as it is: {reason}", stacklevel=2)
    return model


def _and_more(names: Sequence[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def _swap(module: nn.Module) -> bool:
    """Swaps one module if its class is one of those looked for and there is something to gain."""
    names = [cls.__name__ for cls in type(module).__mro__]
    if not set(names) & set(CLASSES):
        return False
    if names[0] not in CLASSES:
        raise _Unfit("a derived class, which may compute something else")
    if "forward" in vars(module):
        raise _Unfit("its forward has been replaced")
    if names[0] == "LiteHRModule" and not _has_fuse_step(module):
        return False
    replacement = CLASSES[names[0]]
    try:
        channels = _check_parts(module)
    except (AttributeError, TypeError) as error:
        raise _Unfit(f"its parts are others: {error}") from error
    _try_out(module, replacement, channels)
    _become(module, replacement)
    return True


def _become(module: nn.Module, replacement: type[nn.Module]) -> None:
    """Gives a module the class, and what objects of that class hold besides their parts."""
    module.__class__ = replacement
    if isinstance(module, ConditionalChannelWeighting):
        module.with_cp = bool(getattr(module, "with_cp", False))
        module._folded = {}
    elif isinstance(module, LiteHRModule):
        # Here the fuse step goes up to the partner's size, whatever that is, and not by a factor.
        for part in module.fuse_layers.modules():
            if isinstance(part, nn.Upsample):
                _become(part, nn.Identity)


def _has_fuse_step(module: Any) -> bool:
    return bool(getattr(module, "with_fuse", True)) and getattr(module, "num_branches", 2) > 1


def _check_parts(module: Any) -> list[int]:
    """Checks that a module has the parts that its replacement works with, and gives the channels of its branches."""
    match type(module).__name__:
        case "LiteHRModule":
            _expect_children(module, "layers", "fuse_layers", "relu")
            _expect("module_type", module.module_type, "LITE", "NAIVE")
            _expect("multiscale_output", module.multiscale_output, True, False)
            _expect("relu", type(module.relu), nn.ReLU)
            _expect("in_channels", len(module.in_channels), module.num_branches)
            return list(module.in_channels)
        case "CrossResolutionWeighting":
            _expect_children(module, "conv1", "conv2")
            hidden, total = module.conv1.conv.out_channels, sum(module.channels)
            _check_layer("conv1", module.conv1, total, hidden)
            _check_layer("conv2", module.conv2, hidden, total, nn.Sigmoid)
            return list(module.channels)
    _expect_children(module, "cross_resolution_weighting", "depthwise_convs", "spatial_weighting")
    half = [layer.conv.out_channels for layer in module.depthwise_convs]
    weighting = module.cross_resolution_weighting
    hidden = weighting.conv1.conv.out_channels
    _expect("spatial_weighting", len(module.spatial_weighting), len(half))
    _check_layer("cross_resolution_weighting.conv1", weighting.conv1, sum(half), hidden)
    _check_layer("cross_resolution_weighting.conv2", weighting.conv2, hidden, sum(half), nn.Sigmoid)
    for i, (channels, gate) in enumerate(zip(half, module.spatial_weighting, strict=True)):
        _check_layer(f"depthwise_convs.{i}", module.depthwise_convs[i], channels, channels, None, size=3)
        hidden, name = gate.conv1.conv.out_channels, f"spatial_weighting.{i}"
        _check_layer(f"{name}.conv1", gate.conv1, channels, hidden, norm=False)
        _check_layer(f"{name}.conv2", gate.conv2, hidden, channels, nn.Sigmoid, norm=False)
    return [2 * channels for channels in half]


def _check_layer(
    name: str,
    layer: Any,
    in_channels: int,
    out_channels: int,
    activation: type[nn.Module] | None = nn.ReLU,
    *,
    size: int = 1,
    norm: bool = True,
) -> None:
    """Checks a ``ConvModule``, of whoever: ``conv``, then ``bn``, then ``activate``."""
    expected = {
        "in_channels": in_channels,
        "out_channels": out_channels,
        "kernel_size": (size, size),
        "stride": (1, 1),
        "padding": (size // 2, size // 2),
        "dilation": (1, 1),
        "groups": 1 if size == 1 else in_channels,
        "padding_mode": "zeros",
    }
    conv = layer.conv
    if not isinstance(conv, nn.Conv2d):
        raise _Unfit(f"{name}.conv: expected Conv2d, got {type(conv).__name__}")
    for attribute, value in expected.items():
        _expect(f"{name}.conv.{attribute}", getattr(conv, attribute), value)
    _expect(f"{name}.with_norm", layer.with_norm, norm)
    _expect(f"{name}.conv: parameters", _tensors(conv), {"weight"} if norm else {"weight", "bias"})
    if norm:
        normalise = getattr(layer, "bn", None)
        # mmcv derives a class of its own from SyncBatchNorm.
        if type(normalise) is not nn.BatchNorm2d and not isinstance(normalise, nn.SyncBatchNorm):
            got = type(getattr(layer, "norm", normalise)).__name__
            raise _Unfit(f"{name}: expected BatchNorm2d or SyncBatchNorm, got {got}")
        tensors = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
        _expect(f"{name}.bn: parameters and buffers", _tensors(normalise), tensors)
    last = type(layer.activate) if layer.with_activation else None
    if last is not activation:
        raise _Unfit(f"{name}: expected {_name(activation)} at the end, got {_name(last)}")


def _name(activation: type[nn.Module] | None) -> str:
    return "no activation" if activation is None else activation.__name__


def _tensors(module: nn.Module) -> set[str]:
    """The names of what a module holds itself; others than expected where it is pruned, quantised or sharded."""
    held = {**module._parameters, **module._buffers, **module._modules}
    return {name for name, value in held.items() if value is not None}


def _expect(what: str, got: object, *expected: object) -> None:
    if got not in expected:
        raise _Unfit(f"{what}: expected {' or '.join(map(_text, expected))}, got {_text(got)}")


def _text(value: object) -> str:
    return ", ".join(sorted(value)) if isinstance(value, set) else str(value)


def _expect_children(module: nn.Module, *names: str) -> None:
    _expect("parts", {name for name, _ in module.named_children()}, set(names))


def _try_out(module: nn.Module, replacement: type[nn.Module], channels: Sequence[int]) -> None:
    """Runs a copy of a module as it is and one as it would be, and compares outputs and buffers."""
    with torch.no_grad(), use_backend("reference"):
        theirs, ours = (_trial_copy(module, torch.Generator().manual_seed(0)) for _ in range(2))
        _become(ours, replacement)
        random = torch.Generator().manual_seed(1)
        scales = [2 ** (len(channels) - 1 - i) for i in range(len(channels))]
        x = [_normal((2, c, 2 * s, 3 * s), random) for c, s in zip(channels, scales, strict=True)]
        for training in (False, True):
            folded: list[Tensor] = []
            try:
                expected = list(theirs.train(training)([s.clone() for s in x]))
                got = list(ours.train(training)([s.clone() for s in x]))
                if isinstance(ours, ConditionalChannelWeighting) and not training:
                    # What the fused block computes, and from what: the weights, past the modules that hold them.
                    folded = conditional_channel_weighting(x, *ours.folded(torch.float64))
            except Exception as error:  # of whatever kind: it is code of others that runs here
                raise _Unfit(f"a trial run failed with {type(error).__name__}: {error}") from error
            _compare(got, expected, f"in {'training' if training else 'evaluation'} mode")
            if folded:
                _compare(folded, expected, "with its batch norms folded")
        _compare(list(ours.buffers()), list(theirs.buffers()), "in running statistics after a training step")


def _compare(got: Sequence[Tensor], expected: Sequence[Tensor], what: str) -> None:
    same = len(got) == len(expected) and all(
        a.shape == b.shape and (a - b).abs().max() <= TRIAL_TOLERANCE * b.abs().max()
        for a, b in zip(got, expected, strict=True)
    )
    if not same:
        raise _Unfit(f"it computes something else than Lite-HRNet {what}")


def _trial_copy(module: nn.Module, random: torch.Generator) -> nn.Module:
    """A module like another, with random weights in fp64 on the CPU, without its hooks and without checkpointing."""
    # SyncBatchNorm trains on a GPU only, and within one process does what BatchNorm2d does.
    kind = nn.BatchNorm2d if isinstance(module, nn.SyncBatchNorm) else type(module)
    copy: nn.Module = kind.__new__(kind)
    copy.__dict__ = {**vars(module), "with_cp": False, **vars(nn.Module())}
    for name, parameter in module._parameters.items():
        value = None if parameter is None else nn.Parameter(_weights(parameter, random), requires_grad=False)
        copy._parameters[name] = value
    for name, buffer in module._buffers.items():
        copy._buffers[name] = None if buffer is None else _weights(buffer, random)
    for name, child in module._modules.items():
        copy._modules[name] = None if child is None else _trial_copy(child, random)
    return copy


def _weights(like: Tensor, random: torch.Generator) -> Tensor:
    """Values at which nothing vanishes and nothing explodes: the initial ones of a network would hide differences."""
    if not like.is_floating_point():
        return torch.zeros(like.shape, dtype=like.dtype, device="cpu")
    if like.dim() > 1:
        return _normal(like.shape, random) / math.sqrt(max(1, like.numel() // like.shape[0]))
    return 0.5 + torch.rand(like.shape, generator=random, dtype=torch.float64, device="cpu")


def _normal(shape: Sequence[int], random: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=random, dtype=torch.float64, device="cpu")
