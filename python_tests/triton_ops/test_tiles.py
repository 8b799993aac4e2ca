from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton", reason="needs triton, which the `test` extra installs on Linux")

from litehrnet_cuda.triton.tiles import power_of_two, strides, with_narrow_planes


def test_powers_of_two() -> None:
    assert [power_of_two(number) for number in (1, 2, 3, 4, 5, 37, 64, 65)] == [1, 2, 4, 4, 8, 64, 64, 128]


def test_strides_are_those_of_the_axes() -> None:
    assert strides(torch.zeros(2, 3, 5, 7)) == (105, 35, 7, 1)
    assert strides(torch.zeros(1, 3, 5, 7).expand(4, 3, 5, 7)) == (0, 35, 7, 1)


def test_only_offsets_beyond_32_bits_cost_a_copy() -> None:
    x = torch.zeros(2, 3, 5, 7).contiguous(memory_format=torch.channels_last)
    assert with_narrow_planes(x) is x
    far = torch.empty(1, 3, 5, 7, device="meta").as_strided((1, 3, 5, 7), (0, 1, 2**29, 1))
    assert with_narrow_planes(far).stride() == (105, 35, 7, 1)
    assert with_narrow_planes(far[:, :, :4, :7]).stride(2) == 2**29
