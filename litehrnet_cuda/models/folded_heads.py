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
    assert head.conv_seg.bias is not None
    layers = [*(fold_batch_norm(conv) for conv in head.convs), (head.conv_seg.weight, head.conv_seg.bias)]
    if isinstance(head, FCNHead):
        layers.insert(-1, fold_batch_norm(head.conv_cat))
    layers = [(weight.to(device, dtype), bias.to(device, dtype, copy=True)) for weight, bias in layers]
    # What a CPU's convolutions work in; given NCHW they convert each time, and the FCN head takes 73 ms instead of 46
    # for an image of 1024x512 on one core.
    memory = torch.channels_last if device.type == "cpu" else torch.contiguous_format
    copies = [(weight.detach().clone(memory_format=memory), bias.detach()) for weight, bias in layers]
    if isinstance(head, FCNHead):
        return _FoldedFCN(copies, memory)
    (weight, bias), classifier = copies
    weights = [part.clone(memory_format=memory) for part in torch.split(weight, head.in_channels, dim=1)]
    return _FoldedResizeConcat(weights, bias, classifier, memory)


class _FoldedFCN:
    def __init__(self, layers: Sequence[Pair], memory: torch.memory_format) -> None:
        self.layers = layers
        self.memory = memory

    def __call__(self, x: Sequence[Tensor]) -> Tensor:
        first, second, last, classifier = self.layers
        top = x[0].contiguous(memory_format=self.memory)
        y = F.conv2d(top, *first, padding=1).relu_()
        y = F.conv2d(y, *second, padding=1).relu_()
        y = F.conv2d(torch.cat([top, y], dim=1), *last, padding=1).relu_()
        return F.conv2d(y, *classifier).contiguous()


class _FoldedResizeConcat:
    """``relu(W concat_i(up(x_i)) + b) = relu(W_0 x_0 + b + sum_i up(W_i x_i))``, as upsampling weights sum to one.

    The products of lower resolutions are so taken there: a fifth of the multiplications, and no concatenation.
    """

    def __init__(self, weights: Sequence[Tensor], bias: Tensor, classifier: Pair, memory: torch.memory_format) -> None:
        self.weights = weights
        self.bias = bias
        self.classifier = classifier
        self.memory = memory

    def __call__(self, x: Sequence[Tensor]) -> Tensor:
        top, *lower = (branch.contiguous(memory_format=self.memory) for branch in x)
        y = F.conv2d(top, self.weights[0], self.bias)
        for branch, weight in zip(lower, self.weights[1:], strict=True):
            y += F.interpolate(F.conv2d(branch, weight), size=y.shape[-2:], mode="bilinear", align_corners=False)
        return F.conv2d(y.relu_(), *self.classifier).contiguous()
