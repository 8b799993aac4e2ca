"""Arguments for the tests of gradients, and how close gradients must come to those of the reference in fp64."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from op_cases import FLOOR, cast, cross_resolution_weights, depthwise_weights, gate_weights, random_maps
from torch import Tensor

from litehrnet_cuda.reference import batch_norm
from litehrnet_cuda.reference.conditional_channel_weighting_batch_norm import conditional_channel_weighting_batch_norm
from litehrnet_cuda.reference.cross_resolution_weighting_batch_norm import cross_resolution_weighting_batch_norm
from litehrnet_cuda.reference.depthwise_conv_batch_norm import depthwise_conv_batch_norm

Sizes = Sequence[tuple[int, int]]
EPS = 1e-5


def norm_parameters(channels: Sequence[int]) -> list[list[Tensor]]:
    """Weights, biases, running means and running variances of batch norms."""

    def each(make: Callable[[int], Tensor]) -> list[Tensor]:
        return [make(c) for c in channels]

    return [
        each(lambda c: 0.5 + torch.rand(c, dtype=torch.float64)),
        each(lambda c: torch.randn(c, dtype=torch.float64) * 0.2),
        each(lambda c: torch.randn(c, dtype=torch.float64) * 0.2),
        each(lambda c: 0.5 + torch.rand(c, dtype=torch.float64)),
    ]


def cross_resolution_arguments(sizes: Sizes, channels: list[int], batch: int) -> list[Any]:
    w1, _, w2, _ = cross_resolution_weights(channels)
    maps = random_maps(sizes, channels, torch.float64, batch)
    return [maps, w1, w2, *norm_parameters([len(w1), len(w2)])]


def depthwise_arguments(sizes: Sizes, channels: list[int], batch: int) -> list[Any]:
    maps = random_maps(sizes, channels, torch.float64, batch)
    return [maps, depthwise_weights(channels)[0], *norm_parameters(channels)]


def block_arguments(sizes: Sizes, channels: list[int], batch: int) -> list[Any]:
    w1, _, w2, _ = cross_resolution_weights(channels)
    maps = random_maps(sizes, [2 * c for c in channels], torch.float64, batch)
    norms = norm_parameters([len(w1), len(w2), *channels])
    return [maps, w1, w2, depthwise_weights(channels)[0], *gate_weights(channels), *norms]


@dataclass(frozen=True)
class TrainingOp:
    """An op with batch norms: what it is compared with, and the launches of its forward and its backward pass."""

    reference: Callable[..., tuple[list[Tensor], Tensor]]
    forward_launches: int
    backward_launches: int
    make: Callable[[Sizes, list[int], int], list[Any]]

    def arguments(self, sizes: Sizes, channels: list[int], batch: int, training: bool = True) -> list[Any]:
        """Random arguments in fp64."""
        torch.manual_seed(0)
        return [*self.make(sizes, channels, batch), training, EPS]


TRAINING_OPS = {
    "conditional_channel_weighting_batch_norm": TrainingOp(
        conditional_channel_weighting_batch_norm, 5, 8, block_arguments
    ),
    "cross_resolution_weighting_batch_norm": TrainingOp(
        cross_resolution_weighting_batch_norm, 3, 4, cross_resolution_arguments
    ),
    "depthwise_conv_batch_norm": TrainingOp(depthwise_conv_batch_norm, 3, 4, depthwise_arguments),
}


def accumulate_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def cast_arguments(args: Sequence[Any], dtype: torch.dtype) -> list[Any]:
    """Maps in a dtype, parameters in the one that kernels take beside it; flags and numbers as they are."""
    accumulate = accumulate_dtype(dtype)
    return [
        cast(value, dtype if index == 0 else accumulate) if isinstance(value, (list, Tensor)) else value
        for index, value in enumerate(args)
    ]


def tensors_of(values: Sequence[Any]) -> list[Tensor]:
    """All tensors among arguments, in order."""
    flat: list[Tensor] = []
    for value in values:
        flat.extend([value] if isinstance(value, Tensor) else value if isinstance(value, (list, tuple)) else [])
    return flat


def require_grad(args: Sequence[Any], differentiable: int) -> list[Any]:
    """Copies of arguments, of which the first so many require gradients."""

    def leaf(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [leaf(item) for item in value]
        return value.detach().clone().requires_grad_() if isinstance(value, Tensor) else value

    return [leaf(value) for value in args[:differentiable]] + list(args[differentiable:])


def gradients(
    function: Callable[..., Any], args: Sequence[Any], cotangents: Sequence[Tensor], differentiable: int
) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs, and the gradients of the first ``differentiable`` arguments for given gradients of the outputs."""
    args = require_grad(args, differentiable)
    result = function(*args)
    outputs = list(result[0]) if isinstance(result, tuple) else list(result)
    leaves = tensors_of(args[:differentiable])
    grads = torch.autograd.grad(outputs, leaves, [c.to(o.dtype) for c, o in zip(cotangents, outputs, strict=True)])
    return [o.detach() for o in outputs], list(grads)


def assert_gradcheck(function: Callable[..., Sequence[Tensor]], args: Sequence[Any], differentiable: int) -> None:
    """The gradients of a function against finite differences, in fp64.

    Where a ReLU bends these are wrong; random numbers stay away from there by more than the step.
    """
    leaves = tensors_of(require_grad(args, differentiable)[:differentiable])

    def of_leaves(*flat: Tensor) -> tuple[Tensor, ...]:
        values = iter(flat)
        given = [[next(values) for _ in v] if isinstance(v, list) else next(values) for v in args[:differentiable]]
        return tuple(function(*given, *args[differentiable:]))

    assert torch.autograd.gradcheck(of_leaves, leaves, fast_mode=True)


