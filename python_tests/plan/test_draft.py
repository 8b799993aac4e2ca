from __future__ import annotations

import pytest
import torch

from litehrnet_cuda.plan.channels import Plane
from litehrnet_cuda.plan.draft import Draft, padded


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("pixels", [1, 16, 17, 48, 192, 3072])
def test_planes_are_an_odd_number_of_lines(dtype: torch.dtype, pixels: int) -> None:
    stride = padded(pixels, dtype)
    assert stride >= pixels
    lines, rest = divmod(stride * dtype.itemsize, 64)
    assert rest == 0
    assert lines % 2 == 1
    assert stride * dtype.itemsize - pixels * dtype.itemsize < 128


def test_only_feature_maps_are_padded() -> None:
    draft = Draft(torch.float32)
    for role, stride in (("input", 12), ("map", 16), ("output", 12), ("gates", 12), ("sums", 12), ("factors", 12)):
        draft.allocate("b", 2, (3, 4), role)  # type: ignore[arg-type]
        assert draft.buffers[-1].plane_stride == stride


def test_channels_in_a_given_order() -> None:
    draft = Draft(torch.float32)
    draft.allocate("first", 2, (3, 4))
    x = draft.allocate("second", 3, (3, 4), order=[2, 0, 1])
    assert x.planes == (Plane(1, 1), Plane(1, 2), Plane(1, 0))


def test_pending_gates_are_taken_once() -> None:
    draft = Draft(torch.float32)
    draft.pending.append("gate")  # type: ignore[arg-type]
    assert draft.take_pending() == ("gate",)
    assert draft.take_pending() == ()
