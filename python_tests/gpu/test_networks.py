"""Whole networks on fused blocks on a GPU, against the official code, the reference, and themselves in a CUDA graph."""

from __future__ import annotations

import copy
from typing import Any

import gpu_cases
import pytest
import torch
from network_cases import INDEX, STORED_AS_FLOAT32, build, images
from official_reference import read_tensors, relative_error
from torch import Tensor, nn

from litehrnet_cuda.backends import use_backend
from litehrnet_cuda.models.registry import create_model

pytestmark = pytest.mark.gpu

EVALUATION = [case for case in INDEX["eval"] if case["variant"].startswith("lite")]
SIZE = (256, 192)


@pytest.mark.parametrize("case", EVALUATION, ids=lambda case: case["name"])
def test_evaluation_matches_official(case: dict[str, Any]) -> None:
    model, x = build(case).eval().to(gpu_cases.DEVICE), images(case).to(gpu_cases.DEVICE)
    expected = read_tensors("eval_outputs.safetensors", case["name"])[""]
    with torch.no_grad(), use_backend("cuda"):
        assert relative_error(model(x).cpu(), expected) < STORED_AS_FLOAT32
        # What the package promises of fp32 over a whole network.
        assert relative_error(model.float()(x.float()).cpu(), expected) < 1e-4


def network(name: str = "litehrnet_18", dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    return create_model(name).to(gpu_cases.DEVICE, dtype)


def image(batch: int = 2, dtype: torch.dtype = torch.float32) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(batch, 3, *SIZE).to(gpu_cases.DEVICE, dtype)


def run(model: nn.Module, x: Tensor, backend: str) -> Tensor:
    with torch.no_grad(), use_backend(backend):
        out: Tensor = model(x)
        return out


@pytest.mark.parametrize("name", ["litehrnet_18", "litehrnet_30"])
@pytest.mark.parametrize("batch", [1, 8])
def test_inference_matches_reference(name: str, batch: int) -> None:
    model, x = network(name).eval(), image(batch)
    assert relative_error(run(model, x, "cuda"), run(model, x, "reference")) < 1e-4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_as_close_as_the_reference(dtype: torch.dtype) -> None:
    model, x = network().eval(), image()
    exact = run(copy.deepcopy(model).double(), x.double(), "reference")
    model, x = model.to(dtype), x.to(dtype)
    theirs = relative_error(run(model, x, "reference"), exact)
    assert relative_error(run(model, x, "cuda"), exact) <= 2 * theirs


def training_step(model: nn.Module, x: Tensor, backend: str) -> list[Tensor]:
    """Output, gradients and buffers of one step."""
    model = copy.deepcopy(model).train()
    with use_backend(backend):
        y = model(x)
        (y * torch.linspace(-1, 1, y.numel(), device=y.device, dtype=y.dtype).view_as(y)).sum().backward()
    grads = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return [y.detach(), *grads, *(buffer.detach() for buffer in model.buffers())]


def test_training_step_matches_reference_in_fp64() -> None:
    model, x = network(dtype=torch.float64), image(dtype=torch.float64)
    ours, theirs = (training_step(model, x, backend) for backend in ("cuda", "reference"))
    assert len(ours) == len(theirs)
    largest = max(t.abs().max().item() for t in theirs)
    for a, b in zip(ours, theirs, strict=True):
        # Some thousand additions in another order, through 60 layers that divide by deviations.
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-12 * largest)


def test_two_training_steps_give_the_same_bits() -> None:
    """Of fused blocks; PyTorch's own convolutions are asked for their deterministic kernels."""
    model, x = network(), image(8)
    deterministic, benchmark = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    try:
        first, second = (training_step(model, x, "cuda") for _ in range(2))
    finally:
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = deterministic, benchmark
    gpu_cases.assert_same_bits(first, second)


def test_network_in_a_graph_follows_its_input() -> None:
    model, x = network().eval(), image()
    other = x.flip(0) * 0.7
    expected = [run(model, s, "cuda") for s in (x, other)]
    held = x.clone()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            run(model, held, "cuda")
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        y = run(model, held, "cuda")
    for s, right in ((other, expected[1]), (x, expected[0])):
        held.copy_(s)
        graph.replay()
        torch.cuda.synchronize()
        # cuDNN may choose other kernels inside a capture.
        assert relative_error(y, right) < 1e-5
