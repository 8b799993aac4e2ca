"""These tests run where there is a GPU with the kernels for it; `make gpu-check` runs them all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from litehrnet_cuda import backends


@pytest.fixture(autouse=True)
def exact_gpu(request: pytest.FixtureRequest) -> Iterator[None]:
    """Skips without a GPU, or the module's BACKEND on it, by default our kernels.

    PyTorch's own convolutions and products get all bits of fp32, for comparisons.
    """
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    availability = backends.backends()[getattr(request.module, "BACKEND", "cuda")]
    if not availability.ok:
        pytest.skip(f"needs the kernels: {availability.reason}")
    convolutions, products = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = convolutions, products
    torch.cuda.synchronize()
