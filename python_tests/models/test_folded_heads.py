"""Folded heads do what heads do in evaluation mode.

Tolerances are of max|output|, as for plans (plan/test_reference.py): the products and sums are those of the head, in
another order.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from official_reference import relative_error
from torch import Tensor, nn

from litehrnet_cuda.models.folded_heads import fold_head
from litehrnet_cuda.models.heads import FCNHead, ResizeConcatHead

CHANNELS = (6, 6, 8, 10)
SIZES = [((16, 12), (8, 6), (4, 3), (2, 2)), ((13, 18), (7, 9), (4, 5), (2, 3)), ((8, 9), (4, 5), (2, 3), (1, 2))]
TOLERANCE = {torch.float64: 1e-14, torch.float32: 6e-6, torch.float16: 1e-2, torch.bfloat16: 8e-2}


def learnt(head: nn.Module) -> Any:
    """In fp64, with batch norms as after some training."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in head.double().state_dict().items():
        if tensor.dim() == 1:
            drawn = torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype)
            tensor.copy_(drawn + 0.5 if name.endswith(("var", "bn.weight")) else drawn - 0.5)
    return head.eval()


def branches(sizes: tuple[tuple[int, int], ...], dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(2, c, *size, generator=generator).to(dtype) for c, size in zip(CHANNELS, sizes, strict=True)]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_fcn_head(sizes: tuple[tuple[int, int], ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    head, x = learnt(FCNHead(6, 4)), branches(sizes, dtype)
    with torch.no_grad():
        expected = head(x[0].double())
        found = fold_head(head, torch.device("cpu"), dtype)(x[:1])
    assert found.dtype == dtype
    assert relative_error(found, expected) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_resize_concat_head(sizes: tuple[tuple[int, int], ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    head, x = learnt(ResizeConcatHead(CHANNELS, 3)), branches(sizes, dtype)
    with torch.no_grad():
        expected = head([branch.double() for branch in x])
        found = fold_head(head, torch.device("cpu"), dtype)(x)
    assert found.dtype == dtype
    assert relative_error(found, expected) < TOLERANCE[dtype]


def test_the_backbones_outputs_and_the_head_stay_as_they_are() -> None:
    torch.manual_seed(0)
    for head in (learnt(FCNHead(6, 4)), learnt(ResizeConcatHead(CHANNELS, 3))):
        x = branches(SIZES[0], torch.float64)
        x = x[:1] if isinstance(head, FCNHead) else x
        before, state = copy.deepcopy(x), copy.deepcopy(head.state_dict())
        folded = fold_head(head, torch.device("cpu"), torch.float64)
        with torch.no_grad():
            first = folded(x)
            assert all(torch.equal(a, b) for a, b in zip(x, before, strict=True))
            assert all(torch.equal(value, state[name]) for name, value in head.state_dict().items())
            for parameter in head.parameters():
                parameter.zero_()  # weights were copied
            assert torch.equal(folded(x), first)
