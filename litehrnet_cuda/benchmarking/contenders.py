"""Ways to run a network, that can be timed against each other. None of them has to be installed but PyTorch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from litehrnet_cuda.backends import select_backend, use_backend
from litehrnet_cuda.benchmarking import runtimes
from litehrnet_cuda.benchmarking.runtimes import Unavailable
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.inference import OptimizedNetwork, optimize_for_inference
from litehrnet_cuda.nn.dispatch import has_fused_backend, has_inference_backend

Network = Callable[[Tensor], Any]


class Prepared(NamedTuple):
    """A network that is ready to run.

    Args:
        call: from images to heat maps.
        details: how it is run, in a few words, where that is not clear.
    """

    call: Network
    details: str = ""


@dataclass(frozen=True)
class Contender:
    """A way to run a network.

    Args:
        name: for the command line and for files.
        title: for people.
        prepare: called with a network in evaluation mode, images, and the number of threads, which torch has been told
            already. Raises :class:`Unavailable` with the reason if it cannot be done.
        devices: types of devices on which it can be tried.
        takes_minutes: its preparation does.
    """

    name: str
    title: str
    prepare: Callable[[nn.Module, Tensor, int], Prepared]
    devices: tuple[str, ...] = ("cpu", "cuda")
    takes_minutes: bool = False


def _eager(network: nn.Module, images: Tensor, threads: int) -> Prepared:
    """The modules as PyTorch runs them, without any kernel of ours."""

    def call(images: Tensor) -> Any:
        with use_backend("reference"):
            return network(images)

    return Prepared(call)


def _blocks(network: nn.Module, images: Tensor, threads: int) -> Prepared:
    """The model as it is, module by module, its blocks fused."""
    device_type = images.device.type
    if not (has_fused_backend(device_type) or has_inference_backend(device_type)):
        raise Unavailable(f"there are no fused blocks for {device_type} here")
    return Prepared(network, select_backend(device_type))


def _ours(network: nn.Module, images: Tensor, threads: int, *, only_planned: bool = False, **options: Any) -> Prepared:
    """What `optimize_for_inference` returns."""
    try:
        optimized: OptimizedNetwork = optimize_for_inference(network, **options)  # type: ignore[arg-type]
    except InputError as error:
        raise Unavailable(str(error)) from None
    execution = optimized.backend_for(images)
    if only_planned and not execution.is_planned:
        raise Unavailable(f"it does not run as a plan: {execution.reason}")
    return Prepared(optimized, str(execution))


def _compiled(network: nn.Module, images: Tensor, threads: int, **options: Any) -> Prepared:
    """What `torch.compile` makes of plain PyTorch, for images of this one shape."""
    torch.compiler.reset()  # code for other numbers of threads, or for too many shapes
    with use_backend("reference"), torch.inference_mode():
        call = torch.compile(network, dynamic=False, **options)
        try:
            call(images)
        except Exception as error:  # a missing compiler, or one that fails: the others are to be measured all the same
            raise Unavailable(_first_line(error)) from None

    def run(images: Tensor) -> Any:
        with use_backend("reference"):
            return call(images)

    return Prepared(run)


def _runtime(prepare: Callable[..., Network], network: nn.Module, images: Tensor, threads: int) -> Prepared:
    try:
        with use_backend("reference"):
            call = prepare(network, images, threads)
        call(images)  # what is refused is often refused by the first call
        return Prepared(call)
    except Unavailable:
        raise
    except Exception as error:  # of whatever type runtimes raise, for operations or types that they lack
        raise Unavailable(_first_line(error)) from None


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"[:200]


_planned = functools.partial(_ours, only_planned=True)

CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender("eager", "PyTorch, eager", _eager),
        Contender("ours", "ours", _ours),
        Contender("ours-bfloat16", "ours, bfloat16", functools.partial(_planned, dtype=torch.bfloat16)),
        Contender("ours-float16", "ours, float16", functools.partial(_planned, dtype=torch.float16)),
        Contender("ours-no-graph", "ours, no CUDA graph", functools.partial(_planned, cuda_graphs=False), ("cuda",)),
        Contender("ours-one-launch", "ours, one launch", functools.partial(_planned, persistent=True), ("cuda",)),
        Contender("blocks", "fused blocks", _blocks),
        Contender("compile", "torch.compile", _compiled, takes_minutes=True),
        Contender(
            "compile-graphs",
            "torch.compile, CUDA graphs",
            functools.partial(_compiled, mode="reduce-overhead"),
            ("cuda",),
            takes_minutes=True,
        ),
        Contender(
            "compile-autotune",
            "torch.compile, max-autotune",
            functools.partial(_compiled, mode="max-autotune"),
            ("cuda",),
            takes_minutes=True,
        ),
        Contender("onnxruntime", "ONNX Runtime", functools.partial(_runtime, runtimes.onnx_runtime)),
        Contender("openvino", "OpenVINO", functools.partial(_runtime, runtimes.openvino), ("cpu",)),
        Contender("tensorrt", "TensorRT", functools.partial(_runtime, runtimes.tensorrt), ("cuda",), True),
    )
}


def contenders_for(device_type: str, names: Sequence[str] | None = None) -> list[Contender]:
    """Those of these names that a type of device can be tried with; by default all that are ready within seconds.

    16-bit forms of ours are among them only if they are named.
    """
    chosen = [
        contender
        for contender in CONTENDERS.values()
        if (
            contender.name in names
            if names is not None
            else not contender.takes_minutes and not contender.name.endswith("float16")
        )
    ]
    return [contender for contender in chosen if device_type in contender.devices]


def with_statistics(network: nn.Module, images: Tensor) -> nn.Module:
    """Gives the batch norms of a network with random weights the statistics of images, in place; in evaluation mode.

    With those that norms begin with, activations shrink from layer to layer: differences of outputs would mean nothing.
    """
    norms = [part for part in network.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad(), use_backend("reference"):
        network.train()(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return network.eval().requires_grad_(False)
