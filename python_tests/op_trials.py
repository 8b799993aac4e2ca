"""A program that puts one library of emulated ops to the test; a process can load one such library, hence a program.

    python op_trials.py build/emulated/<library>.so --sizes odd two_exact --dtypes float32 --seeds 0 1

For every op, size, dtype and layout of the inputs it compares outputs, and statistics and gradients of the ops for
training, with the reference, and asks for the memory format that PyTorch's own operators would give, for the same bits
in every order of threads, and for no finding of the emulator. Memory that nobody has written to is NaN. It stops at the
first disagreement with exit status 1 and one sentence; else it counts its trials.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import emulated_ops
import emulation
import op_cases
import torch
import training_cases
import trial_programs
from torch import Tensor

from litehrnet_cuda import _extension, functional
from litehrnet_cuda.reference.update_running_statistics import update_running_statistics

LAYOUTS = {"contiguous": lambda x: x, **op_cases.LAYOUTS}
# Of gradients beside maps of a layout: others, so that strides differ wherever maps are not contiguous.
GRADIENT_LAYOUTS = {
    "contiguous": "contiguous",
    "channels_last": "misaligned",
    "sliced_channels": "sliced_batch",
    "sliced_batch": "sliced_width",
    "sliced_width": "transposed",
    "transposed": "channels_last",
    "expanded": "sliced_channels",
    "misaligned": "transposed",
}
SIZES = {
    **op_cases.SIZES,
    "large": [(41, 39), (21, 19)],  # planes that every kernel cuts into tiles, of rows that do not end with vectors
    "many_channels": [(4, 3)],  # more than fit in shared memory at once
}
CHANNELS = {"many_channels": [560]}


def assert_right(outputs: list[Tensor], name: str, args: list[Any], dtype: torch.dtype) -> None:
    try:
        op_cases.assert_close_to_reference(lambda *_: outputs, op_cases.OPS[name].reference, args, dtype)
    except AssertionError as error:
        raise AssertionError(f"wrong result: {error}") from error


def assert_no_findings(library: emulation.Library) -> None:
    assert library.errors() == [], library.errors()[0]["message"]


def assert_format(x: Tensor, memory_format: torch.memory_format) -> None:
    assert x.is_contiguous(memory_format=memory_format), "another memory format"


def assert_statistics(statistics: Tensor, exact: Tensor, dtype: torch.dtype) -> None:
    """Mean, biased and unbiased variance. Those of 16-bit maps are taken of rounded values, hence half their digits;
    in fp32 what is allowed is far above the roundings of a sum, and far below what divides the two variances.
    """
    assert statistics.shape == exact.shape
    error = (statistics.double() - exact).abs().sum(1)
    allowed = (1e-2 if dtype.itemsize == 2 else 1e-4) * exact.abs().sum(1)
    assert bool((error <= allowed).all()), f"wrong result: statistics {error} off, allowed {allowed}"


def try_op(
    library: emulation.Library, name: str, args: list[Any], dtype: torch.dtype, layout: str, seeds: Sequence[int]
) -> None:
    """Raises AssertionError at the first disagreement."""
    op = getattr(functional, name)
    args = op_cases.cast(args, dtype)
    args[0] = [LAYOUTS[layout](x) for x in args[0]]
    first: list[Tensor] = []
    for seed in seeds:
        library.configure(seed=seed)
        outputs = op(*args)
        assert_no_findings(library)
        if not first:
            first = outputs
            assert_right(outputs, name, args, dtype)
            for out, x in zip(outputs, args[0], strict=True):
                memory_format = op_cases.memory_format_of(x)
                assert_format(out, memory_format)
        for a, b in zip(first, outputs, strict=True):
            assert torch.equal(a, b), f"seed {seed} gives other bits"
    if name == "spatial_weighting":  # has a backward op
        try_gradients(op, op_cases.OPS[name].reference, args, dtype, len(args), op_cases.cast)
        assert_no_findings(library)


def try_gradients(
    op: Callable[..., Any],
    reference: Callable[..., Any],
    args: list[Any],
    dtype: torch.dtype,
    differentiable: int,
    cast: Callable[[Sequence[Any], torch.dtype], list[Any]],
) -> None:
    try:
        training_cases.assert_gradients_close_to_reference(op, reference, args, dtype, differentiable, cast)
    except AssertionError as error:
        raise AssertionError(f"wrong result: {error}") from error


def try_update(
    library: emulation.Library, _: str, channels: list[int], dtype: torch.dtype, _layout: str, seeds: Sequence[int]
) -> None:
    """Of running statistics, by the op that writes to its arguments."""
    for seed in seeds:
        library.configure(seed=seed)
        torch.manual_seed(0)
        ours = [[torch.rand(c, dtype=torch.float64).to(dtype) for c in channels] for _ in range(2)]
        theirs = [[running.clone() for running in list_] for list_ in ours]
        counts, expected = ([torch.tensor(i) for i in range(len(channels))] for _ in range(2))
        statistics = torch.rand(3, sum(channels), dtype=training_cases.accumulate_dtype(dtype))
        functional.update_running_statistics(*ours, counts, statistics, 0.1)
        assert_no_findings(library)
        update_running_statistics(*theirs, expected, statistics, 0.1)
        for a, b in zip([*ours[0], *ours[1], *counts], [*theirs[0], *theirs[1], *expected], strict=True):
            assert torch.allclose(a, b, rtol=1e-2 if dtype.itemsize == 2 else 1e-6), "wrong result: running statistics"


class Layout(torch.autograd.Function):
    """A tensor in one layout, and its gradient in another one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layout: str, gradient_layout: str) -> Tensor:
        ctx.layout = gradient_layout
        return LAYOUTS[layout](x.detach())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return LAYOUTS[ctx.layout](grads[0]), None, None


