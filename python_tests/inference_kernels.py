"""The launchers of the inference kernels as Python functions on torch tensors, run by the emulator.

The ctypes structures repeat the parameter structures of csrc/cuda/*.h field by field.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import emulation
import numpy as np
import torch
from torch import Tensor

CSRC = Path(__file__).resolve().parents[1] / "csrc"
SOURCES = [
    CSRC / "tests/inference_kernels_entry.cu",
    *(
        CSRC / f"cuda/{op}.cu"
        for op in (
            "conditional_channel_weighting",
            "cross_resolution_weighting",
            "depthwise_conv",
            "spatial_weighting",
        )
    ),
]
DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]  # in the order of csrc/core/dtype.h
MAX_BRANCHES = 4

_POINTER, _INT, _STRIDE = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64


def _structure(name: str, *fields: tuple[str, Any]) -> type[ctypes.Structure]:
    members = [(field, kind) for names, kind in fields for field in names.split()]
    return type(name, (ctypes.Structure,), {"_fields_": members})


WeightingBranch = _structure(
    "WeightingBranch",
    ("x y", _POINTER),
    ("x_image_stride x_plane_stride y_image_stride y_plane_stride", _STRIDE),
    ("channels height width", _INT),
)
WeightingParams = _structure(
    "WeightingParams",
    ("branch", WeightingBranch * MAX_BRANCHES),
    ("w1 b1 w2_transposed b2", _POINTER),
    ("branches batch hidden", _INT),
)
DepthwiseBranch = _structure(
    "DepthwiseBranch",
    ("x weight bias y partial_sums", _POINTER),
    ("x_image_stride x_plane_stride", _STRIDE),
    ("channels height width", _INT),
)
DepthwiseParams = _structure("DepthwiseParams", ("branch", DepthwiseBranch * MAX_BRANCHES), ("branches batch", _INT))
BatchNorm = _structure("BatchNorm", ("weight bias mean variance unbiased_variance", _POINTER))
SpatialBranch = _structure(
    "SpatialBranch",
    ("x kept out partial_sums w1 b1 w2 b2", _POINTER),
    ("x_image_stride x_plane_stride kept_image_stride kept_plane_stride", _STRIDE),
    ("channels hidden height width tiles", _INT),
    ("norm", BatchNorm),
)
SpatialParams = _structure(
    "SpatialParams",
    ("branch", SpatialBranch * MAX_BRANCHES),
    ("branches batch", _INT),
    ("eps", ctypes.c_double),
    ("accumulate_weights", ctypes.c_bool),
)
BlockBranch = _structure(
    "BlockBranch",
    ("x out depthwise_weight depthwise_bias gate_w1 gate_b1 gate_w2 gate_b2", _POINTER),
    ("x_image_stride x_plane_stride", _STRIDE),
    ("channels gate_hidden height width", _INT),
)
BlockParams = _structure(
    "BlockParams",
    ("branch", BlockBranch * MAX_BRANCHES),
    ("w1 b1 w2_transposed b2 workspace", _POINTER),
    ("branches batch hidden", _INT),
)


class Kernels:
    """Copies tensors into guarded memory, launches, and copies results back.

    Args:
        library: from `emulation.load(SOURCES, ...)`.
        offset: elements by which feature maps are shifted off their 256-byte alignment.
        shifted: which of them.
    """

    def __init__(
        self, library: emulation.Library, offset: int = 0, shifted: Sequence[str] = ("x", "kept", "y", "out")
    ) -> None:
        self.library = library
        self.offsets = {name: offset for name in shifted}
        self._keep: list[Any] = []

    def put(self, tensor: Tensor, name: str) -> int:
        """The address of a copy."""
        size, offset = tensor.element_size(), self.offsets.get(name, 0)
        shifted = torch.cat([torch.zeros(offset, dtype=tensor.dtype), tensor.detach().contiguous().flatten()])
        memory = self.library.copy(shifted.view(torch.uint8).numpy(), name)
        self._keep.append(memory)
        return int(memory.ctypes.data) + offset * size

    def room(self, shape: Sequence[int], dtype: torch.dtype, name: str) -> tuple[int, Any]:
        """The address of memory without a value, and a function that reads it as a tensor."""
        size, offset = torch.empty((), dtype=dtype).element_size(), self.offsets.get(name, 0)
        count = int(np.prod(shape))
        memory = self.library.empty((count + offset) * size, np.uint8, name)
        self._keep.append(memory)

        def read() -> Tensor:
            if count == 0:
                return torch.empty(tuple(shape), dtype=dtype)
            return torch.from_numpy(memory[offset * size :].copy()).view(dtype).reshape(tuple(shape))

        return int(memory.ctypes.data) + offset * size, read

    def launch(self, function: str, params: ctypes.Structure, dtype: torch.dtype) -> int:
        return int(self.library.call(function, ctypes.byref(params), DTYPES.index(dtype)))

    def cross_resolution_weighting(
        self, x: Sequence[Tensor], weights: Sequence[Tensor], *, halves: bool = False
    ) -> list[Tensor]:
        """`weights` are w1 [R, C], b1, w2 [C, R], b2. With `halves`, the second half of the channels is weighted."""
        dtype = x[0].dtype
        w1, b1, w2, b2 = weights
        names = ("w1", "b1", "w2_transposed", "b2")
        matrices = {name: self.put(t, name) for name, t in zip(names, (w1, b1, w2.t(), b2), strict=True)}
        params = WeightingParams(branches=len(x), batch=len(x[0]), hidden=len(b1), **matrices)
        reads = []
        for branch, tensor in zip(params.branch, x, strict=False):
            n, c, height, width = tensor.shape
            plane, used = height * width, c // 2 if halves else c
            size = tensor.element_size()
            branch.x = self.put(tensor, "x") + (c - used) * plane * size
            branch.x_image_stride, branch.x_plane_stride = c * plane, plane
            branch.y, read = self.room((n, used, height, width), dtype, "y")
            branch.y_image_stride, branch.y_plane_stride = used * plane, plane
            branch.channels, branch.height, branch.width = used, height, width
            reads.append(read)
        assert self.launch("cross_resolution_weighting", params, dtype) == 0
        return [read() for read in reads]

    def depthwise_conv(
        self, x: Sequence[Tensor], weight: Sequence[Tensor], bias: Sequence[Tensor], *, with_sums: bool = True
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Returns the outputs and the partial sums [N, c, tiles] of every branch."""
        dtype = x[0].dtype
        params = DepthwiseParams(branches=len(x), batch=len(x[0]))
        reads, sums = [], []
        for branch, tensor, w, b in zip(params.branch, x, weight, bias, strict=False):
            n, c, height, width = tensor.shape
            branch.x = self.put(tensor, "x")
            branch.weight, branch.bias = self.put(w, "weight"), self.put(b, "bias")
            branch.y, read = self.room(tensor.shape, dtype, "y")
            reads.append(read)
            if with_sums:
                tiles = self.library.depthwise_conv_tile_count(n, height, width)
                branch.partial_sums, read = self.room((n, c, tiles), accumulate_type(dtype), "partial_sums")
                sums.append(read)
            branch.x_image_stride, branch.x_plane_stride = c * height * width, height * width
            branch.channels, branch.height, branch.width = c, height, width
        assert self.launch("depthwise_conv", params, dtype) == 0
        return [read() for read in reads], [read() for read in sums]

    def spatial_weighting(
        self,
        x: Sequence[Tensor],
        weights: Sequence[Sequence[Tensor]],
        *,
        kept: Sequence[Tensor] | None = None,
        partial_sums: Sequence[Tensor] | None = None,
    ) -> list[Tensor]:
        """`weights[i]` are w1 [R, c], b1, w2 [c, R], b2 of branch i."""
        dtype = x[0].dtype
        params = SpatialParams(branches=len(x), batch=len(x[0]))
        reads = []
        for i, (branch, tensor, matrices) in enumerate(zip(params.branch, x, weights, strict=False)):
            n, c, height, width = tensor.shape
            branch.x = self.put(tensor, "x")
            branch.x_image_stride, branch.x_plane_stride = c * height * width, height * width
            if kept is not None:
                branch.kept = self.put(kept[i], "kept")
                branch.kept_image_stride, branch.kept_plane_stride = kept[i].stride(0), kept[i].stride(1)
            if partial_sums is not None:
                branch.partial_sums, branch.tiles = self.put(partial_sums[i], "partial_sums"), partial_sums[i].shape[2]
            shape = (n, c if kept is None else 2 * c, height, width)
            branch.out, read = self.room(shape, dtype, "out")
            reads.append(read)
            for name, matrix in zip(("w1", "b1", "w2", "b2"), matrices, strict=True):
                setattr(branch, name, self.put(matrix, name))
            branch.channels, branch.hidden, branch.height, branch.width = c, len(matrices[1]), height, width
        assert self.launch("spatial_weighting", params, dtype) == 0
        return [read() for read in reads]

    def conditional_channel_weighting(
        self,
        x: Sequence[Tensor],
        weights: Sequence[Tensor],
        depthwise: Sequence[tuple[Tensor, Tensor]],
        gates: Sequence[Sequence[Tensor]],
    ) -> list[Tensor]:
        """`weights` as for cross-resolution weighting, `gates` as for spatial weighting."""
        dtype = x[0].dtype
        w1, b1, w2, b2 = weights
        names = ("w1", "b1", "w2_transposed", "b2")
        matrices = {name: self.put(t, name) for name, t in zip(names, (w1, b1, w2.t(), b2), strict=True)}
        params = BlockParams(branches=len(x), batch=len(x[0]), hidden=len(b1), **matrices)
        reads = []
        for branch, tensor, filters, gate in zip(params.branch, x, depthwise, gates, strict=False):
            _, c, height, width = tensor.shape
            branch.x = self.put(tensor, "x")
            branch.x_image_stride, branch.x_plane_stride = c * height * width, height * width
            branch.out, read = self.room(tensor.shape, dtype, "out")
            reads.append(read)
            branch.depthwise_weight = self.put(filters[0], "depthwise_weight")
            branch.depthwise_bias = self.put(filters[1], "depthwise_bias")
            for name, matrix in zip(("gate_w1", "gate_b1", "gate_w2", "gate_b2"), gate, strict=True):
                setattr(branch, name, self.put(matrix, name))
            branch.channels, branch.gate_hidden = c // 2, len(gate[1])
            branch.height, branch.width = height, width
        workspace = self.library.conditional_channel_weighting_workspace
        workspace.restype = ctypes.c_size_t
        size = workspace(ctypes.byref(params), DTYPES.index(dtype))
        params.workspace, _ = self.room((size,), torch.uint8, "workspace")
        assert self.launch("conditional_channel_weighting", params, dtype) == 0
        return [read() for read in reads]


def accumulate_type(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32
