"""The modules of Lite-HRNet one by one, under the names of the official repository, and their use in existing models.

Names of classes, parts and parameters, and the arguments that they share, are those of the official repository and of
mmpose, so that state dicts fit both ways. What differs in the constructors:

- ``conv_cfg``, ``norm_cfg`` and ``act_cfg`` do not exist: convolutions, norms and activations are those of the
  published networks, so ``CrossResolutionWeighting`` has its batch norms, for which the official class has to be asked.
  For SyncBatchNorm there is ``torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)``.
- ``LiteHRModule`` returns all branches unless told otherwise, as every network asks of it, where the official default
  is ``multiscale_output=False``. ``stride``, ``reduce_ratio``, ``expand_ratio`` and ``module_type`` have defaults,
  those of the published networks.
- ``with_cp=True`` works in every block, and leaves running statistics as training without it does.

:func:`use_fused_modules` puts these modules in the place of those of a model that exists already. ``IterativeHead``,
which has no kernels of its own, is in :mod:`litehrnet_cuda.models.heads`.
"""

from litehrnet_cuda.nn.blocks import (
    ConditionalChannelWeighting,
    ShuffleUnit,
    Stem,
)
from litehrnet_cuda.nn.fuse import LiteHRModule
from litehrnet_cuda.nn.layers import ConvModule, DepthwiseSeparableConvModule
from litehrnet_cuda.nn.replacement import use_fused_modules
from litehrnet_cuda.nn.weighting import CrossResolutionWeighting, SpatialWeighting

__all__ = [
    "ConditionalChannelWeighting",
    "ConvModule",
    "CrossResolutionWeighting",
    "DepthwiseSeparableConvModule",
    "LiteHRModule",
    "ShuffleUnit",
    "SpatialWeighting",
    "Stem",
    "use_fused_modules",
]
