"""The fused ops, one by one.

Each runs on the devices that ``litehrnet env`` lists, has shapes for ``torch.compile`` and follows autocast. They are
for inference: none has a backward pass yet. :mod:`litehrnet_cuda.reference` has the same functions in plain PyTorch.
"""

from litehrnet_cuda.ops.conditional_channel_weighting import conditional_channel_weighting
from litehrnet_cuda.ops.cross_resolution_weighting import cross_resolution_weighting
from litehrnet_cuda.ops.depthwise_conv import depthwise_conv
from litehrnet_cuda.ops.spatial_weighting import spatial_weighting

__all__ = ["conditional_channel_weighting", "cross_resolution_weighting", "depthwise_conv", "spatial_weighting"]
