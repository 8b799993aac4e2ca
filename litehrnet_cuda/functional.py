"""The fused ops, one by one.

Each runs on the devices that ``litehrnet env`` lists, has a gradient (not a second one), shapes for ``torch.compile``,
and follows autocast. There is no fallback behind them: ``use_backend`` and ``LITEHRNET_CUDA_BACKEND`` choose for the
modules of :mod:`litehrnet_cuda.nn`. :mod:`litehrnet_cuda.reference` has the same functions in plain PyTorch, and
:mod:`litehrnet_cuda.triton` two of them, for inference, as Triton kernels.

The ops whose names end in ``batch_norm`` are for training: they take batch norms apart from the convolutions and return
the batch's statistics, by which :func:`update_running_statistics` moves the running ones. The others take batch norms
folded into weights and biases, and are fastest without gradients.
"""

from litehrnet_cuda.ops.conditional_channel_weighting import conditional_channel_weighting
from litehrnet_cuda.ops.conditional_channel_weighting_batch_norm import conditional_channel_weighting_batch_norm
from litehrnet_cuda.ops.cross_resolution_weighting import cross_resolution_weighting
from litehrnet_cuda.ops.cross_resolution_weighting_batch_norm import cross_resolution_weighting_batch_norm
from litehrnet_cuda.ops.depthwise_conv import depthwise_conv
from litehrnet_cuda.ops.depthwise_conv_batch_norm import depthwise_conv_batch_norm
from litehrnet_cuda.ops.separable_conv_batch_norm import separable_conv_batch_norm
from litehrnet_cuda.ops.spatial_weighting import spatial_weighting
from litehrnet_cuda.ops.update_running_statistics import update_running_statistics
from litehrnet_cuda.ops.weighted_sum import weighted_sum

__all__ = [
    "conditional_channel_weighting",
    "conditional_channel_weighting_batch_norm",
    "cross_resolution_weighting",
    "cross_resolution_weighting_batch_norm",
    "depthwise_conv",
    "depthwise_conv_batch_norm",
    "separable_conv_batch_norm",
    "spatial_weighting",
    "update_running_statistics",
    "weighted_sum",
]
