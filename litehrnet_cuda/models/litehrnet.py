"""Lite-HRNet: the variants, the backbone, and the network for pose estimation.

Source: ``models/backbones/litehrnet.py`` and ``configs/top_down/lite_hrnet`` of the official repository.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.models.heads import HeatmapHead, IterativeHead
from litehrnet_cuda.models.pretrained import Pretrained
from litehrnet_cuda.nn.blocks import Stem
from litehrnet_cuda.nn.fuse import LiteHRModule, ModuleType
from litehrnet_cuda.nn.layers import separable_layers
from litehrnet_cuda.nn.separable import run_layers

Branches = Literal["top", "all"]
MIN_SIZE = 32  # below it, the lowest resolution (a 32nd) would be less than a pixel


@dataclass(frozen=True)
class Variant:
    """What tells one Lite-HRNet from another.

    Args:
        name: registry name.
        num_modules: modules in each stage.
        channels: channels of the branches, from high to low resolution; stage s uses the first s + 2.
        module_type: ``"LITE"`` (conditional channel weighting) or ``"NAIVE"`` (shuffle units).
        num_blocks: blocks in each module.
        reduce_ratio: reduction inside cross-resolution weighting.
        stem_channels: channels of the stem.
        expand_ratio: width of the stem's expansion.
    """

    name: str
    num_modules: tuple[int, ...]
    channels: tuple[int, ...]
    module_type: ModuleType = "LITE"
    num_blocks: int = 2
    reduce_ratio: int = 8
    stem_channels: int = 32
    expand_ratio: float = 1

    def __post_init__(self) -> None:
        if len(self.channels) != len(self.num_modules) + 1:
            raise ValueError(
                f"Variant {self.name!r}: expected {len(self.num_modules) + 1} channels for {len(self.num_modules)} "
                f"stages, got {self.channels}"
            )


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("litehrnet_18", (2, 4, 2), (40, 80, 160, 320)),
        Variant("litehrnet_30", (3, 8, 3), (40, 80, 160, 320)),
        Variant("naive_litehrnet_18", (2, 4, 2), (30, 60, 120, 240), "NAIVE"),
        Variant("wider_naive_litehrnet_18", (2, 4, 2), (40, 80, 160, 320), "NAIVE"),
    )
}


class LiteHRNet(Pretrained, nn.Module):
    """The backbone: stem, stages of parallel branches at 1/4, 1/8, 1/16 and 1/32, iterative head.

    Args:
        variant: which network.
        in_channels: channels of the image.
        branches: what to return: ``"top"`` for the highest resolution, ``"all"`` for a list from high to low.
        with_head: end with the iterative head, as the pose networks do. Without it the branches are those
            of the last stage.
        with_cp: gradient checkpointing: less memory in training for more time.

    Shape:
        ``[N, in_channels, H, W]``, H and W from 32 up and otherwise free, to ``[N, channels[0], ceil(H/4),
        ceil(W/4)]``, or to a list whose sizes halve, rounded up, from entry to entry.
    """

    def __init__(
        self,
        variant: Variant,
        in_channels: int = 3,
        branches: Branches = "top",
        with_head: bool = True,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        if branches not in ("top", "all"):
            raise ValueError(f"LiteHRNet: expected branches 'top' or 'all', got {branches!r}")
        self.variant = variant
        self.in_channels = in_channels
        self.branches = branches
        self.with_head = with_head
        channels, stem = list(variant.channels), variant.stem_channels
        self.stem = Stem(in_channels, stem, stem, variant.expand_ratio, with_cp=with_cp)
        self.num_stages = len(variant.num_modules)
        before = [stem]
        for stage, num_modules in enumerate(variant.num_modules):
            after = channels[: stage + 2]
            self.add_module(f"transition{stage}", _transition(before, after))
            modules = (
                LiteHRModule(
                    len(after), variant.num_blocks, after, variant.reduce_ratio, variant.module_type, with_cp=with_cp
                )
                for _ in range(num_modules)
            )
            self.add_module(f"stage{stage}", nn.Sequential(*modules))
            before = after
        if with_head:
            self.head_layer = IterativeHead(channels)
        self.reset_parameters()

    @property
    def out_channels(self) -> list[int]:
        """Channels of the branches that ``branches="all"`` returns, from high to low resolution."""
        channels = list(self.variant.channels)
        return [channels[0], *channels[:-1]] if self.with_head else channels

    def reset_parameters(self) -> None:
        """Initialises as the official code: convolutions from N(0, 0.001), batch norms to one and zero."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                _init_conv(module)
            elif isinstance(module, _BatchNorm):
                module.reset_parameters()

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        if x.dim() != 4 or x.shape[1] != self.in_channels or min(x.shape[-2:]) < MIN_SIZE:
            raise InputError(
                f"LiteHRNet: expected images of shape [N, {self.in_channels}, H, W] with H and W of at least "
                f"{MIN_SIZE}, got {list(x.shape)}"
            )
        out: list[Tensor] = [self.stem(x)]
        for stage in range(self.num_stages):
            transition = self.get_submodule(f"transition{stage}")
            assert isinstance(transition, nn.ModuleList)
            # A branch that is new grows out of the lowest one that was there.
            out = [
                out[min(i, len(out) - 1)] if path is None else run_layers([path], out[min(i, len(out) - 1)])
                for i, path in enumerate(transition)
            ]
            out = self.get_submodule(f"stage{stage}")(out)
        if self.with_head:
            out = self.head_layer(out)
        return out if self.branches == "all" else out[0]

    def extra_repr(self) -> str:
        return f"variant={self.variant.name!r}, branches={self.branches!r}, with_head={self.with_head}"


class PoseNetwork(Pretrained, nn.Module):
    """Backbone and heat-map head: the network for top-down pose estimation.

    Args:
        backbone: a Lite-HRNet that returns its top branch.
        num_outputs: number K of joints.

    Shape:
        normalised images ``[N, 3, H, W]``, H and W from 32 up, to heat maps ``[N, K, ceil(H/4), ceil(W/4)]``
    """

    def __init__(self, backbone: LiteHRNet, num_outputs: int) -> None:
        super().__init__()
        if num_outputs < 1:
            raise InputError(f"PoseNetwork: expected num_outputs of at least 1, got {num_outputs}")
        self.num_outputs = num_outputs
        self.backbone = backbone
        self.keypoint_head = HeatmapHead(backbone.out_channels[0], num_outputs)
        _init_conv(self.keypoint_head.final_layer)

    @property
    def variant(self) -> Variant:
        """Which Lite-HRNet the backbone is."""
        return self.backbone.variant

    def forward(self, x: Tensor) -> Tensor:
        heatmaps: Tensor = self.keypoint_head(self.backbone(x))
        return heatmaps


def _init_conv(conv: nn.Conv2d) -> None:
    nn.init.normal_(conv.weight, std=0.001)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def _transition(before: Sequence[int], after: Sequence[int]) -> nn.ModuleList:
    """The paths from the branches of one stage to those of the next; None where a branch goes on as it is."""
    paths: list[nn.Module | None] = []
    for i, channels in enumerate(after):
        if i < len(before):
            same = before[i] == channels
            paths.append(None if same else nn.Sequential(*separable_layers(before[i], channels)))
        else:
            widths = [before[-1]] * (i + 1 - len(before)) + [channels]
            steps = (nn.Sequential(*separable_layers(a, b, 2)) for a, b in pairwise(widths))
            paths.append(nn.Sequential(*steps))
    return nn.ModuleList(paths)  # type: ignore[arg-type]  # it does take None
