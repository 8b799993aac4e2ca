"""What a network costs: parameters, operations under two conventions, memory.

Everything is read off a forward pass on PyTorch's ``meta`` device, which has shapes but no data, so that any input
size is counted in a moment.

*The official count* is that of the tool bundled with the official repository (torchstat): for every leaf
module its last call only, a convolution's multiply-accumulates and one addition per bias and output element, two
operations per element of a batch norm, one per element of a ReLU, C (h + 1) (w + 1) for the global pooling of
``[C, h, w]``, and h w (without the channels) for an upsampling to ``[C, h, w]`` in the fuse step. Cross-resolution
pooling and upsampling, the iterative head's upsampling, sums, products and sigmoids count nothing. The formulas for
pooling and upsampling were inferred from the tool's results, which they reproduce to the last operation.
Published figures ("205.2M") are this count divided by 1024^2, not by 10^6.

*Executed multiply-accumulates* are those of all convolutions that run. The official code evaluates the
fuse paths out of branch 0 twice; this package does it once, so both figures are given.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from litehrnet_cuda.models.litehrnet import Variant
from litehrnet_cuda.models.registry import create_model
from litehrnet_cuda.models.segmentation import SegmentationHead
from litehrnet_cuda.nn.fuse import LiteHRModule

MEBI = 1024**2


@dataclass(frozen=True)
class Complexity:
    """The cost of one forward pass.

    Attributes:
        name: the variant.
        task: ``"pose"`` or ``"segmentation"``.
        height, width: input size in pixels.
        batch: images per forward pass; operations and memory are for the whole batch.
        parameters: number of learnable values.
        official_operations: the official count; divide by 1024^2 for figures as published.
        macs: multiply-accumulates of the convolutions that run here.
        official_macs: the same for the official code, which runs some fuse paths twice.
        parameter_bytes: size of parameters and buffers, fp32.
        output_bytes: size of the outputs of all layers together, fp32.
        peak_bytes: largest total of intermediate tensors alive at once in inference, input included, fp32.
    """

    name: str
    task: str
    height: int
    width: int
    batch: int
    parameters: int
    official_operations: int
    macs: int
    official_macs: int
    parameter_bytes: int
    output_bytes: int
    peak_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """All figures, and the official count in millions as it is published."""
        return {**asdict(self), "official_operations_M": round(self.official_operations / MEBI, 2)}


def measure_complexity(
    variant: Variant,
    *,
    task: Literal["pose", "segmentation"] = "pose",
    num_outputs: int | None = None,
    head: SegmentationHead = "fcn",
    with_head: bool = True,
    height: int = 256,
    width: int = 192,
    batch: int = 1,
) -> Complexity:
    """Counts a network of a variant.

    Args:
        variant: which network.
        task, num_outputs, head, with_head: as :func:`~litehrnet_cuda.models.registry.create_model` takes them.
        height, width: input size in pixels, from 32 up.
        batch: number of images.

    Raises:
        InputError: for an input that is too small, or a network that there is not.
    """
    with torch.device("meta"):
        model: nn.Module
        if task == "segmentation":
            model = create_model(variant, task, num_outputs=num_outputs, head=head, with_head=with_head)
        else:
            model = create_model(variant, task, num_outputs=num_outputs)
        model.eval()
        image = torch.empty(batch, 3, height, width)
    counter = _Counter(model)
    with torch.no_grad(), counter.attached(), _PeakMemory(image) as memory:
        model(image)
    return Complexity(
        name=variant.name,
        task=task,
        height=height,
        width=width,
        batch=batch,
        parameters=sum(p.numel() for p in model.parameters()),
        official_operations=sum(counter.official.values()),
        macs=sum(counter.macs.values()),
        official_macs=sum(counter.macs.values()) + sum(counter.repeated_macs.values()),
        parameter_bytes=sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers())),
        output_bytes=counter.output_bytes,
        peak_bytes=memory.peak,
    )


class _Counter:
    """Forward hooks that count per module; a dictionary per figure, so that a later call replaces an earlier one."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.official: dict[str, int] = {}
        self.macs: dict[str, int] = {}
        self.repeated_macs: dict[str, int] = {}
        self.output_bytes = 0

    @contextmanager
    def attached(self) -> Iterator[None]:
        twice_in_the_official_code = {
            f"{name}.fuse_layers.{i}.0."
            for name, module in self.model.named_modules()
            if isinstance(module, LiteHRModule)
            for i in range(1, module.num_branches)
        }
        handles = []
        for name, module in self.model.named_modules():
            if isinstance(module, LiteHRModule):
                handles.append(module.register_forward_hook(self._upsampling_hook(name)))
            elif not list(module.children()):
                repeated = any(name.startswith(prefix) for prefix in twice_in_the_official_code)
                handles.append(module.register_forward_hook(self._layer_hook(name, repeated)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _layer_hook(self, name: str, repeated: bool) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            self.output_bytes += output.numel() * output.element_size()
            if isinstance(module, nn.Conv2d):
                kernel = module.kernel_size[0] * module.kernel_size[1]
                macs = output.numel() * kernel * module.in_channels // module.groups
                self.macs[name] = macs
                if repeated:
                    self.repeated_macs[name] = macs
                self.official[name] = macs + (output.numel() if module.bias is not None else 0)
            elif isinstance(module, nn.BatchNorm2d):
                self.official[name] = 2 * output.numel()
            elif isinstance(module, nn.ReLU):
                self.official[name] = output.numel()
            elif isinstance(module, nn.AdaptiveAvgPool2d):
                channels, height, width = inputs[0].shape[-3:]
                self.official[name] = len(inputs[0]) * channels * (height + 1) * (width + 1)

        return hook

    def _upsampling_hook(self, name: str) -> Any:
        """The official code upsamples in a module of its own per path from branch j up to i."""

        def hook(module: nn.Module, _inputs: Any, output: list[Tensor]) -> None:
            paths = module.num_branches
            assert isinstance(paths, int)
            self.official[f"{name}.upsample"] = sum(
                len(out) * out[0, 0].numel() * (paths - 1 - i) for i, out in enumerate(output)
            )

        return hook


class _PeakMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows the storages that operators create until they are freed."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive = image.untyped_storage().nbytes()
        self.peak = self.alive
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        made = out if isinstance(out, (tuple, list)) else (out,)
        if func is torch.ops.aten.native_batch_norm.default:
            made = made[:1]  # on a device, statistics are returned in training alone; without values, it depends
        for tensor in made:
            if isinstance(tensor, Tensor) and tensor._base is None:
                storage = tensor.untyped_storage()
                key = storage._cdata
                if key not in self.known:
                    self.known.add(key)
                    self.alive += storage.nbytes()
                    self.peak = max(self.peak, self.alive)
                    weakref.finalize(storage, self._freed, key, storage.nbytes())
        return out

    def _freed(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.alive -= size
