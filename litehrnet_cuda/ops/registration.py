"""What Python adds to an op whose schema and kernels are in the native library: shapes, gradients, autocast policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from litehrnet_cuda import _extension

NAMESPACE = "litehrnet_cuda"


def register(
    name: str, fake: Callable[..., Any], *, cast: Callable[[Any, torch.dtype], Any] | None = None, autocast: bool = True
) -> Callable[..., Any]:
    """Registers shapes and autocast of an op, if the native library that defines it can be loaded.

    Args:
        name: of the op.
        fake: takes the op's arguments and returns empty outputs of the right shape, dtype, strides and device.
        cast: autocast policy, takes all arguments and autocast's dtype. By default all tensors get that dtype:
            kernels accumulate in fp32 whatever the element type, and it is traffic that they are bound by.
        autocast: whether the op has such a policy at all; else its arguments stay as they are.

    Returns:
        The op. Without the library, a function that raises RuntimeError with the reason.
    """
    library = _extension.load()
    if not library.ok:

        def missing(*_args: Any) -> Any:
            raise RuntimeError(f"{name}: the native library of litehrnet_cuda is needed, but {library.reason}")

        return missing
    op: Callable[..., Any] = getattr(getattr(torch.ops, NAMESPACE), name).default
    torch.library.register_fake(f"{NAMESPACE}::{name}", fake)
    for device in ("cuda", "cpu") if autocast else ():
        _register_autocast(name, op, device, cast or cast_tensors)

    def call(*args: Any) -> Any:
        if torch.compiler.is_compiling():
            return op(*args)
        try:
            return op(*args)
        except NotImplementedError as error:
            if "Could not run" not in str(error):
                raise
            raise NotImplementedError(
                f"{name}: there is no kernel for these tensors' device here (`litehrnet env` says what there is); "
                f"litehrnet_cuda.reference has the same function in plain PyTorch"
            ) from None

    return call


def register_backward(name: str, fake: Callable[..., list[Tensor]]) -> Callable[..., list[Tensor]]:
    """Registers the op ``_<name>_backward``: its shapes, and that it has no gradient itself."""
    op = register(f"_{name}_backward", fake, autocast=False)
    if _extension.load().ok:

        def refuse(_ctx: Any, *_grads: Any) -> None:
            raise RuntimeError(f"{name}: double backward is not supported; litehrnet_cuda.reference does")

        torch.library.register_autograd(f"{NAMESPACE}::_{name}_backward", refuse)
    return op


def register_autograd(name: str, setup_context: Callable[..., None], backward: Callable[..., Any]) -> None:
    """Registers the gradient of an op, if the native library is there."""
    if _extension.load().ok:
        torch.library.register_autograd(f"{NAMESPACE}::{name}", backward, setup_context=setup_context)


def with_eager_autograd(
    call: Callable[..., Any], setup_context: Callable[..., None], backward: Callable[..., Any]
) -> Callable[..., Any]:
    """The op ``call``, with the gradient that is registered for it, by a shorter way where only autograd looks on.

    ``torch.library`` takes nested arguments apart and together several times a call, which costs more than a small op.
    Compilers, tracers, ``torch.func``, modes, subclasses and autocast go the long way.
    """

    def function(*args: Any) -> Any:
        tensors = [
            t for arg in args for t in (arg if isinstance(arg, (list, tuple)) else (arg,)) if isinstance(t, Tensor)
        ]
        if not _looks_on_alone(tensors):
            return call(*args)
        results: list[Any] = []
        flat = _EagerFunction.apply(call, setup_context, backward, args, results, *tensors)  # type: ignore[no-untyped-call]
        return _rebuild(results[0], iter(flat))

    return function


class _EagerFunction(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, call: Any, setup_context: Any, backward: Any, args: Any, results: list[Any], *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.arguments = _skeleton(args)
        with torch._C._AutoDispatchBelowAutograd():
            output = call(*args)
        ctx.results = _skeleton(output)
        ctx.gradient = backward
        results.append(ctx.results)
        setup_context(ctx, args, output)
        return tuple(_tensors(output))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        given = _rebuild(ctx.results, iter(grads))
        inputs = ctx.gradient(ctx, *(given if isinstance(given, tuple) else (given,)))
        flat: list[Tensor | None] = []
        for form, grad in zip(ctx.arguments, inputs, strict=True):
            if isinstance(form, list):
                flat.extend(grad if grad is not None else [None] * len(form))
            elif form:
                flat.append(grad)
        return (None, None, None, None, None, *flat)


def _looks_on_alone(tensors: Sequence[Tensor]) -> bool:
    return (
        torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not torch._C._is_tracing()
        and any(t.requires_grad for t in tensors)
        and all(type(t) in (Tensor, torch.nn.Parameter) for t in tensors)
        and not torch.is_autocast_enabled(tensors[0].device.type)
        and torch._C._len_torch_dispatch_stack() == 0
        and not torch._C._are_functorch_transforms_active()
    )


# The form of nested values: a list for a list, True for a tensor, False for anything else.
def _skeleton(values: Any) -> Any:
    if isinstance(values, tuple):
        return tuple(_skeleton(value) for value in values)
    if isinstance(values, list):
        return [isinstance(value, Tensor) for value in values]
    return isinstance(values, Tensor)


def _tensors(values: Any) -> list[Tensor]:
    if isinstance(values, (list, tuple)):
        return [t for value in values for t in _tensors(value)]
    return [values]


def _rebuild(form: Any, flat: Any) -> Any:
    if isinstance(form, tuple):
        return tuple(_rebuild(part, flat) for part in form)
    return [next(flat) for _ in form] if isinstance(form, list) else next(flat)


def register_training(name: str, fake: Callable[..., Any]) -> Callable[..., Any]:
    """Registers an op with batch norms and its backward op, which all follow one form.

    The op takes ``(x, *parameters, running_mean, running_var, training, eps)`` and returns ``(y, statistics, saved)``.
    The backward op takes ``(grad_y, x, *parameters, running_mean, running_var, statistics, saved, training, eps)`` and
    returns the gradients of ``x`` and of the parameters in one list. Running statistics are read without ``training``
    alone, so only then they are kept. ``y`` has the shapes of ``x``.

    Under autocast feature maps get autocast's dtype, parameters fp32: that is what the kernels take, and it spares
    copies of the parameters in another dtype.
    """

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        *tensors, running_mean, running_var, training, eps = inputs
        _, statistics, saved = output
        ctx.mark_non_differentiable(statistics, *saved)
        ctx.set_materialize_grads(False)
        ctx.training, ctx.eps = training, eps
        ctx.no_gradients = [None] * len(running_mean), [None] * len(running_var)
        running = ([], []) if training else (running_mean, running_var)
        flat, ctx.structure = _flatten([*tensors, *running, statistics, saved])
        ctx.save_for_backward(*flat)

    def backward(ctx: Any, grad_y: Sequence[Tensor | None], *_unused: Any) -> Any:
        *tensors, running_mean, running_var, statistics, saved = _unflatten(ctx.saved_tensors, ctx.structure)
        grad_y = [torch.zeros_like(s) if g is None else g for g, s in zip(grad_y, tensors[0], strict=True)]
        grads = backward_op(grad_y, *tensors, running_mean, running_var, statistics, saved, ctx.training, ctx.eps)
        return (*_unflatten(grads, ctx.structure[: len(tensors)]), *ctx.no_gradients, None, None)

    def fake_backward(_grad_y: list[Tensor], x: list[Tensor], *rest: Any) -> list[Tensor]:
        parameters, _ = _flatten(rest[:-6])
        return [empty_like_map(s, s.shape[1]) for s in x] + [p.new_empty(p.shape) for p in parameters]

    op = register(name, fake, cast=cast_maps)
    backward_op = register_backward(name, fake_backward)
    register_autograd(name, setup_context, backward)
    return with_eager_autograd(op, setup_context, backward)


def register_folded(
    name: str,
    fake: Callable[..., list[Tensor]],
    unfold: Callable[..., tuple[list[Any], list[Tensor]]],
    fold: Callable[[list[Any], list[Tensor]], tuple[Any, ...]],
) -> Callable[..., Any]:
    """Registers an op ``(x, *parameters) -> y`` with batch norms folded into its parameters, and its gradient.

    The gradient is that of ``<name>_batch_norm`` with norms that add the bias and do nothing else. What that op keeps
    is computed in the backward pass: the op is made for inference, and keeps nothing but its arguments.

    Args:
        name: of the op.
        fake: of :func:`register`.
        unfold: from the op's parameters, those of the other one apart from its norms, and its norms' biases.
        fold: from gradients of what ``unfold`` returns, gradients of the op's parameters, in their order.
    """

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.set_materialize_grads(False)
        flat, ctx.structure = _flatten(inputs)
        ctx.save_for_backward(*flat)

    def backward(ctx: Any, grad_y: Sequence[Tensor | None]) -> Any:
        x, *given = _unflatten(ctx.saved_tensors, ctx.structure)
        grad_y = [torch.zeros_like(s) if g is None else g for g, s in zip(grad_y, x, strict=True)]
        parameters, biases = unfold(*cast_to(given, accumulate_dtype(x[0])))
        ones, zeros = [torch.ones_like(bias) for bias in biases], [torch.zeros_like(bias) for bias in biases]
        arguments = (x, *parameters, ones, biases, zeros, ones)
        ops = getattr(torch.ops, NAMESPACE)
        _, statistics, saved = getattr(ops, f"{name}_batch_norm")(*arguments, False, 0.0)
        grads = getattr(ops, f"_{name}_batch_norm_backward")(grad_y, *arguments, statistics, saved, False, 0.0)
        _, structure = _flatten([x, *parameters, ones, biases])
        grad_x, *grad_parameters, _, grad_biases = _unflatten(grads, structure)
        return (grad_x, *cast_to(fold(grad_parameters, grad_biases), x[0].dtype))

    op = register(name, fake)
    register_autograd(name, setup_context, backward)
    return op


def empty_like_map(x: Tensor, channels: int) -> Tensor:
    """An empty ``[N, channels, H, W]`` for fakes: channels_last where ``x`` is nothing else, NCHW elsewhere."""
    n, _, height, width = x.shape
    y = x.new_empty(n, channels, height, width)
    only_channels_last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    return y.contiguous(memory_format=torch.channels_last) if only_channels_last else y


def accumulate_dtype(x: Tensor) -> torch.dtype:
    """What kernels sum in, and hold parameters in, for maps of a dtype: fp64 for fp64, fp32 for all others."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def cast_tensors(value: Any, dtype: torch.dtype) -> Any:
    """Tensors among arguments in a dtype; fp64 stays, as in PyTorch's own ops."""
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() and value.dtype != torch.float64 else value
    if isinstance(value, (list, tuple)):
        return [cast_tensors(item, dtype) for item in value]
    return value


