from __future__ import annotations

import re
from typing import Any

import pytest
import torch

pytest.importorskip("triton", reason="needs triton, which the `test` extra installs on Linux")

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.triton import checks


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors of the CPU are right, as under Triton's interpreter."""
    monkeypatch.setattr(checks, "is_interpreted", lambda: True)


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        ([], "x: expected 1 to 4 branches, got 0"),
        ([(2, 4, 4, 4)] * 5, "x: expected 1 to 4 branches, got 5"),
        ([(2, 4, 4)], "x[0]: expected shape [N, C, H, W], got [2, 4, 4]"),
        ([(2, 4, 8, 8), (3, 6, 4, 4)], "x[1]: expected batch size 2 as x[0] has, got 3"),
        ([(2, 4, 8, 8), (2, 6, 4, 0)], "x[1]: expected C, H and W of at least 1, got [2, 6, 4, 0]"),
        ([(1, 1, 1, 2**15)], "x[0]: expected C, H and W of at most 32767, got [1, 1, 1, 32768]"),
    ],
    ids=["none", "five", "three axes", "batch", "empty", "large"],
)
def test_bad_branches_are_named(maps: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"op: {message}")):
        checks.check_branches("op", [torch.zeros(shape) for shape in maps])


def test_dtypes_and_devices_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.zeros(1, 2, 3, 3)
    with pytest.raises(InputError, match=r"x: expected float32, float16, bfloat16 or float64, got torch\.int32"):
        checks.check_branches("op", [x.int()])
    with pytest.raises(InputError, match=r"x\[1\]: expected the dtype of x\[0\], torch.float32, got torch.float16"):
        checks.check_branches("op", [x, x.half()])
    with pytest.raises(InputError, match=r"x\[1\]: expected the device of x\[0\], cpu, got meta"):
        checks.check_branches("op", [x, x.to("meta")])
    monkeypatch.setattr(checks, "is_interpreted", lambda: False)
    with pytest.raises(InputError, match="x: expected tensors on cuda, got one on cpu"):
        checks.check_branches("op", [x])


@pytest.mark.parametrize(
    ("index", "value", "message"),
    [
        (0, torch.zeros(5, 11), "weight1: expected shape [5, 10], got [5, 11]"),
        (0, torch.zeros(10), "weight1: expected shape [R, 10], got [10]"),
        (1, torch.zeros(4), "bias1: expected shape [5], got [4]"),
        (2, torch.zeros(5, 10), "weight2: expected shape [10, 5], got [5, 10]"),
        (3, torch.zeros(10).double(), "bias2: expected the dtype of x[0], torch.float32, got torch.float64"),
    ],
)
def test_bad_matrices_are_named(index: int, value: torch.Tensor, message: str) -> None:
    matrices = [torch.zeros(5, 10), torch.zeros(5), torch.zeros(10, 5), torch.zeros(10)]
    x: list[Any] = [torch.zeros(1, 4, 2, 2), torch.zeros(1, 6, 1, 1)]
    checks.check_weighting("op", x, [4, 6], matrices)
    matrices[index] = value
    with pytest.raises(InputError, match=re.escape(f"op: {message}")):
        checks.check_weighting("op", x, [4, 6], matrices)


def test_one_parameter_for_each_branch() -> None:
    checks.check_count("op", "bias", [torch.zeros(1)], 1)
    with pytest.raises(InputError, match="op: bias: expected 2 tensors, one per branch, got 1"):
        checks.check_count("op", "bias", [torch.zeros(1)], 2)


def test_gradients_are_refused_while_they_are_recorded() -> None:
    tensor = torch.zeros(1, requires_grad=True)
    with pytest.raises(InputError, match=r"op: expected no tensor that requires a gradient, .* torch.no_grad\(\)"):
        checks.check_inference("op", [torch.zeros(1), tensor])
    with torch.no_grad():
        checks.check_inference("op", [tensor])
