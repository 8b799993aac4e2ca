"""MobileNetV2 with three transposed convolutions for heat maps, to compare with: the usual small network of its time.

Sources: Sandler et al., "MobileNetV2" (CVPR 2018), table 2; Xiao et al., "Simple Baselines for Human Pose Estimation
and Tracking" (ECCV 2018), section 2. Parameter names are our own: there are no weights to load.
"""

from __future__ import annotations

from torch import Tensor, nn

# Expansion, channels, blocks, stride of the first of them.
BOTTLENECKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STEM, LAST, UPWARD = 32, 1280, (256, 256, 256)


def convolution(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, *, relu: bool = True
) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), *([nn.ReLU6()] if relu else []))


class InvertedResidual(nn.Module):
    """Expand, depthwise 3x3, project; added to the input where shapes allow."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.path = nn.Sequential(
            *([convolution(inputs, hidden)] if expansion > 1 else []),
            convolution(hidden, hidden, 3, stride, groups=hidden),
            convolution(hidden, outputs, relu=False),
        )
        self.is_residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.path(x) if self.is_residual else self.path(x)


class MobileNetPose(nn.Module):
    """Images ``[N, 3, H, W]``, H and W multiples of 32, to heat maps ``[N, num_outputs, H/4, W/4]``."""

    def __init__(self, num_outputs: int = 17) -> None:
        super().__init__()
        layers: list[nn.Module] = [convolution(3, STEM, 3, 2)]
        channels = STEM
        for expansion, outputs, blocks, stride in BOTTLENECKS:
            for block in range(blocks):
                layers.append(InvertedResidual(channels, outputs, expansion, stride if block == 0 else 1))
                channels = outputs
        layers.append(convolution(channels, LAST))
        channels = LAST
        for outputs in UPWARD:
            up = nn.ConvTranspose2d(channels, outputs, 4, 2, 1, bias=False)
            layers += [up, nn.BatchNorm2d(outputs), nn.ReLU()]
            channels = outputs
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels, num_outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
