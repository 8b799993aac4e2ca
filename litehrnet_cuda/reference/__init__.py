"""The functions of :mod:`litehrnet_cuda.functional` in plain PyTorch: definition, fallback and baseline."""

from litehrnet_cuda.reference.conditional_channel_weighting import conditional_channel_weighting
from litehrnet_cuda.reference.conditional_channel_weighting_batch_norm import conditional_channel_weighting_batch_norm
from litehrnet_cuda.reference.cross_resolution_weighting import cross_resolution_weighting
from litehrnet_cuda.reference.cross_resolution_weighting_batch_norm import cross_resolution_weighting_batch_norm
from litehrnet_cuda.reference.depthwise_conv import depthwise_conv
from litehrnet_cuda.reference.depthwise_conv_batch_norm import depthwise_conv_batch_norm
from litehrnet_cuda.reference.spatial_weighting import spatial_weighting
from litehrnet_cuda.reference.update_running_statistics import update_running_statistics

__all__ = [
    "conditional_channel_weighting",
    "conditional_channel_weighting_batch_norm",
    "cross_resolution_weighting",
    "cross_resolution_weighting_batch_norm",
    "depthwise_conv",
    "depthwise_conv_batch_norm",
    "spatial_weighting",
    "update_running_statistics",
]
