"""Stand-ins for the modules of the official repository and of mmpose, as far as outsiders can tell them apart.

Class names, constructor arguments, names of parts and what is computed are theirs, the in-place sums of the fuse step
included: facts that python_tests/golden and litehrnet_cuda/models record. test_replacement.py compares them with the
reference data that the real ones left. Parts under no test (head, transitions) are this package's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from litehrnet_cuda.models.heads import HeatmapHead, IterativeHead
from litehrnet_cuda.models.litehrnet import Variant, _transition

Config = dict[str, Any]
BN: Config = {"type": "BN"}
RELU: Config = {"type": "ReLU"}
GATE = (RELU, {"type": "Sigmoid"})
ACTIVATIONS = {"ReLU": nn.ReLU, "Sigmoid": nn.Sigmoid, "HSigmoid": nn.Hardsigmoid}


class SyncBatchNorm(nn.SyncBatchNorm):
    """mmcv has a class of its own, too."""


def build_norm(config: Config, channels: int) -> tuple[str, nn.Module]:
    options = {key: value for key, value in config.items() if key not in ("type", "num_groups")}
    match config["type"]:
        case "GN":
            return "gn", nn.GroupNorm(config["num_groups"], channels)
        case "SyncBN":
            return "bn", SyncBatchNorm(channels, **options)
    return "bn", nn.BatchNorm2d(channels, **options)


def shuffle(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.reshape(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class ConvModule(nn.Module):
    """mmcv's."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        bias: bool | str = "auto",
        conv_cfg: Config | None = None,
        norm_cfg: Config | None = None,
        act_cfg: Config | None = RELU,
    ) -> None:
        super().__init__()
        self.conv_cfg, self.norm_cfg, self.act_cfg = conv_cfg, norm_cfg, act_cfg
        self.with_norm, self.with_activation = norm_cfg is not None, act_cfg is not None
        self.with_bias = not self.with_norm if bias == "auto" else bool(bias)
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=self.with_bias
        )
        self.norm_name = None
        if norm_cfg is not None:
            self.norm_name, norm = build_norm(norm_cfg, out_channels)
            self.add_module(self.norm_name, norm)
        if act_cfg is not None:
            options = {"inplace": True} if act_cfg["type"] == "ReLU" else {}
            self.activate = ACTIVATIONS[act_cfg["type"]](**options)

    @property
    def norm(self) -> nn.Module | None:
        return getattr(self, self.norm_name) if self.norm_name else None

    def forward(self, x: Tensor, activate: bool = True, norm: bool = True) -> Tensor:
        x = self.conv(x)
        if norm and self.norm is not None:
            x = self.norm(x)
        return self.activate(x) if activate and self.with_activation else x


class SpatialWeighting(nn.Module):
    def __init__(
        self,
        channels: int,
        ratio: int = 16,
        conv_cfg: Config | None = None,
        norm_cfg: Config | None = None,
        act_cfg: tuple[Config, Config] = GATE,
    ) -> None:
        super().__init__()
        hidden = int(channels / ratio)
        self.global_avgpool = nn.AdaptiveAvgPool2d(1)
        self.conv1 = ConvModule(channels, hidden, 1, conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg[0])
        self.conv2 = ConvModule(hidden, channels, 1, conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg[1])

    def forward(self, x: Tensor) -> Tensor:
        return x * self.conv2(self.conv1(self.global_avgpool(x)))


class CrossResolutionWeighting(nn.Module):
    def __init__(
        self,
        channels: Sequence[int],
        ratio: int = 16,
        conv_cfg: Config | None = None,
        norm_cfg: Config | None = None,
        act_cfg: tuple[Config, Config] = GATE,
    ) -> None:
        super().__init__()
        self.channels = channels
        total, hidden = sum(channels), int(sum(channels) / ratio)
        self.conv1 = ConvModule(total, hidden, 1, conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg[0])
        self.conv2 = ConvModule(hidden, total, 1, conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg[1])

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        size = x[-1].shape[-2:]
        pooled = torch.cat([*(F.adaptive_avg_pool2d(s, size) for s in x[:-1]), x[-1]], dim=1)
        gates = self.conv2(self.conv1(pooled)).split(self.channels, dim=1)
        return [s * F.interpolate(g, size=s.shape[-2:], mode="nearest") for s, g in zip(x, gates, strict=True)]


