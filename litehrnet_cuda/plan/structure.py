"""Whether a network consists of what the builder of plans takes it to consist of, and of nothing else."""

from __future__ import annotations

from torch import device, nn

from litehrnet_cuda.models.litehrnet import LiteHRNet, PoseNetwork
from litehrnet_cuda.models.segmentation import SegmentationNetwork

Part = tuple[str, type[nn.Module], str]  # name, class, settings that the builder takes for granted
_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)  # the same in evaluation mode
_as_built: dict[str, list[Part]] = {}


def unusual_part(model: nn.Module) -> str:
    """Says what a plan would not do that a network does, or nothing.

    That is a hook, a ``forward`` of somebody's own, a part that has been replaced, added, quantised or parametrised, a
    class derived from a network's, or a batch norm without running statistics.

    Args:
        model: the network, on any device, of any dtype, in any mode.
    """
    if type(model) not in (LiteHRNet, PoseNetwork, SegmentationNetwork):
        return f"expected a LiteHRNet, a PoseNetwork or a SegmentationNetwork, got {type(model).__name__}"
    backbone = model.backbone if isinstance(model, (PoseNetwork, SegmentationNetwork)) else model
    if type(backbone) is not LiteHRNet:
        return f"backbone: expected a LiteHRNet, got {type(backbone).__name__}"
    for name, part in model.named_modules():
        if part._forward_hooks or part._forward_pre_hooks:
            return f"{name or 'the network'}: expected no hook, got one"
        if "forward" in vars(part):
            return f"{name or 'the network'}: expected the forward of its class, got another one"
    expected, found = _parts_as_built(model, backbone), _parts(model)
    for own, built in zip(found, expected, strict=False):
        if own != built:
            return f"{built[0]}: expected {_described(built)}, got {_described(own)}" + (
                f" as {own[0]}" if own[0] != built[0] else ""
            )
    return "" if len(found) == len(expected) else f"expected {len(expected)} parts, got {len(found)}"


def _parts(model: nn.Module) -> list[Part]:
    return [(name, _class(part), _settings(part)) for name, part in model.named_modules()]


def _class(part: nn.Module) -> type[nn.Module]:
    return nn.BatchNorm2d if type(part) in _NORMS else type(part)


def _settings(part: nn.Module) -> str:
    if isinstance(part, _NORMS):
        tensors = (*part._parameters.items(), *part._buffers.items())
        return f"{part.num_features} with {', '.join(name for name, tensor in tensors if tensor is not None)}"
    return part.extra_repr() if isinstance(part, (nn.Conv2d, nn.AdaptiveAvgPool2d)) else ""


def _described(part: Part) -> str:
    return f"{part[1].__name__}({part[2]})"


def _parts_as_built(model: nn.Module, backbone: LiteHRNet) -> list[Part]:
    """The parts of a network of the same kind as it comes from its class; made once, as that takes a while."""
    head = ""
    if isinstance(model, (PoseNetwork, SegmentationNetwork)):
        head = f"{model.num_outputs} {getattr(model, 'head', 'pose')}"
    key = f"{backbone.variant} {backbone.in_channels} {backbone.branches} {backbone.with_head} {head}"
    if key not in _as_built:
        with device("meta"):  # no memory, no random numbers
            twin = LiteHRNet(backbone.variant, backbone.in_channels, backbone.branches, backbone.with_head)
            if isinstance(model, PoseNetwork):
                _as_built[key] = _parts(PoseNetwork(twin, model.num_outputs))
            elif isinstance(model, SegmentationNetwork):
                _as_built[key] = _parts(SegmentationNetwork(twin, model.num_outputs, model.head))
            else:
                _as_built[key] = _parts(twin)
    return _as_built[key]
