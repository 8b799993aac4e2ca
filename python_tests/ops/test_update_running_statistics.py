from __future__ import annotations

from typing import Any

import emulated_ops
import pytest
import torch
from torch import Tensor

from litehrnet_cuda import functional
from litehrnet_cuda.reference.update_running_statistics import update_running_statistics

CHANNELS = [5, 300, 1, 128, 129]


@pytest.fixture(autouse=True)
def emulator() -> Any:
    library = emulated_ops.load()
    library.configure(seed=0)
    library.reset()
    yield library
    assert library.errors() == []


def arguments(dtype: torch.dtype = torch.float32) -> list[Any]:
    torch.manual_seed(0)
    accumulate = torch.float64 if dtype == torch.float64 else torch.float32
    return [
        [torch.randn(c, dtype=torch.float64).to(dtype) for c in CHANNELS],
        [torch.rand(c, dtype=torch.float64).to(dtype) for c in CHANNELS],
        [torch.tensor(i) for i in range(len(CHANNELS))],
        torch.rand(3, sum(CHANNELS), dtype=accumulate),
        0.1,
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_matches_reference_in_one_launch(dtype: torch.dtype, emulator: Any) -> None:
    ours, theirs = arguments(dtype), arguments(dtype)
    functional.update_running_statistics(*ours)
    assert len(emulator.launches()) == 1
    update_running_statistics(*theirs)
    for a, b in zip([*ours[0], *ours[1]], [*theirs[0], *theirs[1]], strict=True):
        torch.testing.assert_close(a, b)
    assert [int(n) for n in ours[2]] == [1, 2, 3, 4, 5]


def test_counts_are_optional() -> None:
    args = arguments()
    args[2] = []
    functional.update_running_statistics(*args)


def test_autocast_leaves_it_alone() -> None:
    args, expected = arguments(), arguments()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        functional.update_running_statistics(*args)
    functional.update_running_statistics(*expected)
    for a, b in zip(args[0], expected[0], strict=True):
        assert torch.equal(a, b)


def test_opcheck() -> None:
    torch.library.opcheck(torch.ops.litehrnet_cuda.update_running_statistics.default, tuple(arguments()))


@pytest.mark.parametrize(
    ("index", "value", "message"),
    [
        (0, [], "running_mean: expected 1 to 6 tensors, got 0"),
        (1, [torch.zeros(5)], "running_var: expected 5 tensors, as many as running_mean, got 1"),
        (2, [torch.tensor(0)], "num_batches_tracked: expected 5 tensors"),
        (2, [torch.tensor(0.0)] * 5, r"num_batches_tracked\[0\]: expected one int64"),
        (3, torch.zeros(3, 4), r"statistics: expected shape \[3, 563\], got \[3, 4\]"),
    ],
)
def test_bad_arguments_are_named(index: int, value: Any, message: str) -> None:
    args = arguments()
    args[index] = value
    with pytest.raises(RuntimeError, match=f"update_running_statistics: {message}"):
        functional.update_running_statistics(*args)


def test_what_would_be_written_to_a_copy_is_refused() -> None:
    args = arguments()
    wide: Tensor = torch.zeros(10)
    args[0][0] = wide[::2]
    with pytest.raises(RuntimeError, match=r"running_mean\[0\]: expected a contiguous tensor"):
        functional.update_running_statistics(*args)