class ConditionalChannelWeighting(nn.Module):
    def __init__(
        self,
        in_channels: Sequence[int],
        stride: int,
        reduce_ratio: int,
        conv_cfg: Config | None = None,
        norm_cfg: Config | None = BN,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        self.with_cp, self.stride = with_cp, stride
        half = [channels // 2 for channels in in_channels]
        self.cross_resolution_weighting = CrossResolutionWeighting(half, reduce_ratio, conv_cfg, norm_cfg)
        self.depthwise_convs = nn.ModuleList(
            ConvModule(c, c, 3, stride, 1, groups=c, conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=None) for c in half
        )
        self.spatial_weighting = nn.ModuleList(SpatialWeighting(c, ratio=4) for c in half)

    def _block(self, x: list[Tensor]) -> list[Tensor]:
        kept = [s.chunk(2, dim=1)[0] for s in x]
        changed = self.cross_resolution_weighting([s.chunk(2, dim=1)[1] for s in x])
        changed = [conv(s) for conv, s in zip(self.depthwise_convs, changed, strict=True)]
        changed = [gate(s) for gate, s in zip(self.spatial_weighting, changed, strict=True)]
        return [shuffle(torch.cat(pair, dim=1)) for pair in zip(kept, changed, strict=True)]

    def forward(self, x: Any) -> list[Tensor]:
        if self.with_cp and x.requires_grad:  # an AttributeError: x is a list
            return checkpoint(self._block, x, use_reentrant=True)
        return self._block(x)


class ShuffleUnit(nn.Module):
    """At stride 1, as the modules have it."""

    def __init__(self, channels: int, norm_cfg: Config | None = BN, with_cp: bool = False) -> None:
        super().__init__()
        half = channels // 2
        self.stride, self.with_cp = 1, with_cp
        self.branch2 = nn.Sequential(
            ConvModule(half, half, 1, norm_cfg=norm_cfg),
            ConvModule(half, half, 3, 1, 1, groups=half, norm_cfg=norm_cfg, act_cfg=None),
            ConvModule(half, half, 1, norm_cfg=norm_cfg),
        )

    def forward(self, x: Tensor) -> Tensor:
        x1, x2 = x.chunk(2, dim=1)
        return shuffle(torch.cat((x1, self.branch2(x2)), dim=1))


class Stem(nn.Module):
    """With as many channels behind as in front."""

    def __init__(self, in_channels: int, channels: int, norm_cfg: Config | None = BN) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = ConvModule(in_channels, channels, 3, 2, 1, norm_cfg=norm_cfg)
        self.branch1 = nn.Sequential(
            ConvModule(half, half, 3, 2, 1, groups=half, norm_cfg=norm_cfg, act_cfg=None),
            ConvModule(half, half, 1, norm_cfg=norm_cfg),
        )
        self.expand_conv = ConvModule(half, channels, 1, norm_cfg=norm_cfg)
        self.depthwise_conv = ConvModule(channels, channels, 3, 2, 1, groups=channels, norm_cfg=norm_cfg, act_cfg=None)
        self.linear_conv = ConvModule(channels, half, 1, norm_cfg=norm_cfg)

    def forward(self, x: Tensor) -> Tensor:
        x1, x2 = self.conv1(x).chunk(2, dim=1)
        x2 = self.linear_conv(self.depthwise_conv(self.expand_conv(x2)))
        return shuffle(torch.cat((self.branch1(x1), x2), dim=1))


class LiteHRModule(nn.Module):
    def __init__(
        self,
        num_branches: int,
        num_blocks: int,
        in_channels: Sequence[int],
        reduce_ratio: int,
        module_type: str,
        multiscale_output: bool = False,
        with_fuse: bool = True,
        conv_cfg: Config | None = None,
        norm_cfg: Config = BN,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        self.num_branches, self.in_channels, self.module_type = num_branches, in_channels, module_type
        self.multiscale_output, self.with_fuse, self.with_cp = multiscale_output, with_fuse, with_cp
        self.norm_cfg, self.conv_cfg = norm_cfg, conv_cfg
        if module_type == "LITE":
            self.layers = nn.Sequential(
                *(
                    ConditionalChannelWeighting(in_channels, 1, reduce_ratio, conv_cfg, norm_cfg, with_cp)
                    for _ in range(num_blocks)
                )
            )
        else:
            self.layers = nn.ModuleList(
                nn.Sequential(*(ShuffleUnit(c, norm_cfg, with_cp) for _ in range(num_blocks))) for c in in_channels
            )
        if with_fuse:
            rows = range(num_branches if multiscale_output else 1)
            self.fuse_layers = None
            if num_branches > 1:
                self.fuse_layers = nn.ModuleList(
                    nn.ModuleList(self._path(i, j) for j in range(num_branches)) for i in rows
                )
            self.relu = nn.ReLU()

    def _path(self, i: int, j: int) -> nn.Module | None:
        """From branch j to branch i: a 1x1 convolution going up, a separable one for each step going down."""
        source, target = self.in_channels[j], self.in_channels[i]
        if i == j:
            return None
        if j > i:
            conv = nn.Conv2d(source, target, 1, bias=False)
            return nn.Sequential(conv, build_norm(self.norm_cfg, target)[1], nn.Upsample(scale_factor=2 ** (j - i)))
        steps = []
        for last in [False] * (i - j - 1) + [True]:
            width = target if last else source
            step = [
                nn.Conv2d(source, source, 3, 2, 1, groups=source, bias=False),
                build_norm(self.norm_cfg, source)[1],
                nn.Conv2d(source, width, 1, bias=False),
                build_norm(self.norm_cfg, width)[1],
            ]
            steps.append(nn.Sequential(*step, *([] if last else [nn.ReLU(inplace=True)])))
        return nn.Sequential(*steps)

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        if self.num_branches == 1:
            return [self.layers[0](x[0])]
        if self.module_type == "LITE":
            x = self.layers(x)
        else:
            for i, layer in enumerate(self.layers):
                x[i] = layer(x[i])
        if not self.with_fuse:
            return x if self.multiscale_output else x[:1]
        out = []
        for i, paths in enumerate(self.fuse_layers):
            y = paths[0](x[0]) if i else x[0]
            for j, path in enumerate(paths):
                y += x[j] if i == j else path(x[j])  # at i = 0 into x[0], which is doubled and read again by the others
            out.append(self.relu(y))
        return out


class LiteHRNet(nn.Module):
    """The backbone, from this package's table of variants instead of a configuration file."""

    def __init__(self, variant: Variant, norm_cfg: Config = BN, with_cp: bool = False) -> None:
        super().__init__()
        self.stem = Stem(3, variant.stem_channels, norm_cfg)
        before = [variant.stem_channels]
        for stage, num_modules in enumerate(variant.num_modules):
            after = list(variant.channels[: stage + 2])
            self.add_module(f"transition{stage}", _transition(before, after))
            options = {"multiscale_output": True, "norm_cfg": norm_cfg, "with_cp": with_cp}
            shape = (len(after), variant.num_blocks, after, variant.reduce_ratio, variant.module_type)
            modules = (LiteHRModule(*shape, **options) for _ in range(num_modules))
            self.add_module(f"stage{stage}", nn.Sequential(*modules))
            before = after
        self.head_layer = IterativeHead(before)

    def forward(self, x: Tensor) -> Tensor:
        branches = [self.stem(x)]
        for stage in range(3):
            paths = getattr(self, f"transition{stage}")
            # A path starts at the branch of its own index, or, for a new one, at the lowest there is.
            sources = [branches[min(i, len(branches) - 1)] for i in range(len(paths))]
            branches = [s if path is None else path(s) for path, s in zip(paths, sources, strict=True)]
            branches = getattr(self, f"stage{stage}")(branches)
        return self.head_layer(branches)[0]


class TopDown(nn.Module):
    """Backbone and head under the names of mmpose's detectors."""

    def __init__(self, variant: Variant, num_outputs: int = 17, **options: Any) -> None:
        super().__init__()
        self.backbone = LiteHRNet(variant, **options)
        self.keypoint_head = HeatmapHead(variant.channels[0], num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.keypoint_head(self.backbone(x))
