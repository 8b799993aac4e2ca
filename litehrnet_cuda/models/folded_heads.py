"""Segmentation heads in inference: batch norms folded, and products taken before upsampling.

Plans have no steps for dense 3x3 convolutions or for upsampling without aligned corners, so a plan ends with the
backbone, and what is here follows in PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from litehrnet_cuda.models.heads import FCNHead, ResizeConcatHead
from litehrnet_cuda.nn.folding import Pair, fold_batch_norm

FoldedHead = Callable[[Sequence[Tensor]], Tensor]


def fold_head(head: FCNHead | ResizeConcatHead, device: torch.device, dtype: torch.dtype) -> FoldedHead:
    """What a head does in evaluation mode, as a function of the backbone's outputs, from high to low resolution.

    Args:
        head: whose weights are copied.
        device: of the outputs.
        dtype: of the outputs, and of what is returned.
    """

    def placed(pair: Pair) -> Pair:
        weight, bias = (tensor.detach().to(device, dtype, copy=True) for tensor in pair)
        return weight, bias

    def folded(module: torch.nn.Module) -> Pair:
        return placed(fold_batch_norm(module))

    assert head.conv_seg.bias is not None
    classifier = placed((head.conv_seg.weight, head.conv_seg.bias))
    if isinstance(head, FCNHead):
        return _FoldedFCN([folded(conv) for conv in head.convs], folded(head.conv_cat), classifier)
    weight, bias = folded(head.convs[0])
    return _FoldedResizeConcat(torch.split(weight, head.in_channels, dim=1), bias, classifier)


class _FoldedFCN:
    def __init__(self, convs: Sequence[Pair], last: Pair, classifier: Pair) -> None:
        self.convs = convs
        self.last = last
        self.classifier = classifier

    def __call__(self, x: Sequence[Tensor]) -> Tensor:
        y = x[0]
        for weight, bias in self.convs:
            y = F.conv2d(y, weight, bias, padding=1).relu_()
        weight, bias = self.last
        y = F.conv2d(torch.cat([x[0], y], dim=1), weight, bias, padding=1).relu_()
        return F.conv2d(y, *self.classifier)


class _FoldedResizeConcat:
    """``relu(W concat_i(up(x_i)) + b) = relu(W_0 x_0 + b + sum_i up(W_i x_i))``, as upsampling weights sum to one.

    The products of lower resolutions are so taken there, a fifth of the multiplications and no concatenation.
    """

    def __init__(self, weights: Sequence[Tensor], bias: Tensor, classifier: Pair) -> None:
        self.weights = weights
        self.bias = bias
        self.classifier = classifier

    def __call__(self, x: Sequence[Tensor]) -> Tensor:
        y = F.conv2d(x[0], self.weights[0], self.bias)
        for branch, weight in zip(x[1:], self.weights[1:], strict=True):
            low = F.conv2d(branch, weight)
            y += F.interpolate(low, size=y.shape[-2:], mode="bilinear", align_corners=False)
        return F.conv2d(y.relu_(), *self.classifier)
