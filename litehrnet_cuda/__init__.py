"""Lite-HRNet for PyTorch.

The public names are loaded when they are first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from litehrnet_cuda import functional, nn, video
    from litehrnet_cuda.errors import InputError
    from litehrnet_cuda.inference import optimize_for_inference
    from litehrnet_cuda.models.checkpoints import load_checkpoint
    from litehrnet_cuda.models.registry import create_model, list_models
    from litehrnet_cuda.nn.replacement import use_fused_modules
    from litehrnet_cuda.predictors.pose_estimator import PoseEstimator
    from litehrnet_cuda.predictors.segmenter import Segmenter
    from litehrnet_cuda.results import KeyPoints, Segmentation

__version__ = "0.1.0"

__all__ = [
    "InputError",
    "KeyPoints",
    "PoseEstimator",
    "Segmentation",
    "Segmenter",
    "__version__",
    "create_model",
    "functional",
    "list_models",
    "load_checkpoint",
    "nn",
    "optimize_for_inference",
    "use_fused_modules",
    "video",
]

_MODULES = {
    "InputError": "litehrnet_cuda.errors",
    "KeyPoints": "litehrnet_cuda.results",
    "PoseEstimator": "litehrnet_cuda.predictors.pose_estimator",
    "Segmentation": "litehrnet_cuda.results",
    "Segmenter": "litehrnet_cuda.predictors.segmenter",
    "create_model": "litehrnet_cuda.models.registry",
    "list_models": "litehrnet_cuda.models.registry",
    "load_checkpoint": "litehrnet_cuda.models.checkpoints",
    "optimize_for_inference": "litehrnet_cuda.inference",
    "use_fused_modules": "litehrnet_cuda.nn.replacement",
}
_SUBMODULES = ("functional", "nn", "video")


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value  # the next use does not come through here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
