"""The launchers of the training kernels as Python functions on torch tensors, run by the emulator.

As `inference_kernels`, whose memory they use; the structures repeat those of csrc/cuda/*.h field by field.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from inference_kernels import (
    CSRC,
    DTYPES,
    MAX_BRANCHES,
    BatchNorm,
    Kernels,
    SpatialParams,
    _structure,
    accumulate_type,
)
from torch import Tensor

SPATIAL_SOURCES = [
    CSRC / "tests/spatial_weighting_entry.cu",
    CSRC / "cuda/spatial_weighting.cu",
    CSRC / "cuda/spatial_weighting_backward.cu",
]

SpatialBackwardBranch = _structure(
    "SpatialBackwardBranch",
    ("grad_output x grad_kept grad_x coefficients", ctypes.c_void_p),
    ("norm", BatchNorm),
    ("grad_norm_weight grad_norm_bias w1 b1 w2 b2 grad_w1 grad_b1 grad_w2 grad_b2", ctypes.c_void_p),
    ("grad_output_image_stride grad_output_plane_stride x_image_stride x_plane_stride", ctypes.c_int64),
    ("grad_kept_image_stride grad_kept_plane_stride", ctypes.c_int64),
    ("channels hidden height width", ctypes.c_int),
)
SpatialBackwardParams = _structure(
    "SpatialBackwardParams",
    ("branch", SpatialBackwardBranch * MAX_BRANCHES),
    ("workspace", ctypes.c_void_p),
    ("eps", ctypes.c_double),
    ("branches batch", ctypes.c_int),
    ("batch_statistics", ctypes.c_bool),
)


@dataclass(frozen=True)
class Norm:
    """A batch norm's parameters, and the mean and biased variance that it normalises with, [c] each."""

    weight: Tensor
    bias: Tensor
    mean: Tensor
    variance: Tensor


@dataclass(frozen=True)
class SpatialGradients:
    """Of one branch; what was not asked for is None."""

    x: Tensor | None
    kept: Tensor | None
    norm: list[Tensor] | None  # weight, bias
    weights: list[Tensor] | None  # w1, b1, w2, b2
    coefficients: Tensor


