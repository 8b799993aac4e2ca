"""The two ops that inference spends most on as Triton kernels, for GPUs that the native library has no kernels for.

The same functions as in :mod:`litehrnet_cuda.functional`, which need neither that library nor a CUDA compiler. They are
for inference alone: they have no gradients, and torch.compile writes kernels of its own for plain PyTorch.

Why these two: at 256x192 the conditional channel weighting blocks of Lite-HRNet-18 are 720 of the 1,241 launches of
plain PyTorch; of its plan they are 32 of 65 steps and 41 % of the bytes
(:mod:`litehrnet_cuda.plan.costs`). Of what a block's kernels ask of memory, cross-resolution weighting, its first
part, asks seven tenths in the last stage at batch 1 (benchmarks/results/emulated).
"""

from litehrnet_cuda.triton.conditional_channel_weighting import conditional_channel_weighting
from litehrnet_cuda.triton.cross_resolution_weighting import cross_resolution_weighting

__all__ = ["conditional_channel_weighting", "cross_resolution_weighting"]
