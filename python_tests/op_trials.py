"""A program that puts one library of emulated ops to the test; a process can load one such library, hence a program.

    python op_trials.py build/emulated/<library>.so --sizes odd two_exact --dtypes float32 --seeds 0 1

For every op, size, dtype and layout of the inputs it compares the outputs with the reference, asks for the memory
format that PyTorch's own operators would give, for the same bits in every order of threads, and for no finding of the
emulator. It stops at the first disagreement with exit status 1 and one sentence, and counts its trials when all is well.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import emulation
import op_cases
import torch
from torch import Tensor

from litehrnet_cuda import _extension, functional
from litehrnet_cuda.reference.conditional_channel_weighting import conditional_channel_weighting
from litehrnet_cuda.reference.cross_resolution_weighting import cross_resolution_weighting
from litehrnet_cuda.reference.depthwise_conv import depthwise_conv
from litehrnet_cuda.reference.spatial_weighting import spatial_weighting


@dataclass(frozen=True)
class Op:
    """Its oracle, random arguments after ``x`` from channels and maps, and how many channels of a map make one."""

    reference: Callable[..., list[Tensor]]
    weights: Callable[[list[int], list[Tensor]], list[Any]]
    maps_per_weight: int = 1


OPS = {
    "conditional_channel_weighting": Op(
        conditional_channel_weighting,
        lambda channels, maps: [
            *op_cases.cross_resolution_weights(channels),
            *op_cases.depthwise_weights(channels),
            *op_cases.gate_weights(channels),
        ],
        maps_per_weight=2,
    ),
    "cross_resolution_weighting": Op(
        cross_resolution_weighting, lambda channels, maps: list(op_cases.cross_resolution_weights(channels))
    ),
    "depthwise_conv": Op(depthwise_conv, lambda channels, maps: list(op_cases.depthwise_weights(channels))),
    "spatial_weighting": Op(
        spatial_weighting,
        lambda channels, maps: [[torch.randn_like(m) for m in maps], *op_cases.gate_weights(channels)],
    ),
}


def misaligned(x: Tensor) -> Tensor:
    """The same values one element after the start of an allocation, where no 16-byte load is possible."""
    return torch.empty(x.numel() + 1, dtype=x.dtype)[1:].view(x.shape).copy_(x)


# Each with the values of its argument, in memory of exactly the size that they need: what lies behind is not theirs.
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "misaligned": misaligned,
    "sliced_channels": lambda x: torch.cat([x, x], dim=1)[:, x.shape[1] :],
    "sliced_batch": lambda x: x.repeat_interleave(2, dim=0)[::2],
    "sliced_width": lambda x: torch.nn.functional.pad(x, (1, 2))[..., 1:-2],
}


def arguments(name: str, sizes: Sequence[tuple[int, int]], batch: int) -> list[Any]:
    op = OPS[name]
    torch.manual_seed(0)
    channels = op_cases.channels_for(sizes)
    maps = op_cases.random_maps(sizes, [op.maps_per_weight * c for c in channels], torch.float64, batch)
    return [maps, *op.weights(channels, maps)]


def try_op(
    library: emulation.Library, name: str, args: list[Any], dtype: torch.dtype, layout: str, seeds: Sequence[int]
) -> None:
    """Raises AssertionError at the first disagreement."""
    op, oracle = getattr(functional, name), OPS[name].reference
    args = op_cases.cast(args, dtype)
    args[0] = [LAYOUTS[layout](x) for x in args[0]]
    first: list[Tensor] = []
    for seed in seeds:
        library.configure(seed=seed)
        outputs = op(*args)
        assert library.errors() == [], library.errors()[0]["message"]
        if not first:
            first = outputs
            op_cases.assert_close_to_reference(lambda *_: outputs, oracle, args, dtype)
            for out, x in zip(outputs, args[0], strict=True):
                last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
                memory_format = torch.channels_last if last else torch.contiguous_format
                assert out.is_contiguous(memory_format=memory_format), "another memory format"
        for a, b in zip(first, outputs, strict=True):
            assert torch.equal(a, b), f"seed {seed} gives other bits"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", type=Path)
    parser.add_argument("--ops", nargs="+", default=list(OPS), choices=OPS)
    parser.add_argument("--sizes", nargs="+", default=["two_exact", "odd"], choices=op_cases.SIZES)
    parser.add_argument("--dtypes", nargs="+", default=["float32"])
    parser.add_argument("--layouts", nargs="+", default=["contiguous"], choices=LAYOUTS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--batch", type=int, default=2)
    options = parser.parse_args()

    assert _extension.load().ok
    torch.ops.load_library(str(options.library))
    library = emulation.Library(options.library)
    library.reset()
    trials = 0
    for name in options.ops:
        for sizes in options.sizes:
            args = arguments(name, op_cases.SIZES[sizes], options.batch)
            for dtype in options.dtypes:
                for layout in options.layouts:
                    try:
                        try_op(library, name, args, getattr(torch, dtype), layout, options.seeds)
                    except (AssertionError, RuntimeError) as error:
                        print(f"{name}, {sizes}, {dtype}, {layout}: {error}")
                        return 1
                    trials += len(options.seeds)
    print(f"{trials} trials, {len(library.launches())} launches, no findings")
    return 0


if __name__ == "__main__":
    sys.exit(main())
