"""Whole networks as plans on a GPU, against the official code and the reference, and where they are used."""

from __future__ import annotations

import copy
from typing import Any

import gpu_cases
import numpy as np
import pytest
import torch
from gpu_cases import assert_same_bits
from network_cases import INDEX, build, images
from official_reference import read_tensors, relative_error
from plan_cases import SIZES, UNUSUAL, backbone_of, pose_network
from torch import Tensor

from litehrnet_cuda import PoseEstimator, optimize_for_inference
from litehrnet_cuda.backends import use_backend
from litehrnet_cuda.inference import Execution, LiveNetwork
from litehrnet_cuda.models.litehrnet import VARIANTS, PoseNetwork

pytestmark = pytest.mark.gpu

PLANNED = Execution("cuda", True)
# What the package promises of fp32 over a whole network. Half types round only what is stored: plan/test_reference.py
# says what that comes to. fp64 is for comparisons: some thousand additions in another order.
TOLERANCE = {torch.float64: 1e-13, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 8e-2}


def noise(batch: int, size: tuple[int, int], dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, 3, *size, generator=generator).to(gpu_cases.DEVICE, dtype)


def truth(model: Any, x: Tensor) -> Any:
    """The model's own results in fp64, on the GPU."""
    with torch.no_grad(), use_backend("reference"):
        return copy.deepcopy(model).double().eval().to(x.device)(x.double())


@pytest.mark.parametrize("case", INDEX["eval"], ids=lambda case: case["name"])
def test_matches_official(case: dict[str, Any]) -> None:
    model, x = build(case).to(gpu_cases.DEVICE), images(case).to(gpu_cases.DEVICE)
    fast = optimize_for_inference(model, dtype=torch.float32)
    assert fast.backend_for(x) == PLANNED
    expected = read_tensors("eval_outputs.safetensors", case["name"])[""]
    assert relative_error(fast(x).cpu(), expected) < 1e-4


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", VARIANTS)
def test_matches_reference(name: str, size: tuple[int, int], dtype: torch.dtype) -> None:
    model, x = pose_network(name), noise(2, size, dtype)
    fast = optimize_for_inference(model, dtype=dtype)
    assert fast.backend_for(x) == PLANNED
    for _ in range(2):  # without a graph, and with one
        assert relative_error(fast(x), truth(model, x)) < TOLERANCE[dtype]


@pytest.mark.parametrize("batch", [1, 5, 16, 64])
def test_batch_sizes(batch: int) -> None:
    model, x = pose_network("litehrnet_18"), noise(batch, (256, 192))
    assert relative_error(optimize_for_inference(model, dtype=torch.float32)(x), truth(model, x)) < 1e-4


@pytest.mark.parametrize("options", [{"branches": "all"}, {"branches": "all", "with_head": False}, {}], ids=str)
def test_backbones(options: dict[str, Any]) -> None:
    model, x = backbone_of("litehrnet_18", **options), noise(2, (50, 71))
    found, expected = optimize_for_inference(model, dtype=torch.float32)(x), truth(model, x)
    assert isinstance(found, list) is isinstance(expected, list) is bool(options)
    for y, one in zip(found, expected, strict=True):
        assert relative_error(y, one) < 1e-4


@pytest.mark.parametrize("variant", UNUSUAL, ids=lambda variant: variant.name)
def test_unusual_networks(variant: Any) -> None:
    model, x = pose_network(variant), noise(2, (96, 64))
    fast = optimize_for_inference(model, dtype=torch.float32)
    # Kernels take four branches.
    assert fast.backend_for(x).is_planned is (variant.name != "five_branches")
    assert relative_error(fast(x), truth(model, x)) < 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_all_ways_give_the_same_bits(dtype: torch.dtype) -> None:
    model, x = pose_network("litehrnet_18"), noise(3, (256, 192), dtype)
    graphs, launches = (optimize_for_inference(model, dtype=dtype, cuda_graphs=on) for on in (True, False))
    assert_same_bits([f(x) for f in (graphs, graphs, graphs, launches)], [launches(x)] * 4)


def test_images_go_where_they_are() -> None:
    model = copy.deepcopy(pose_network("litehrnet_18")).float()
    fast = optimize_for_inference(model)  # on the CPU
    x = noise(2, (64, 48))
    assert fast.backend_for(x) == PLANNED
    assert fast(x).device == x.device
    assert fast(x.cpu()).device.type == "cpu"
    assert relative_error(fast(x).cpu(), fast(x.cpu())) < 1e-4


def test_plain_pytorch_can_be_asked_for() -> None:
    model = copy.deepcopy(pose_network("litehrnet_18")).float().to(gpu_cases.DEVICE)
    fast, x = optimize_for_inference(model), noise(2, (64, 48))
    with use_backend("reference"):
        assert fast.backend_for(x).backend == "reference"
        assert relative_error(fast(x), truth(model, x)) < 1e-4


def test_a_live_network_follows_its_training() -> None:
    model: PoseNetwork = copy.deepcopy(pose_network("litehrnet_18")).float().to(gpu_cases.DEVICE)
    live, x = LiveNetwork(model), noise(4, (64, 64))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    before = live(x)
    for _ in range(2):
        model.train()(x).square().sum().backward()
        optimizer.step()
        for _ in range(2):
            assert relative_error(live(x), truth(model, x)) < 1e-4
        assert live.backend_for(x) == PLANNED
    assert relative_error(live(x), before) > 1e-3


@pytest.mark.parametrize("flip_test", [False, True])
def test_estimator_scores_as_on_the_cpu(flip_test: bool) -> None:
    network = copy.deepcopy(pose_network("litehrnet_18", 17)).float()
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    boxes = [[10, 12, 60, 110], [50, 5, 120, 100], [-8, 20, 90, 130]]
    options: dict[str, Any] = {"input_size": (96, 128), "flip_test": flip_test}
    expected = PoseEstimator(network, device="cpu", **options)(image, boxes).scores
    estimator = PoseEstimator(network, device=gpu_cases.DEVICE, **options)
    for _ in range(2):
        # Of the largest value; scores are largest values.
        np.testing.assert_allclose(estimator(image, boxes).scores, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("name", "size", "batch"), [("litehrnet_18", (256, 192), 1), ("litehrnet_30", (50, 71), 64)])
def test_one_launch_matches_the_plan(name: str, size: tuple[int, int], batch: int, dtype: torch.dtype) -> None:
    model, x = pose_network(name), noise(batch, size, dtype)
    one, plan = (optimize_for_inference(model, dtype=dtype, persistent=persistent) for persistent in (True, False))
    assert one.backend_for(x) == PLANNED
    assert relative_error(one(x), plan(x).double()) < TOLERANCE[dtype]
    assert_same_bits([one(x)], [one(x)])


def test_one_launch_is_not_recorded() -> None:
    one, x = (
        optimize_for_inference(pose_network("litehrnet_18"), dtype=torch.float32, persistent=True),
        noise(1, (64, 64)),
    )
    one(x)
    with (
        pytest.raises(RuntimeError, match="the one launch could not be started"),
        torch.cuda.graph(torch.cuda.CUDAGraph()),
    ):
        one(x)
