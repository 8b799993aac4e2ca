"""The launcher of cross-resolution weighting's backward pass as a Python function on torch tensors, emulated.

As `inference_kernels`, whose memory it uses; the structures repeat those of csrc/ field by field.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from inference_kernels import CSRC, DTYPES, MAX_BRANCHES, BatchNorm, Kernels, _structure, accumulate_type
from torch import Tensor

SOURCES = [
    CSRC / "tests/cross_resolution_weighting_batch_norm_backward_entry.cu",
    CSRC / "cuda/cross_resolution_weighting_batch_norm_backward.cu",
]
MAX_REDUCTIONS = 8

Reduction = _structure("Reduction", ("parts result", ctypes.c_void_p), ("count part_count", ctypes.c_int))
Reductions = _structure("Reductions", ("item", Reduction * MAX_REDUCTIONS), ("count", ctypes.c_int))
Branch = _structure(
    "Branch",
    ("grad_y x grad_x", ctypes.c_void_p),
    ("grad_y_image_stride grad_y_plane_stride x_image_stride x_plane_stride", ctypes.c_int64),
    ("grad_x_image_stride grad_x_plane_stride", ctypes.c_int64),
    ("channels height width", ctypes.c_int),
)
Params = _structure(
    "Params",
    ("branch", Branch * MAX_BRANCHES),
    ("w1 w2", ctypes.c_void_p),
    ("norm1 norm2", BatchNorm),
    ("hidden logits grad_w1 grad_w2", ctypes.c_void_p),
    ("grad_norm1_weight grad_norm1_bias grad_norm2_weight grad_norm2_bias workspace", ctypes.c_void_p),
    ("aside", Reductions),
    ("eps", ctypes.c_double),
    ("branches batch hidden_channels", ctypes.c_int),
    ("batch_statistics", ctypes.c_bool),
)


class WeightingBackward(Kernels):
    """`args` are those of the op, see `_cross_resolution_weighting_batch_norm_backward` in csrc/library.cpp."""

    def __call__(self, args: Sequence[Any], *, in_place: bool, aside: Sequence[Tensor] = ()) -> list[Tensor]:
        """The op's results, and the sums over the first dimension of each tensor of `aside`.

        Args:
            args: of the op.
            in_place: gradients of x take the place of those of y, both of them the second half of the channels.
            aside: parts that the last launch sums.
        """
        grad_y, x, w1, w2, norm_weight, norm_bias, mean, variance, statistics, saved, training, eps = args
        dtype, wide, hidden = x[0].dtype, accumulate_type(x[0].dtype), len(w1)
        channels = [hidden, w1.shape[1]]
        if training:
            mean, variance = statistics[0].split(channels), statistics[1].split(channels)
        params = Params(branches=len(x), batch=len(x[0]), hidden_channels=hidden, batch_statistics=training, eps=eps)
        reads = []
        for branch, dy, tensor in zip(params.branch, grad_y, x, strict=False):
            _, c, height, width = tensor.shape
            plane = height * width
            branch.x, branch.x_image_stride = self.put(tensor, "x"), c * plane
            if in_place:
                both = self.put(torch.cat([dy, dy], dim=1), "grad_y")
                branch.grad_y = branch.grad_x = both + c * plane * tensor.element_size()
                branch.grad_y_image_stride = branch.grad_x_image_stride = 2 * c * plane
                reads.append(self._half_of_last(dy))
            else:
                branch.grad_y, branch.grad_y_image_stride = self.put(dy, "grad_y"), c * plane
                branch.grad_x, read = self.room(tensor.shape, dtype, "grad_x")
                branch.grad_x_image_stride = c * plane
                reads.append(read)
            branch.x_plane_stride = branch.grad_y_plane_stride = branch.grad_x_plane_stride = plane
            branch.channels, branch.height, branch.width = c, height, width
        for name, tensor in {"w1": w1, "w2": w2, "hidden": saved[0], "logits": saved[1]}.items():
            setattr(params, name, self.put(tensor, name))
        for i, norm in enumerate((params.norm1, params.norm2)):
            values = {"weight": norm_weight[i], "bias": norm_bias[i], "mean": mean[i], "variance": variance[i]}
            for name, tensor in values.items():
                setattr(norm, name, self.put(tensor, f"norm{i + 1}_{name}"))
        shapes = {"w1": w1.shape, "w2": w2.shape}
        shapes |= {f"norm{i + 1}_{name}": (channels[i],) for name in ("weight", "bias") for i in (0, 1)}
        for name, shape in shapes.items():
            address, read = self.room(shape, wide, f"grad_{name}")
            setattr(params, f"grad_{name}", address)
            reads.append(read)
        params.aside.count = len(aside)
        for item, parts in zip(params.aside.item, aside, strict=False):
            item.parts, item.part_count, item.count = self.put(parts, "parts"), *parts.shape
            item.result, read = self.room(parts.shape[1:], wide, "sum")
            reads.append(read)
        name = "cross_resolution_weighting_batch_norm_backward"
        workspace = getattr(self.library, f"{name}_workspace")
        workspace.restype = ctypes.c_size_t
        size = workspace(ctypes.byref(params), DTYPES.index(dtype))
        params.workspace, _ = self.room((size,), torch.uint8, "workspace")
        assert self.launch(name, params, dtype) == 0
        return [read() for read in reads]

    def _half_of_last(self, like: Tensor) -> Any:
        """Reads the second half of the channels of what was put last, and finds the first half as it was."""
        memory, offset = self._keep[-1], self.offsets.get("grad_y", 0)

        def read() -> Tensor:
            n, c, height, width = like.shape
            values = torch.from_numpy(memory.copy()).view(like.dtype)[offset:].reshape(n, 2 * c, height, width)
            assert torch.equal(values[:, :c], like)
            return values[:, c:].contiguous()

        return read
