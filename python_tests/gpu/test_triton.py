"""Triton's ops on a GPU, beside or in place of our kernels: results, determinism, graphs, whole networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from gpu_cases import DEVICE, assert_same_bits, copies, copy_into, gpu_op
from official_reference import relative_error
from op_cases import LAYOUTS, SIZES, assert_close_to_reference, memory_format_of
from torch import Tensor

from litehrnet_cuda.backends import use_backend
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.models.registry import create_model

pytestmark = pytest.mark.gpu

BACKEND = "triton"
NAMES = pytest.mark.parametrize("name", ["conditional_channel_weighting", "cross_resolution_weighting"])


def triton_op(name: str) -> Callable[..., list[Tensor]]:
    import litehrnet_cuda.triton

    op: Callable[..., list[Tensor]] = getattr(litehrnet_cuda.triton, name)
    return op


@NAMES
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("sizes", [*(name for name in SIZES if not name.startswith("width_")), "stage4"])
def test_results_match_reference(name: str, sizes: str, dtype: torch.dtype) -> None:
    case = gpu_op(name)
    assert_close_to_reference(triton_op(name), case.reference, case.arguments(sizes, torch.float64), dtype)


@NAMES
@pytest.mark.parametrize("batch", [1, 2, 16, 64])
def test_batch_sizes(name: str, batch: int) -> None:
    """The positions of a program change with the batch size; the result must not."""
    case = gpu_op(name)
    args = case.arguments("stage4", torch.float64, batch)
    assert_close_to_reference(triton_op(name), case.reference, args, torch.float32)


@NAMES
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(name: str, layout: str) -> None:
    args = gpu_op(name).arguments("three_exact", torch.float16)
    changed = [LAYOUTS[layout](x.cpu()).to(DEVICE) if layout == "misaligned" else LAYOUTS[layout](x) for x in args[0]]
    results = triton_op(name)(changed, *args[1:])
    assert_same_bits(results, triton_op(name)([x.contiguous() for x in changed], *args[1:]))
    for y, x in zip(results, changed, strict=True):
        assert y.is_contiguous(memory_format=memory_format_of(x))


@NAMES
@pytest.mark.parametrize("batch", [1, 64])
def test_two_runs_give_the_same_bits(name: str, batch: int) -> None:
    args = gpu_op(name).arguments("stage4", batch=batch)
    first = triton_op(name)(*args)
    for _ in range(3):
        assert_same_bits(triton_op(name)(*args), first)


@NAMES
def test_replayed_graph_follows_its_arguments(name: str) -> None:
    args: list[Any] = gpu_op(name).arguments("stage4")
    held, others = copies(args), [[x.flip(0) * 0.7 for x in args[0]], *args[1:]]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        triton_op(name)(*held)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = triton_op(name)(*held)
    copy_into(held, others)
    graph.replay()
    assert_same_bits(results, triton_op(name)(*others))


@NAMES
def test_a_tensor_on_the_cpu_is_refused(name: str) -> None:
    args = gpu_op(name).arguments("two_exact", device="cpu")
    with pytest.raises(InputError, match=f"{name}: x: expected tensors on cuda, got one on cpu"):
        triton_op(name)(*args)


@pytest.mark.parametrize("batch", [1, 8])
def test_networks_match_reference(batch: int) -> None:
    torch.manual_seed(0)
    model, x = create_model("litehrnet_18").eval().to(DEVICE), torch.randn(batch, 3, 256, 192, device=DEVICE)
    results = []
    for backend in ("triton", "reference"):
        with torch.no_grad(), use_backend(backend):
            results.append(model(x))
    assert relative_error(*results) < 1e-4  # what the package promises of fp32 over a whole network
