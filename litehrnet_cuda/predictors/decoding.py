"""What is done around a network, on its device, so that key points alone travel back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from litehrnet_cuda.codecs.flip import average_flipped
from litehrnet_cuda.codecs.heatmap import Decoder, decode_heatmaps


@dataclass(frozen=True)
class Decoding:
    """What is done around a network, on its device: the flip test, and reading key points off heat maps.

    Args:
        decoders: see :func:`litehrnet_cuda.codecs.heatmap.decode_heatmaps`; ``"udp"`` goes alone.
        input_size: (width, height) of the crops.
        flip_indices: the joints that joints become in the mirrored crop; None for no flip test.
    """

    decoders: tuple[Decoder, ...]
    input_size: tuple[int, int]
    flip_indices: tuple[int, ...] | None = None

    def __call__(self, network: Callable[[Tensor], list[Tensor]], crops: Tensor) -> list[Tensor]:
        """For each decoder ``[N, K, 3]`` float32, whatever the network computes in: x, y in crop pixels, and score."""
        heatmaps = network(crops)[0].float()
        if self.flip_indices is not None:
            mirrored = network(crops.flip(-1))[0].float()
            heatmaps = average_flipped(heatmaps, mirrored, self.flip_indices, shift="udp" not in self.decoders)
        decoded = []
        for decoder in self.decoders:
            keypoints, scores = decode_heatmaps(
                heatmaps, self.input_size, decoder=decoder, blur_kernel_size=blur_kernel_size(self.input_size)
            )
            decoded.append(torch.cat([keypoints, scores[..., None]], dim=-1))
        return decoded


def blur_kernel_size(input_size: tuple[int, int]) -> int:
    """The blur of DARK that goes with an input, in heat-map pixels, odd.

    11 for a height of 256 and 17 for 384, as published, where heat maps are drawn with a sigma of 2 and 3; in
    proportion elsewhere, as the sigma is.
    """
    return 2 * int(11 * input_size[1] / 256 / 2) + 1
