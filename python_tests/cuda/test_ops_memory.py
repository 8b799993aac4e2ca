"""Memory and order of threads in the fused ops as they ship, adapters included.

Who checks what:

- here, checked build: races in shared memory and on torch's tensors, shared memory that is read without a value or out
  of bounds, misaligned vectors, array indices, barriers, the same bits in every order of threads. The emulator does not
  know where torch's tensors begin and end, since the adapters allocate some of them;
- here, AddressSanitizer and UndefinedBehaviorSanitizer: bounds and lifetime, to the byte, of all tensors: inputs,
  outputs, workspaces and what adapters copy; overflow, null pointers, shifts;
- test_kernels_native.py: the kernels without adapters, with every buffer known to the emulator: bounds of those, and
  reads of global memory, workspaces above all, that nothing was written to;
- test_mutants.py: that these checks do find mistakes.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

import emulated_ops
import op_cases
import op_trials
import pytest
import torch
import training_cases

# Of ops for inference one trial a case, and of the update of running statistics; of ops for training two, with batch
# statistics and with running ones.
OPS = len(op_cases.OPS) + 2 * len(training_cases.TRAINING_OPS) + 1


def assert_clean(result: subprocess.CompletedProcess[str], trials: int) -> None:
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.startswith(f"{trials} trials, ")
    assert result.stdout.endswith(", no findings\n")


@pytest.mark.parametrize(
    "sizes",
    [
        ["odd", "four_exact", "one_pixel", "width_17"],
        pytest.param(["two_exact", "overlapping", "width_2", "width_65"], marks=pytest.mark.slow),
    ],
    ids=["", "more"],
)
def test_shapes_and_orders_of_threads(sizes: list[str]) -> None:
    result = op_trials.run(
        emulated_ops.build("checked"),
        *("--sizes", *sizes, "--dtypes", "float32", "float16", "--seeds", *map(str, range(4))),
    )
    assert_clean(result, OPS * len(sizes) * 2 * 4)


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float16", marks=pytest.mark.slow)])
def test_layouts(dtype: str) -> None:
    layouts = [name for name in op_trials.LAYOUTS if name != "contiguous"]
    result = op_trials.run(
        emulated_ops.build("checked"),
        *("--sizes", "odd", "four_exact", "--dtypes", dtype, "--layouts", *layouts, "--seeds", "0", "2"),
    )
    assert_clean(result, OPS * 2 * len(layouts) * 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sizes", "dtypes", "layouts"),
    [
        # Every size of an element; bfloat16 runs the code of float16.
        (
            ["two_exact", "overlapping", "one_pixel", "width_17", "width_65"],
            [torch.float32, torch.float16, torch.float64],
            ["contiguous"],
        ),
        (["odd"], [torch.float32, torch.float16], list(op_trials.LAYOUTS)),
    ],
    ids=["dtypes", "layouts"],
)
def test_sanitizers(sizes: list[str], dtypes: Sequence[torch.dtype], layouts: list[str]) -> None:
    names = [str(dtype).removeprefix("torch.") for dtype in dtypes]
    result = op_trials.run(
        emulated_ops.build("asan", flags=emulated_ops.UNDEFINED),
        *("--sizes", *sizes, "--dtypes", *names, "--layouts", *layouts),
        sanitized=True,
    )
    assert_clean(result, OPS * len(sizes) * len(dtypes) * len(layouts))
