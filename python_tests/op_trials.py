"""A program that puts one library of emulated ops to the test; a process can load one such library, hence a program.

    python op_trials.py build/emulated/<library>.so --sizes odd two_exact --dtypes float32 --seeds 0 1

For every op, size, dtype and layout of the inputs it compares outputs, and gradients of the ops for training, with the
reference, and asks for the memory format that PyTorch's own operators would give, for the same bits in every order of
threads, and for no finding of the emulator. It stops at the first disagreement with exit status 1 and one sentence;
else it counts its trials.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import emulation
import op_cases
import torch
import training_cases
from torch import Tensor

from litehrnet_cuda import _extension, functional

LAYOUTS = {"contiguous": lambda x: x, **op_cases.LAYOUTS}


def assert_right(outputs: list[Tensor], name: str, args: list[Any], dtype: torch.dtype) -> None:
    try:
        op_cases.assert_close_to_reference(lambda *_: outputs, op_cases.OPS[name].reference, args, dtype)
    except AssertionError as error:
        raise AssertionError(f"wrong result: {error}") from error


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
        assert library.errors() == [], library.errors()[0]["message"]
        if not first:
            first = outputs
            assert_right(outputs, name, args, dtype)
            for out, x in zip(outputs, args[0], strict=True):
                memory_format = op_cases.memory_format_of(x)
                assert out.is_contiguous(memory_format=memory_format), "another memory format"
        for a, b in zip(first, outputs, strict=True):
            assert torch.equal(a, b), f"seed {seed} gives other bits"


def try_training_op(
    library: emulation.Library, name: str, args: list[Any], dtype: torch.dtype, layout: str, seeds: Sequence[int]
) -> None:
    """The same for an op with batch norms, its gradients included. Layouts are those of maps and of their gradients."""
    differentiable = len(args) - 4
    first: list[Tensor] = []
    for seed in seeds:
        library.configure(seed=seed)
        given = training_cases.cast_arguments(args, dtype)
        given[0] = [LAYOUTS[layout](x) for x in given[0]]
        torch.manual_seed(1)
        cotangents = [LAYOUTS[layout](torch.randn_like(x)) for x in given[0]]
        outputs, grads = training_cases.gradients(getattr(functional, name), given, cotangents, differentiable)
        assert library.errors() == [], library.errors()[0]["message"]
        for out, x in zip(outputs, given[0], strict=True):
            assert out.is_contiguous(memory_format=op_cases.memory_format_of(x)), "another memory format"
        if not first:
            first = [*outputs, *grads]
            given[0] = [x.contiguous() for x in given[0]]
            try:
                training_cases.assert_gradients_close_to_reference(
                    getattr(functional, name), training_cases.TRAINING_OPS[name].reference, given, dtype, differentiable
                )
            except AssertionError as error:
                raise AssertionError(f"wrong result: {error}") from error
        for a, b in zip(first, [*outputs, *grads], strict=True):
            assert torch.equal(a, b), f"seed {seed} gives other bits"


def run(library: Path, *options: str, sanitized: bool = False) -> subprocess.CompletedProcess[str]:
    """This program in a process of its own, with AddressSanitizer's runtime for a library that needs it."""
    environment = emulation.asan_environment() if sanitized else dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, __file__, str(library), *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", type=Path)
    ops = [*op_cases.OPS, *training_cases.TRAINING_OPS]
    parser.add_argument("--ops", nargs="+", default=ops, choices=ops)
    parser.add_argument("--sizes", nargs="+", default=["two_exact", "odd"], choices=op_cases.SIZES)
    parser.add_argument("--dtypes", nargs="+", default=["float32"])
    parser.add_argument("--layouts", nargs="+", default=["contiguous"], choices=LAYOUTS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--batch", type=int, default=5)  # few values have statistics with little gradient
    options = parser.parse_args()

    assert _extension.load().ok
    torch.ops.load_library(str(options.library))
    library = emulation.Library(options.library)
    library.reset()
    trials = 0
    for name in options.ops:
        for sizes in options.sizes:
            size = op_cases.SIZES[sizes]
            channels = op_cases.channels_for(size)
            if name in op_cases.OPS:
                attempt, variants = try_op, [op_cases.OPS[name].arguments(size, channels, options.batch)]
            else:
                op = training_cases.TRAINING_OPS[name]
                attempt = try_training_op
                variants = [op.arguments(size, channels, options.batch, training) for training in (True, False)]
            for dtype in options.dtypes:
                for layout in options.layouts:
                    for args in variants:
                        try:
                            attempt(library, name, args, getattr(torch, dtype), layout, options.seeds)
                        except (AssertionError, RuntimeError) as error:
                            print(f"{name}, {sizes}, {dtype}, {layout}: {error}")
                            return 1
                        trials += len(options.seeds)
    print(f"{trials} trials, {len(library.launches())} launches, no findings")
    return 0


if __name__ == "__main__":
    sys.exit(main())
