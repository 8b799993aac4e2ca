"""A program that puts one library of emulated ops to the test; a process can load one such library, hence a program.

    python op_trials.py build/emulated/<library>.so --sizes odd two_exact --dtypes float32 --seeds 0 1

For every op, size, dtype and layout of the inputs it compares the outputs with the reference, asks for the memory
format that PyTorch's own operators would give, for the same bits in every order of threads, and for no finding of the
emulator. It stops at the first disagreement with exit status 1 and one sentence; else it counts its trials.
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


def run(library: Path, *options: str, sanitized: bool = False) -> subprocess.CompletedProcess[str]:
    """This program in a process of its own, with AddressSanitizer's runtime for a library that needs it."""
    environment = emulation.asan_environment() if sanitized else dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, __file__, str(library), *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", type=Path)
    parser.add_argument("--ops", nargs="+", default=list(op_cases.OPS), choices=op_cases.OPS)
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
            size = op_cases.SIZES[sizes]
            args = op_cases.OPS[name].arguments(size, op_cases.channels_for(size), options.batch)
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
