"""A network's forward pass as a list of steps, each of which is one launch: see :mod:`litehrnet_cuda.plan.builder`."""

from litehrnet_cuda.plan.builder import build_plan
from litehrnet_cuda.plan.plan import Plan

__all__ = ["Plan", "build_plan"]
