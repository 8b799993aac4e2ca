"""The plan: everything that an executor needs to run a network on images of one size."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from litehrnet_cuda.plan.memory import Layout, buffer_bytes
from litehrnet_cuda.plan.operands import Buffer
from litehrnet_cuda.plan.steps import Step


@dataclass(frozen=True, eq=False)
class Plan:
    """A forward pass in inference, for any batch size, as launches in their order.

    Args:
        network: name of the variant.
        height, width: input size in pixels.
        dtype: type of feature maps and weights.
        buffers: the first one is the image.
        steps: in their order; each reads what the caller or a step before it has written.
        weights: by the names that steps use, on the CPU, contiguous.
        outputs: numbers of the buffers that are the network's outputs, from high to low resolution.
        layout: where the other buffers lie.
    """

    network: str
    height: int
    width: int
    dtype: torch.dtype
    buffers: tuple[Buffer, ...]
    steps: tuple[Step, ...]
    weights: dict[str, Tensor]
    outputs: tuple[int, ...]
    layout: Layout

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.weights.values())

    @property
    def caller_bytes(self) -> int:
        """Bytes of image and outputs, for one image."""
        return sum(buffer_bytes(b, self.dtype) for b in self.buffers if b.role in ("input", "output"))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the plan to a ``.safetensors`` file, whole or not at all.

        Raises:
            InputError: the name does not end in ``.safetensors``, or the place cannot be written to.
        """
        from litehrnet_cuda.plan.files import save_plan

        return save_plan(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Plan:
        """Reads what :meth:`save` wrote. Nothing in the file is run, and every number in it is checked.

        Raises:
            InputError: there is no such file, it is no plan, or its parts do not fit together.
        """
        from litehrnet_cuda.plan.files import load_plan

        return load_plan(path)

    def __str__(self) -> str:
        from litehrnet_cuda.plan.table import plan_table

        return plan_table(self)