def try_training_op(
    library: emulation.Library, name: str, args: list[Any], dtype: torch.dtype, layout: str, seeds: Sequence[int]
) -> None:
    """The same for an op with batch norms, its statistics and gradients included."""
    op, reference = getattr(functional, name), training_cases.TRAINING_OPS[name].reference
    differentiable, found = len(args) - 4, []

    def laid_out(x: list[Tensor], *rest: Any) -> tuple[list[Tensor], Tensor]:
        maps: list[Tensor] = [Layout.apply(s, layout, "contiguous") for s in x]  # type: ignore[no-untyped-call]
        y, statistics = op(maps, *rest)
        for out, s in zip(y, maps, strict=True):
            assert_format(out, op_cases.memory_format_of(s))
            s.register_hook(partial(assert_format, memory_format=op_cases.memory_format_of(s)))
        found.append(statistics)
        return [Layout.apply(s, "contiguous", GRADIENT_LAYOUTS[layout]) for s in y], statistics  # type: ignore[no-untyped-call]

    given = training_cases.cast_arguments(args, dtype)
    given[0] = [LAYOUTS[layout](x).contiguous() for x in given[0]]  # "expanded" has other values
    library.configure(seed=seeds[0])
    torch.manual_seed(1)
    try_gradients(laid_out, reference, given, dtype, differentiable, training_cases.cast_arguments)
    assert_no_findings(library)
    assert_statistics(found[0], reference(*training_cases.cast_arguments(given, torch.float64))[1], dtype)
    first: list[Tensor] = []
    cotangents = [torch.randn_like(x) for x in given[0]]
    for seed in seeds if len(seeds) > 1 else ():
        library.configure(seed=seed)
        outputs, grads = training_cases.gradients(laid_out, given, cotangents, differentiable)
        assert_no_findings(library)
        first = first or [*outputs, *grads]
        for a, b in zip(first, [*outputs, *grads], strict=True):
            assert torch.equal(a, b), f"seed {seed} gives other bits"


def run(library: Path, *options: str, sanitized: bool = False) -> subprocess.CompletedProcess[str]:
    """This program in a process of its own, with AddressSanitizer's runtime for a library that needs it."""
    return trial_programs.run(__file__, str(library), *options, sanitized=sanitized)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", type=Path)
    ops = [*op_cases.OPS, *training_cases.TRAINING_OPS, "update_running_statistics"]
    parser.add_argument("--ops", nargs="+", default=ops, choices=ops)
    parser.add_argument("--sizes", nargs="+", default=["two_exact", "odd"], choices=SIZES)
    parser.add_argument("--dtypes", nargs="+", default=["float32"])
    parser.add_argument("--layouts", nargs="+", default=["contiguous"], choices=LAYOUTS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--batch", type=int, default=5)  # few values have statistics with little gradient
    options = parser.parse_args(arguments)

    emulated_ops.put_in_place(options.library)
    library = emulation.Library(options.library)
    library.reset()
    trials = 0
    for name in options.ops:
        for sizes in options.sizes:
            size = SIZES[sizes]
            channels = CHANNELS.get(sizes) or op_cases.channels_for(size)
            variants: list[list[Any]]
            if name in op_cases.OPS:
                attempt, variants = try_op, [op_cases.OPS[name].arguments(size, channels, options.batch)]
            elif name in training_cases.TRAINING_OPS:
                op = training_cases.TRAINING_OPS[name]
                attempt = try_training_op
                variants = [op.arguments(size, channels, options.batch, training) for training in (True, False)]
            else:
                attempt, variants = try_update, [channels]
            for dtype in options.dtypes:
                for layout in options.layouts:
                    for args in variants:
                        try:
                            attempt(library, name, args, getattr(torch, dtype), layout, options.seeds)
                        except (AssertionError, RuntimeError) as error:
                            kinds = "".join(f"{kind}, " for kind in sorted(library.kinds()))
                            print(f"{name}, {sizes}, {dtype}, {layout}: {kinds}{error}")
                            return 1
                        trials += len(options.seeds)
    print(f"{trials} trials, {len(library.launches())} launches, no findings")
    return 0


if __name__ == "__main__":
    assert _extension.load().ok
    torch.use_deterministic_algorithms(True, warn_only=True)  # which fills what is allocated without a value
    sys.exit(trial_programs.main(main))
