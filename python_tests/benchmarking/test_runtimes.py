"""What is asked of other runtimes, by fakes that record it; and the real ones where they are installed."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from litehrnet_cuda.benchmarking import runtimes
from litehrnet_cuda.benchmarking.runtimes import Unavailable
from litehrnet_cuda.export.shape import InputShape
from litehrnet_cuda.models.litehrnet import LiteHRNet, PoseNetwork, Variant

IMAGES = torch.randn(3, 3, 64, 40)


def doubles(images: Any) -> Any:
    return 2 * np.asarray(images)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "onnx_model", lambda network, height, width, dtype, device: b"model")


def provide(monkeypatch: pytest.MonkeyPatch, **modules: Any) -> None:
    monkeypatch.setattr(runtimes, "module", lambda name: modules[name])


def test_what_is_not_installed_is_said() -> None:
    with pytest.raises(Unavailable, match=r"^not installed$"):
        runtimes.module("no_such_package_at_all")
    assert runtimes.module("json").__name__ == "json"


def test_what_cannot_be_imported_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(name: str) -> Any:
        raise OSError("libx.so: no such file")

    monkeypatch.setattr(runtimes.importlib, "import_module", fails)
    with pytest.raises(Unavailable, match=r"json cannot be imported: libx\.so: no such file"):
        runtimes.module("json")


class Options(SimpleNamespace):
    def add_free_dimension_override_by_name(self, name: str, value: int) -> None:
        self.dimensions = {name: value}


@pytest.mark.usefixtures("model")
def test_onnx_runtime_gets_threads_and_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions: list[Any] = []

    def session(model: bytes, options: Options, providers: list[str]) -> Any:
        sessions.append((model, options, providers))
        return SimpleNamespace(run=lambda names, inputs: [doubles(inputs[runtimes.INPUT])])

    ort = SimpleNamespace(
        get_available_providers=lambda: ["CPUExecutionProvider"], SessionOptions=Options, InferenceSession=session
    )
    provide(monkeypatch, onnxruntime=ort)
    call = runtimes.onnx_runtime(nn.Identity(), IMAGES, 2)
    torch.testing.assert_close(call(IMAGES), 2 * IMAGES)
    ((content, options, providers),) = sessions
    assert (content, providers) == (b"model", ["CPUExecutionProvider"])
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
    assert options.dimensions == {"batch": 3}
    ort.get_available_providers = list
    with pytest.raises(Unavailable, match="this onnxruntime has no CPUExecutionProvider"):
        runtimes.onnx_runtime(nn.Identity(), IMAGES, 2)


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize(("dtype", "hint"), [(torch.float32, "f32"), (torch.float16, "f16")])
def test_openvino_gets_threads_shape_and_precision(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, hint: str
) -> None:
    asked: dict[str, Any] = {}

    class Core:
        def read_model(self, model: bytes) -> Any:
            return SimpleNamespace(reshape=lambda shape: asked.update(model=model, shape=shape))

        def compile_model(self, graph: Any, device: str, settings: dict[str, Any]) -> Any:
            asked.update(settings, device=device)
            request = SimpleNamespace(infer=lambda inputs, share_inputs: [doubles(inputs[0])])
            return SimpleNamespace(create_infer_request=lambda: request)

    provide(monkeypatch, openvino=SimpleNamespace(Core=Core))
    call = runtimes.openvino(nn.Identity(), IMAGES.to(dtype), 2)
    torch.testing.assert_close(call(IMAGES), 2 * IMAGES)
    assert (asked["model"], asked["shape"], asked["device"]) == (b"model", [3, 3, 64, 40], "CPU")
    assert (asked["INFERENCE_NUM_THREADS"], asked["NUM_STREAMS"]) == (2, 1)
    assert asked["INFERENCE_PRECISION_HINT"] == hint


def test_export_needs_onnxscript(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise Unavailable("not installed")

    monkeypatch.setattr(runtimes, "module", missing)
    with pytest.raises(Unavailable, match="not installed"):
        runtimes.onnx_model(nn.Identity(), 32, 32, torch.float32, torch.device("cpu"))


def test_a_model_is_exported_once_for_all_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    exports: list[Any] = []

    def onnx_model(network: nn.Module, *arguments: Any, **options: Any) -> Any:
        exports.append((*arguments, options))
        return SimpleNamespace(SerializeToString=lambda: b"content")

    monkeypatch.setattr(runtimes, "module", lambda name: None)
    monkeypatch.setattr(runtimes.export, "onnx_model", onnx_model)
    network, dtype, device = nn.Identity(), torch.float32, torch.device("cpu")
    for _ in range(2):
        assert runtimes.onnx_model(network, 32, 64, dtype, device) == b"content"
    assert exports == [(InputShape((64, 32)), [runtimes.OUTPUT], {"dtype": dtype, "device": device})]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "prepare"), [("onnxruntime", runtimes.onnx_runtime), ("openvino", runtimes.openvino)]
)
@pytest.mark.parametrize("shape", [(1, 3, 64, 64), (3, 3, 70, 50)])
def test_real_runtimes_compute_the_network(
    package: str, prepare: Callable[..., Callable[[Tensor], Tensor]], shape: tuple[int, ...]
) -> None:
    for name in (package, "onnxscript"):
        pytest.importorskip(name)
    from litehrnet_cuda.benchmarking.contenders import with_statistics

    torch.manual_seed(0)
    images = torch.randn(shape)
    network = PoseNetwork(LiteHRNet(Variant("small", (1, 1), (8, 16, 32))), 17)
    with_statistics(network, torch.randn(2, *shape[1:]))
    expected = network(images)
    output = prepare(network, images, 1)(images)
    # Sums of at most a few hundred products in another order, in some 40 layers.
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