def assert_gradients_close_to_reference(
    kernel: Callable[..., Any],
    reference: Callable[..., Any],
    args: Sequence[Any],
    dtype: torch.dtype,
    differentiable: int,
    cast_to: Callable[[Sequence[Any], torch.dtype], list[Any]] = cast_arguments,
) -> None:
    """Outputs and gradients: the kernel's error against fp64 is at most twice that of plain PyTorch in the same dtype.

    The outputs are one group, and so are the gradients of each argument, over all branches. The error of a group is the
    root mean square of the difference relative to that of the truth; one wrong element of many is far above what is
    allowed. A group that is small beside the others is what remains of larger numbers, so a hundredth of the largest is
    the least that errors are related to. Over all groups the kernel's errors are, in the quadratic mean, at most twice
    PyTorch's. Of a group with a few elements PyTorch's error is often small by luck; so no single one is more than four
    times PyTorch's worst, and where it is, the quadratic means over some draws of the gradients that come in decide. In
    fp64, where plain PyTorch is the truth itself, the order of additions remains.
    """
    args = cast_to(cast_to(args, dtype), torch.float64)  # values that the dtypes can hold

    def draw() -> tuple[Tensor, Tensor]:
        return _relative_errors(kernel, reference, args, dtype, differentiable, cast_to)

    def excess(ours: Tensor, theirs: Tensor) -> str:
        worst, mean = 4 * theirs.max() + FLOOR[dtype], 2 * theirs.square().mean().sqrt() + FLOOR[dtype]
        if dtype == torch.float64:
            worst = mean = torch.tensor(1e-12)
        if ours.max() <= worst and ours.square().mean().sqrt() <= mean:  # and not for NaN
            return ""
        return f"relative errors of outputs and each argument's gradients {ours.tolist()}, PyTorch's {theirs.tolist()}"

    report = excess(*draw())
    if report and dtype != torch.float64:
        draws = zip(*(draw() for _ in range(8)), strict=True)
        ours, theirs = (torch.stack(errors).square().mean(dim=0).sqrt() for errors in draws)
        report = excess(ours, theirs)
    assert not report, report


def _relative_errors(
    kernel: Callable[..., Any],
    reference: Callable[..., Any],
    args: Sequence[Any],
    dtype: torch.dtype,
    differentiable: int,
    cast_to: Callable[[Sequence[Any], torch.dtype], list[Any]],
) -> tuple[Tensor, Tensor]:
    """Of outputs and of each argument's gradients, for random gradients that come in: the kernel's, plain PyTorch's."""
    maps = reference(*args)
    cotangents = [torch.randn_like(y).to(dtype).double() for y in (maps[0] if isinstance(maps, tuple) else maps)]
    exact, exact_grads = gradients(reference, args, cotangents, differentiable)
    with _single_precision_statistics():
        plain, plain_grads = gradients(reference, cast_to(args, dtype), cotangents, differentiable)
    actual, actual_grads = gradients(kernel, cast_to(args, dtype), cotangents, differentiable)
    assert [r.shape for r in (*actual, *actual_grads)] == [t.shape for t in (*exact, *exact_grads)]
    truths = [exact, *_by_argument(exact_grads, args)]
    scales = [_root_mean_square(group) for group in truths]

    def errors(outputs: list[Tensor], grads: list[Tensor]) -> Tensor:
        groups = zip([outputs, *_by_argument(grads, args)], truths, scales, strict=True)
        return torch.tensor(
            [
                _root_mean_square([a.double() - b for a, b in zip(group, truth, strict=True)])
                / max(scale, 0.01 * max(scales))
                for group, truth, scale in groups
            ]
        )

    return errors(actual, actual_grads), errors(plain, plain_grads)


def _by_argument(grads: Sequence[Tensor], args: Sequence[Any]) -> list[list[Tensor]]:
    """Gradients of all tensors among arguments as a list for each argument that has tensors and gradients."""
    groups: list[list[Tensor]] = []
    rest = list(grads)
    for value in args:
        count = len(tensors_of([value]))
        if count and rest:
            groups.append(rest[:count])
            rest = rest[count:]
    return groups


@contextmanager
def _single_precision_statistics() -> Iterator[None]:
    """Batch norms of the reference in elementary steps: PyTorch's own sum fp32 in fp64 on CPUs, as on no GPU."""

    def elementary(
        x: Tensor,
        mean: Tensor | None,
        variance: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        _training: bool,
        _momentum: float,
        eps: float,
    ) -> Tensor:
        wide = x.to(weight.dtype)
        if mean is None or variance is None:
            mean = wide.mean((0, 2, 3))
            variance = (wide - mean[:, None, None]).square().mean((0, 2, 3))
        scale = weight * (variance + eps).rsqrt()
        return ((wide - mean[:, None, None]) * scale[:, None, None] + bias[:, None, None]).to(x.dtype)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch_norm, "F", SimpleNamespace(batch_norm=elementary))
        yield


def _root_mean_square(tensors: Sequence[Tensor]) -> float:
    return torch.cat([tensor.double().flatten() for tensor in tensors]).square().mean().sqrt().item()
