from __future__ import annotations

from typing import Any

import emulated_ops
import pytest
import torch
from torch import Tensor, nn

from litehrnet_cuda import backends
from litehrnet_cuda.backends import select_backend
from litehrnet_cuda.benchmarking import contenders
from litehrnet_cuda.benchmarking.contenders import CONTENDERS, contenders_for, with_statistics
from litehrnet_cuda.benchmarking.runtimes import Unavailable
from litehrnet_cuda.models.litehrnet import LiteHRNet, PoseNetwork, Variant
from litehrnet_cuda.plan import build_plan


@pytest.fixture(autouse=True)
def _no_backend_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(backends.VARIABLE, raising=False)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """Of two stages with a module of two blocks each."""
    torch.manual_seed(0)
    small = PoseNetwork(LiteHRNet(Variant("small", (1, 1), (8, 16, 32))), 17)
    return with_statistics(small, torch.randn(2, 3, 64, 64))


IMAGES = torch.randn(1, 3, 32, 32)


def test_names_are_keys_and_titles_differ() -> None:
    assert all(contender.name == name for name, contender in CONTENDERS.items())
    assert len({contender.title for contender in CONTENDERS.values()}) == len(CONTENDERS)


def test_default_contenders_are_ready_within_seconds() -> None:
    on_cpu = [contender.name for contender in contenders_for("cpu")]
    assert on_cpu == ["eager", "ours", "blocks", "onnxruntime", "openvino"]
    on_gpu = [contender.name for contender in contenders_for("cuda")]
    assert on_gpu == ["eager", "ours", "ours-no-graph", "ours-one-launch", "blocks", "onnxruntime"]
    named = ["tensorrt", "compile-graphs", "eager", "ours-float16"]
    assert [c.name for c in contenders_for("cpu", named)] == ["eager", "ours-float16"]
    assert [c.name for c in contenders_for("cuda", named)] == ["eager", "ours-float16", "compile-graphs", "tensorrt"]


def test_eager_is_plain_pytorch_whatever_is_selected() -> None:
    seen: list[str] = []

    class Spy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(select_backend("cpu"))
            return x

    CONTENDERS["eager"].prepare(Spy(), IMAGES, 1).call(IMAGES)
    assert seen == ["reference"]


def test_ours_says_how_it_runs(network: nn.Module) -> None:
    with backends.use_backend("reference"):
        ready = CONTENDERS["ours"].prepare(network, IMAGES, 1)
        assert ready.details.startswith("reference, module by module: ")
        torch.testing.assert_close(ready.call(IMAGES), network(IMAGES))
        for name in ("ours-bfloat16", "ours-float16"):
            with pytest.raises(Unavailable, match="it does not run as a plan: plain PyTorch is what runs on cpu here"):
                CONTENDERS[name].prepare(network, IMAGES, 1)
        with pytest.raises(Unavailable, match="there are no fused blocks for cpu here"):
            CONTENDERS["blocks"].prepare(network, IMAGES, 1)


def test_on_kernels_blocks_and_plans_are_launched(network: nn.Module) -> None:
    emulator = emulated_ops.load()
    emulator.configure(seed=0)
    with backends.use_backend("emulated"):
        launches = {}
        for name in ("eager", "blocks", "ours"):
            ready = CONTENDERS[name].prepare(network, IMAGES, 1)
            emulator.reset()
            with torch.inference_mode():
                ready.call(IMAGES)
            launches[name] = len(emulator.launches())
    model: Any = network
    assert launches == {"eager": 0, "blocks": 3 * 4, "ours": len(build_plan(model, 32, 32).steps)}


def test_other_networks_are_not_ours() -> None:
    with pytest.raises(Unavailable, match="expected a LiteHRNet, a PoseNetwork or"):
        CONTENDERS["ours"].prepare(nn.Identity(), IMAGES, 1)


def test_a_runtime_that_fails_is_left_out_with_the_reason() -> None:
    def fails(network: nn.Module, images: Tensor, threads: int) -> Any:
        raise NotImplementedError("no Softmax\nand a long trace")

    with pytest.raises(Unavailable, match=r"^NotImplementedError: no Softmax$"):
        contenders._runtime(fails, nn.Identity(), IMAGES, 1)


@pytest.mark.parametrize("fails", [False, True])
def test_compilation_is_of_plain_pytorch_for_one_shape(monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    asked: list[Any] = []

    def compiled(network: nn.Module, **options: Any) -> Any:
        asked.append((select_backend("cpu"), options))
        if fails:
            return lambda images: [][0]
        return network

    monkeypatch.setattr(torch, "compile", compiled)
    monkeypatch.setattr(torch.compiler, "reset", lambda: None)
    if fails:
        with pytest.raises(Unavailable, match="IndexError: list index"):
            CONTENDERS["compile"].prepare(nn.Identity(), IMAGES, 1)
    else:
        assert CONTENDERS["compile-graphs"].prepare(nn.Identity(), IMAGES, 1).call(IMAGES) is IMAGES
    assert asked == [("reference", {"dynamic": False} | ({} if fails else {"mode": "reduce-overhead"}))]


def test_statistics_are_those_of_the_images(network: nn.Module) -> None:
    norm = nn.BatchNorm2d(3)
    images = 5 + 2 * torch.randn(64, 3, 16, 16)
    given = with_statistics(nn.Sequential(norm), images)
    assert not given.training
    assert norm.momentum == 0.1
    assert not any(parameter.requires_grad for parameter in given.parameters())
    torch.testing.assert_close(norm.running_mean, images.mean((0, 2, 3)))
    # So that a difference of outputs means something: values are neither tiny nor all the same.
    heatmaps = network(torch.randn(1, 3, 64, 64))
    assert heatmaps.std() > 1e-4
