"""HRNet-W32 for heat maps, to compare with: the network that Lite-HRNet has a fraction of the operations of.

Source: Sun et al., "Deep High-Resolution Representation Learning for Human Pose Estimation" (CVPR 2019), section 3 and
its published configuration. Parameter names are our own: there are no weights to load.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (32, 64, 128, 256)
STEM, BOTTLENECK, EXPANDED = 64, 64, 256
BLOCKS = 4  # in the first stage, and in each branch of a module
MODULES = (1, 4, 3)  # of the stages with two, three and four branches


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, *, relu: bool = True) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), *([nn.ReLU()] if relu else []))


class Residual(nn.Module):
    """``relu(shortcut(x) + path(x))``."""

    def __init__(self, path: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.path, self.shortcut = path, shortcut or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.shortcut(x) + self.path(x))


def basic_block(width: int) -> Residual:
    return Residual(nn.Sequential(convolution(width, width, 3), convolution(width, width, 3, relu=False)))


def bottleneck(inputs: int) -> Residual:
    path = nn.Sequential(
        convolution(inputs, BOTTLENECK, 1),
        convolution(BOTTLENECK, BOTTLENECK, 3),
        convolution(BOTTLENECK, EXPANDED, 1, relu=False),
    )
    return Residual(path, convolution(inputs, EXPANDED, 1, relu=False) if inputs != EXPANDED else None)


class Exchange(nn.Module):
    """Every output is the sum of all branches, brought to its resolution and width.

    Args:
        widths: of the branches, from high to low resolution.
        outputs: how many branches come out.
    """

    def __init__(self, widths: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.paths = nn.ModuleList(
            nn.ModuleList(self._path(widths[j], widths[i], i - j) for j in range(len(widths))) for i in range(outputs)
        )

    @staticmethod
    def _path(inputs: int, outputs: int, halvings: int) -> nn.Module:
        if halvings == 0:
            return nn.Identity()
        if halvings < 0:
            return nn.Sequential(convolution(inputs, outputs, 1, relu=False), nn.Upsample(scale_factor=2**-halvings))
        steps = [convolution(inputs, inputs, 3, 2) for _ in range(halvings - 1)]
        return nn.Sequential(*steps, convolution(inputs, outputs, 3, 2, relu=False))

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        outputs = []
        for paths in self.paths:
            first, *others = (path(branch) for path, branch in zip(paths, x, strict=True))
            for other in others:
                first = first + other
            outputs.append(F.relu(first))
        return outputs


class Module(nn.Module):
    """Residual blocks on every branch, then an exchange."""

    def __init__(self, widths: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*(basic_block(w) for _ in range(BLOCKS))) for w in widths)
        self.exchange = Exchange(widths, outputs)

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        return self.exchange([branch(b) for branch, b in zip(self.branches, x, strict=True)])


class HRNet(nn.Module):
    """Images ``[N, 3, H, W]``, H and W multiples of 32, to heat maps ``[N, num_outputs, H/4, W/4]``."""

    def __init__(self, num_outputs: int = 17) -> None:
        super().__init__()
        self.stem = nn.Sequential(convolution(3, STEM, 3, 2), convolution(STEM, STEM, 3, 2))
        self.first = nn.Sequential(bottleneck(STEM), *(bottleneck(EXPANDED) for _ in range(BLOCKS - 1)))
        self.begin = nn.ModuleList([convolution(EXPANDED, WIDTHS[0], 3), convolution(EXPANDED, WIDTHS[1], 3, 2)])
        self.next_branch = nn.ModuleList(convolution(a, b, 3, 2) for a, b in pairwise(WIDTHS[1:]))
        self.stages = nn.ModuleList()
        for number, modules in enumerate(MODULES):
            widths, is_last = WIDTHS[: number + 2], number + 1 == len(MODULES)
            outputs = [len(widths)] * (modules - 1) + [1 if is_last else len(widths)]
            self.stages.append(nn.Sequential(*(Module(widths, count) for count in outputs)))
        self.head = nn.Conv2d(WIDTHS[0], num_outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.stem(x))
        branches = [path(x) for path in self.begin]
        for stage, new in zip(self.stages, [*self.next_branch, None], strict=True):
            branches = stage(branches)
            if new is not None:
                branches = [*branches, new(branches[-1])]
        return self.head(branches[0])