class TrainingKernels(Kernels):
    """Parameters and statistics are given in the accumulation type."""

    def norm(self, norm: Norm) -> ctypes.Structure:
        names = ("weight", "bias", "mean", "variance")
        return BatchNorm(**{name: self.put(getattr(norm, name), f"norm_{name}") for name in names})

    def spatial_weighting_with_norms(
        self,
        x: Sequence[Tensor],
        norms: Sequence[Norm | None],
        weights: Sequence[Sequence[Tensor]],
        eps: float,
        *,
        kept: Sequence[Tensor] | None = None,
        partial_sums: Sequence[Tensor] | None = None,
    ) -> list[Tensor]:
        """`weights[i]` are w1 [R, c], b1, w2 [c, R], b2 of branch i."""
        params = SpatialParams(branches=len(x), batch=len(x[0]), eps=eps, accumulate_weights=True)
        reads = []
        for i, (branch, tensor) in enumerate(zip(params.branch, x, strict=False)):
            n, c, height, width = tensor.shape
            branch.x = self.put(tensor, "x")
            branch.x_image_stride, branch.x_plane_stride = c * height * width, height * width
            norm = norms[i]
            if norm is not None:
                branch.norm = self.norm(norm)
            if kept is not None:
                branch.kept = self.put(kept[i], "kept")
                branch.kept_image_stride, branch.kept_plane_stride = kept[i].stride(0), kept[i].stride(1)
            if partial_sums is not None:
                branch.partial_sums, branch.tiles = self.put(partial_sums[i], "partial_sums"), partial_sums[i].shape[2]
            branch.out, read = self.room((n, c if kept is None else 2 * c, height, width), tensor.dtype, "out")
            reads.append(read)
            for name, matrix in zip(("w1", "b1", "w2", "b2"), weights[i], strict=True):
                setattr(branch, name, self.put(matrix, name))
            branch.channels, branch.hidden, branch.height, branch.width = c, len(weights[i][1]), height, width
        assert self.launch("spatial_weighting", params, x[0].dtype) == 0
        return [read() for read in reads]

    def spatial_weighting_backward(
        self,
        grad_output: Sequence[Tensor],
        x: Sequence[Tensor],
        norms: Sequence[Norm | None],
        weights: Sequence[Sequence[Tensor]] | None,
        eps: float,
        *,
        kept: bool,
        batch_statistics: bool = True,
        wants_grad_x: bool = True,
    ) -> list[SpatialGradients]:
        """`weights` as above, None without gates. The gradients of what was kept are written into halves of maps."""
        dtype, wide = x[0].dtype, accumulate_type(x[0].dtype)
        params = SpatialBackwardParams(branches=len(x), batch=len(x[0]), eps=eps, batch_statistics=batch_statistics)
        reads = []
        for i, (branch, tensor) in enumerate(zip(params.branch, x, strict=False)):
            n, c, height, width = tensor.shape
            plane, own = height * width, {}
            branch.grad_output = self.put(grad_output[i], "grad_output")
            branch.grad_output_image_stride = grad_output[i].shape[1] * plane
            branch.grad_output_plane_stride = branch.x_plane_stride = plane
            branch.x, branch.x_image_stride = self.put(tensor, "x"), c * plane
            branch.coefficients, own["coefficients"] = self.room((n, c, 4), wide, "coefficients")
            if kept:
                branch.grad_kept, own["kept"] = self.room((n, 2 * c, height, width), dtype, "grad_kept")
                branch.grad_kept_image_stride, branch.grad_kept_plane_stride = 2 * c * plane, plane
            if wants_grad_x:
                branch.grad_x, own["x"] = self.room(tensor.shape, dtype, "grad_x")
            norm = norms[i]
            if norm is not None:
                branch.norm = self.norm(norm)
                for name in ("grad_norm_weight", "grad_norm_bias"):
                    address, own[name] = self.room((c,), wide, name)
                    setattr(branch, name, address)
            if weights is not None:
                branch.hidden = len(weights[i][1])
                for name, matrix in zip(("w1", "b1", "w2", "b2"), weights[i], strict=True):
                    setattr(branch, name, self.put(matrix, name))
                    address, own[name] = self.room(matrix.shape, wide, f"grad_{name}")
                    setattr(branch, f"grad_{name}", address)
            branch.channels, branch.height, branch.width = c, height, width
            reads.append(own)
        workspace = self.library.spatial_weighting_backward_workspace
        workspace.restype = ctypes.c_size_t
        size = workspace(ctypes.byref(params), DTYPES.index(dtype))
        params.workspace, _ = self.room((size,), torch.uint8, "workspace")
        assert self.launch("spatial_weighting_backward", params, dtype) == 0
        return [
            SpatialGradients(
                x=own["x"]() if wants_grad_x else None,
                kept=own["kept"]()[:, : own["kept"]().shape[1] // 2] if kept else None,
                norm=[own[f"grad_norm_{name}"]() for name in ("weight", "bias")] if norms[i] is not None else None,
                weights=[own[name]() for name in ("w1", "b1", "w2", "b2")] if weights is not None else None,
                coefficients=own["coefficients"](),
            )
            for i, own in enumerate(reads)
        ]


DEPTHWISE_SOURCES = [
    CSRC / "tests/depthwise_conv_batch_norm_entry.cu",
    CSRC / "cuda/depthwise_conv_batch_norm.cu",
    CSRC / "cuda/depthwise_conv_batch_norm_backward.cu",
]
MAX_REDUCTIONS = 8

PositionGates = _structure(
    "PositionGates",
    ("logits", ctypes.c_void_p),
    ("norm", BatchNorm),
    ("parts", ctypes.c_void_p),
    ("eps", ctypes.c_double),
    ("part_count channels height width", ctypes.c_int),
)
DepthwiseBranch = _structure(
    "DepthwiseBranch",
    ("x weight", ctypes.c_void_p),
    ("norm", BatchNorm),
    ("filtered y plane_sums", ctypes.c_void_p),
    ("x_image_stride x_plane_stride", ctypes.c_int64),
    ("channels height width gate_channel", ctypes.c_int),
)
DepthwiseParams = _structure(
    "DepthwiseParams",
    ("branch", DepthwiseBranch * MAX_BRANCHES),
    ("gates", PositionGates),
    ("workspace", ctypes.c_void_p),
    ("eps", ctypes.c_double),
    ("branches batch", ctypes.c_int),
    ("batch_statistics", ctypes.c_bool),
)
DepthwiseBackwardBranch = _structure(
    "DepthwiseBackwardBranch",
    ("grad_y filtered coefficients x weight grad_x grad_weight", ctypes.c_void_p),
    ("grad_y_image_stride grad_y_plane_stride x_image_stride x_plane_stride", ctypes.c_int64),
    ("grad_x_image_stride grad_x_plane_stride", ctypes.c_int64),
    ("channels height width gate_channel", ctypes.c_int),
)
DepthwiseBackwardParams = _structure(
    "DepthwiseBackwardParams",
    ("branch", DepthwiseBackwardBranch * MAX_BRANCHES),
    ("gates", PositionGates),
    ("workspace", ctypes.c_void_p),
    ("branches batch", ctypes.c_int),
)
Reduction = _structure("Reduction", ("parts result", ctypes.c_void_p), ("count part_count", ctypes.c_int))
Reductions = _structure("Reductions", ("item", Reduction * MAX_REDUCTIONS), ("count", ctypes.c_int))


@dataclass(frozen=True)
class Gates:
    """Logits [N, C, h, w] and their norm; `parts` [C, part_count, 3] instead of the norm's statistics, or None."""

    logits: Tensor
    norm: Norm
    parts: Tensor | None


@dataclass(frozen=True)
class Filtered:
    """Of one branch. Statistics [3, c] are mean, biased and unbiased variance; None where they were given."""

    filtered: Tensor
    y: Tensor | None
    plane_sums: Tensor
    statistics: Tensor | None


class DepthwiseKernels(TrainingKernels):
    """The depthwise convolution and its batch norm."""

    def room_for_statistics(self, norm: Norm, dtype: torch.dtype) -> tuple[ctypes.Structure, Callable[[], Tensor]]:
        """A batch norm whose statistics the kernel writes, and a function that reads them."""
        filled = BatchNorm(weight=self.put(norm.weight, "norm_weight"), bias=self.put(norm.bias, "norm_bias"))
        names = ("mean", "variance", "unbiased_variance")
        reads = []
        for name in names:
            address, read = self.room(norm.weight.shape, accumulate_type(dtype), name)
            setattr(filled, name, address)
            reads.append(read)
        return filled, lambda: torch.stack([read() for read in reads])

    def gates(self, gates: Gates, eps: float, dtype: torch.dtype) -> tuple[ctypes.Structure, Callable[[], Tensor]]:
        _, channels, height, width = gates.logits.shape
        filled = PositionGates(
            logits=self.put(gates.logits, "logits"), eps=eps, channels=channels, height=height, width=width
        )
        if gates.parts is None:
            filled.norm = self.norm(gates.norm)
            return filled, lambda: torch.empty(0)
        filled.parts, filled.part_count = self.put(gates.parts, "gate_parts"), gates.parts.shape[1]
        filled.norm, read = self.room_for_statistics(gates.norm, dtype)
        return filled, read

    def depthwise_conv_batch_norm(
        self,
        x: Sequence[Tensor],
        weight: Sequence[Tensor],
        norms: Sequence[Norm],
        eps: float,
        *,
        gates: Gates | None = None,
        batch_statistics: bool = True,
        wants_y: bool = True,
    ) -> tuple[list[Filtered], Tensor]:
        """Every branch, and the statistics of the gates that were stored."""
        dtype, wide = x[0].dtype, accumulate_type(x[0].dtype)
        params = DepthwiseParams(branches=len(x), batch=len(x[0]), eps=eps, batch_statistics=batch_statistics)
        gate_channel, reads = 0, []
        for i, (branch, tensor) in enumerate(zip(params.branch, x, strict=False)):
            n, c, height, width = tensor.shape
            branch.x, branch.weight = self.put(tensor, "x"), self.put(weight[i], "weight")
            branch.x_image_stride, branch.x_plane_stride = c * height * width, height * width
            branch.filtered, filtered = self.room(tensor.shape, dtype, "filtered")
            branch.plane_sums, plane_sums = self.room((n, c), wide, "plane_sums")
            own = {"filtered": filtered, "plane_sums": plane_sums, "y": None, "statistics": None}
            if wants_y:
                branch.y, own["y"] = self.room(tensor.shape, dtype, "y")
            if batch_statistics:
                branch.norm, own["statistics"] = self.room_for_statistics(norms[i], dtype)
            else:
                branch.norm = self.norm(norms[i])
            branch.channels, branch.height, branch.width = c, height, width
            branch.gate_channel = gate_channel
            gate_channel += c
            reads.append(own)
        gate_statistics: Callable[[], Tensor] = torch.Tensor
        if gates is not None:
            params.gates, gate_statistics = self.gates(gates, eps, dtype)
        self._launch_with_workspace("depthwise_conv_batch_norm", params, dtype)
        results = [Filtered(**{name: None if read is None else read() for name, read in own.items()}) for own in reads]
        return results, gate_statistics()

    def depthwise_conv_batch_norm_backward(
        self,
        grad_y: Sequence[Tensor],
        filtered: Sequence[Tensor],
        coefficients: Sequence[Tensor],
        x: Sequence[Tensor],
        weight: Sequence[Tensor],
        eps: float,
        *,
        gates: Gates | None = None,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Gradients of what was filtered, and of the weights."""
        dtype, wide = x[0].dtype, accumulate_type(x[0].dtype)
        params = DepthwiseBackwardParams(branches=len(x), batch=len(x[0]))
        gate_channel, reads = 0, []
        for i, (branch, tensor) in enumerate(zip(params.branch, x, strict=False)):
            _, c, height, width = tensor.shape
            for name, value in (
                ("grad_y", grad_y[i]),
                ("filtered", filtered[i]),
                ("coefficients", coefficients[i]),
                ("x", tensor),
                ("weight", weight[i]),
            ):
                setattr(branch, name, self.put(value, name))
            branch.grad_x, read_x = self.room(tensor.shape, dtype, "grad_x")
            branch.grad_weight, read_weight = self.room((c, 3, 3), wide, "grad_weight")
            for name in ("grad_y", "x", "grad_x"):
                setattr(branch, f"{name}_image_stride", c * height * width)
                setattr(branch, f"{name}_plane_stride", height * width)
            branch.channels, branch.height, branch.width = c, height, width
            branch.gate_channel = gate_channel
            gate_channel += c
            reads.append((read_x, read_weight))
        if gates is not None:
            params.gates, _ = self.gates(gates, eps, dtype)
        self._launch_with_workspace("depthwise_conv_batch_norm_backward", params, dtype)
        return [read() for read, _ in reads], [read() for _, read in reads]

    def _launch_with_workspace(self, function: str, params: ctypes.Structure, dtype: torch.dtype) -> None:
        workspace = getattr(self.library, f"{function}_workspace")
        workspace.restype = ctypes.c_size_t
        size = workspace(ctypes.byref(params), DTYPES.index(dtype))
        params.workspace, _ = self.room((size,), torch.uint8, "workspace")
        error = self.launch(function, params, dtype)
        if error != 0:
            raise RuntimeError(f"{function}: error {error}")
