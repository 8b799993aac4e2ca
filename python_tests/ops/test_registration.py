from __future__ import annotations

from pathlib import Path

import pytest
import torch

from litehrnet_cuda import _extension
from litehrnet_cuda.ops.registration import empty_like_map, register


def test_without_the_library_the_op_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_extension, "load", lambda: _extension.Loaded(Path("_C.so"), "not built: no compiler"))
    op = register("depthwise_conv", lambda x: x)
    with pytest.raises(
        RuntimeError, match=r"depthwise_conv: the native library .* is needed, but not built: no compiler"
    ):
        op([torch.zeros(1, 1, 1, 1)])


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 1, 4, 5), (1, 3, 1, 1), (2, 1, 1, 1)])
def test_empty_like_map_keeps_the_memory_format(shape: tuple[int, ...]) -> None:
    x = torch.zeros(shape)
    assert empty_like_map(x, 6).is_contiguous()
    last = x.contiguous(memory_format=torch.channels_last)
    y = empty_like_map(last, 6)
    assert y.shape == (shape[0], 6, *shape[2:])
    expected = torch.contiguous_format if last.is_contiguous() else torch.channels_last
    assert y.is_contiguous(memory_format=expected)
