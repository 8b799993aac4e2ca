"""What Python adds to an op whose schema and kernels are in the native library: its shapes, and its autocast policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from litehrnet_cuda import _extension

NAMESPACE = "litehrnet_cuda"


def register(name: str, fake: Callable[..., list[Tensor]]) -> Callable[..., list[Tensor]]:
    """Registers shapes and autocast of an op, if the native library that defines it can be loaded.

    Under autocast an op runs in autocast's dtype: kernels accumulate in fp32 whatever the element type, and it is
    traffic that they are bound by.

    Args:
        name: of the op.
        fake: takes the op's arguments and returns empty outputs of the right shape, dtype, strides and device.

    Returns:
        The op. Without the library, a function that raises RuntimeError with the reason.
    """
    library = _extension.load()
    if not library.ok:

        def missing(*_args: Any) -> list[Tensor]:
            raise RuntimeError(f"{name}: the native library of litehrnet_cuda is needed, but {library.reason}")

        return missing
    op: Callable[..., list[Tensor]] = getattr(getattr(torch.ops, NAMESPACE), name).default
    torch.library.register_fake(f"{NAMESPACE}::{name}", fake)
    for device in ("cuda", "cpu"):
        _register_autocast(name, op, device)
    return op


def empty_like_map(x: Tensor, channels: int) -> Tensor:
    """An empty ``[N, channels, H, W]`` for fakes: channels_last where ``x`` is nothing else, NCHW elsewhere."""
    n, _, height, width = x.shape
    y = x.new_empty(n, channels, height, width)
    only_channels_last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    return y.contiguous(memory_format=torch.channels_last) if only_channels_last else y


_libraries: list[torch.library.Library] = []  # a registration lasts as long as its Library object


def _register_autocast(name: str, op: Callable[..., list[Tensor]], device: str) -> None:
    def autocast(*args: Any) -> Any:
        dtype = torch.get_autocast_dtype(device)
        with torch.amp.autocast(device, enabled=False):
            return op(*_cast(args, dtype))

    library = torch.library.Library(NAMESPACE, "IMPL")  # type: ignore[no-untyped-call]
    key = "AutocastCUDA" if device == "cuda" else "AutocastCPU"
    library.impl(name, autocast, key)  # type: ignore[no-untyped-call]
    _libraries.append(library)


def _cast(value: Any, dtype: torch.dtype) -> Any:
    """Tensors among arguments in autocast's dtype; fp64 stays, as in PyTorch's own ops."""
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() and value.dtype != torch.float64 else value
    if isinstance(value, (list, tuple)):
        return [_cast(item, dtype) for item in value]
    return value
