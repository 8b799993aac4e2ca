"""Plain PyTorch definition of the depthwise convolution of all branches: oracle, fallback and baseline."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def depthwise_conv(x: Sequence[Tensor], weight: Sequence[Tensor], bias: Sequence[Tensor]) -> list[Tensor]:
    """See :func:`litehrnet_cuda.ops.depthwise_conv.depthwise_conv`."""
    return [F.conv2d(s, w[:, None], b, padding=1, groups=s.shape[1]) for s, w, b in zip(x, weight, bias, strict=True)]
