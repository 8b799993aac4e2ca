"""Segmentation heads in inference: batch norms folded, and products taken before upsampling.

Plans have no steps for dense 3x3 convolutions or for upsampling without aligned corners, so a plan ends with the
backbone, and what is here follows in PyTorch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from litehrnet_cuda.models.heads import FCNHead, ResizeConcatHead
from litehrnet_cuda.nn.folding import Pair, fold_batch_norm


class FoldedHead(ABC):
    """A head as a function of the backbone's outputs, from high to low resolution.

    Args:
        tensors: all of its weights.
        memory: the format that it works in.
    """

    def __init__(self, tensors: Sequence[Tensor], memory: torch.memory_format) -> None:
        self.tensors = tensors
        self.memory = memory

    @abstractmethod
    def __call__(self, x: Sequence[Tensor]) -> Tensor:
        """Logits of the first output's size."""


def fold_head(head: FCNHead | ResizeConcatHead, device: torch.device, dtype: torch.dtype) -> FoldedHead:
    """What a head does in evaluation mode.

    Args:
        head: whose weights are copied.
        device: of the backbone's outputs.
        dtype: of these outputs, and of what is returned.
    """
    # What a CPU's convolutions work in; given NCHW they convert each time, which makes the FCN head half as slow again.
    memory = torch.channels_last if device.type == "cpu" else torch.contiguous_format

    def placed(weight: Tensor, bias: Tensor) -> Pair:
        weight = weight.detach().to(device, dtype).clone(memory_format=memory)
        return weight, bias.detach().to(device, dtype, copy=True)

    assert head.conv_seg.bias is not None
    convs = [placed(*fold_batch_norm(conv)) for conv in head.convs]
    classifier = placed(head.conv_seg.weight, head.conv_seg.bias)
    if isinstance(head, FCNHead):
        return _FoldedFCN([*convs, placed(*fold_batch_norm(head.conv_cat)), classifier], memory)
    ((weight, bias),) = convs
    weights = [part.clone(memory_format=memory) for part in torch.split(weight, head.in_channels, dim=1)]
    return _FoldedResizeConcat(weights, bias, classifier, memory)


class _FoldedFCN(FoldedHead):
    def __init__(self, layers: Sequence[Pair], memory: torch.memory_format) -> None:
        super().__init__([tensor for layer in layers for tensor in layer], memory)
        self.layers = layers

    def __call__(self, x: Sequence[Tensor]) -> Tensor:
        first, second, last, classifier = self.layers
        top = x[0].contiguous(memory_format=self.memory)
        y = F.conv2d(top, *first, padding=1).relu_()
        y = F.conv2d(y, *second, padding=1).relu_()
        y = F.conv2d(torch.cat([top, y], dim=1), *last, padding=1).relu_()
        return F.conv2d(y, *classifier).contiguous()


class _FoldedResizeConcat(FoldedHead):
    """``relu(W concat_i(up(x_i)) + b) = relu(W_0 x_0 + b + sum_i up(W_i x_i))``, because both are linear.

    The products of lower resolutions are so taken there: a fifth of the multiplications, and no concatenation.
    """

    def __init__(self, weights: Sequence[Tensor], bias: Tensor, classifier: Pair, memory: torch.memory_format) -> None:
        super().__init__([*weights, bias, *classifier], memory)
        self.weights = weights
        self.bias = bias
        self.classifier = classifier

    def __call__(self, x: Sequence[Tensor]) -> Tensor:
        top, *lower = (branch.contiguous(memory_format=self.memory) for branch in x)
        y = F.conv2d(top, self.weights[0], self.bias)
        for branch, weight in zip(lower, self.weights[1:], strict=True):
            y += F.interpolate(F.conv2d(branch, weight), size=y.shape[-2:], mode="bilinear", align_corners=False)
        return F.conv2d(y.relu_(), *self.classifier).contiguous()