def cast_to(value: Any, dtype: torch.dtype) -> Any:
    """Tensors in lists of lists in a dtype, whatever they were."""
    return value.to(dtype) if isinstance(value, Tensor) else [cast_to(item, dtype) for item in value]


def cast_maps(args: Any, dtype: torch.dtype) -> Any:
    """The first argument, feature maps, in a dtype; parameters in fp32, or fp64 where they are."""
    return [cast_tensors(args[0], dtype), *cast_tensors(args[1:], torch.float32)]


_libraries: list[torch.library.Library] = []  # a registration lasts as long as its Library object


def _register_autocast(name: str, op: Callable[..., Any], device: str, cast: Callable[[Any, torch.dtype], Any]) -> None:
    def autocast(*args: Any) -> Any:
        dtype = torch.get_autocast_dtype(device)
        with torch.amp.autocast(device, enabled=False):
            return op(*cast(args, dtype))

    library = torch.library.Library(NAMESPACE, "IMPL")  # type: ignore[no-untyped-call]
    key = "AutocastCUDA" if device == "cuda" else "AutocastCPU"
    library.impl(name, autocast, key)  # type: ignore[no-untyped-call]
    _libraries.append(library)


# A list of tensors as its length, a single tensor as None.
Structure = list[int | None]


def _flatten(values: Sequence[Any]) -> tuple[list[Tensor], Structure]:
    structure: Structure = [len(value) if isinstance(value, (list, tuple)) else None for value in values]
    flat: list[Tensor] = []
    for value, length in zip(values, structure, strict=True):
        flat.extend([value] if length is None else value)
    return flat, structure


def _unflatten(flat: Sequence[Tensor], structure: Structure) -> list[Any]:
    values: list[Any] = []
    start = 0
    for length in structure:
        values.append(flat[start] if length is None else list(flat[start : start + length]))
        start += 1 if length is None else length
    return values
