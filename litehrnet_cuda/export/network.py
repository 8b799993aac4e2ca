"""The module that is exported: a network with what is to be inside the file around it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from litehrnet_cuda.codecs.heatmap import Decoder
from litehrnet_cuda.nn.folding import folded_copy
from litehrnet_cuda.predictors.decoding import Decoding
from litehrnet_cuda.predictors.pixel_classes import LargestLogits

OUTPUTS = {"pose": "heatmaps", "segmentation": "logits"}  # of a network, by task
KEYPOINTS, CLASSES = "keypoints", "classes"

Inside = Decoder | Literal["classes"]  # what reads a network's outputs, and may be in a file: of poses, of segmentation


class ExportedNetwork(nn.Module):
    """A copy of a network in evaluation mode, with its batch norms folded.

    Images and outputs are float32, whatever is computed in between.

    Args:
        network: from images ``[N, 3, H, W]`` to one tensor.
        decoding: read key points off heat maps, or classes off logits, inside.
        half: compute in float16.

    Shape:
        ``[N, 3, H, W]`` to the network's outputs; with ``decoding`` to key points ``[N, K, 3]`` (x and y in pixels of
        the input, and score) and heat maps, or to classes ``[N, H, W]`` int32 and logits.
    """

    def __init__(
        self, network: nn.Module, decoding: Decoding | LargestLogits | None = None, *, half: bool = False
    ) -> None:
        super().__init__()
        self.network = folded_copy(network).to(torch.float16 if half else torch.float32)
        self.decoding = decoding
        self.dtype = torch.float16 if half else torch.float32

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        outputs: Tensor = self.network(images.to(self.dtype)).float()
        if self.decoding is None:
            return outputs
        return self.decoding(lambda _: [outputs], images)[0], outputs


def decoding_inside(decoder: Inside | None, input_size: tuple[int, int]) -> Decoding | LargestLogits | None:
    """The decoding of a file for images of this size (classes are decoded at every size), without flip test."""
    if decoder is None:
        return None
    return LargestLogits() if decoder == "classes" else Decoding((decoder,), input_size)


def output_names(task: str, decoder: Inside | None) -> list[str]:
    """What the outputs of :class:`ExportedNetwork` are called in files."""
    decoded = [] if decoder is None else [CLASSES if decoder == "classes" else KEYPOINTS]
    return [*decoded, OUTPUTS.get(task, "outputs")]
