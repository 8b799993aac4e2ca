"""Networks in other runtimes: each function makes one ready and returns what is called with images.

All get the network from the same ONNX file, which `torch.export` and onnxscript write, for exactly the shape of the
images. They compute in the images' type, with the number of threads that all have.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from litehrnet_cuda.export import onnx_file as export
from litehrnet_cuda.export.shape import InputShape
from litehrnet_cuda.predictors.onnx_network import INPUT

OUTPUT = "heatmaps"


class Unavailable(Exception):
    """Why something cannot be run here, in one clause."""


def module(name: str) -> Any:
    """A package that need not be installed.

    Raises:
        Unavailable: if it is not, or cannot be imported.
    """
    if importlib.util.find_spec(name) is None:
        raise Unavailable("not installed")
    try:
        return importlib.import_module(name)
    except Exception as error:  # a package for another system may raise anything
        raise Unavailable(f"{name} cannot be imported: {error}") from None


@functools.lru_cache(maxsize=4)
def onnx_model(network: nn.Module, height: int, width: int, dtype: torch.dtype, device: torch.device) -> bytes:
    """A network for images of this size, any number of them, as an ONNX file; the last few are kept.

    Args:
        network: in evaluation mode. It must not change between calls.

    Raises:
        Unavailable: without onnxscript, which torch's exporter needs.
    """
    module("onnxscript")
    model = export.onnx_model(network, InputShape((width, height)), [OUTPUT], dtype=dtype, device=device)
    content: bytes = model.SerializeToString()
    return content


def onnx_runtime(network: nn.Module, images: Tensor, threads: int) -> Callable[[Tensor], Tensor]:
    """ONNX Runtime, on a GPU through its CUDA provider, without copies to or from the host."""
    ort = module("onnxruntime")
    provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}[images.device.type]
    if provider not in ort.get_available_providers():
        raise Unavailable(f"this onnxruntime has no {provider}")
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_free_dimension_override_by_name("batch", len(images))
    options.log_severity_level = 3
    session = ort.InferenceSession(_onnx_model_of(network, images), options, providers=[provider])

    if images.device.type == "cpu":

        def call(images: Tensor) -> Tensor:
            return torch.from_numpy(session.run(None, {INPUT: images.numpy()})[0])

        return call

    shape, index = _output_shape(network, images), images.device.index or 0
    output = torch.empty(shape, dtype=images.dtype, device=images.device)
    element = {torch.float32: "float32", torch.float16: "float16"}[images.dtype]
    binding = session.io_binding()
    binding.bind_output(OUTPUT, "cuda", index, element, shape, output.data_ptr())

    def call_on_gpu(images: Tensor) -> Tensor:
        binding.bind_input(INPUT, "cuda", index, element, list(images.shape), images.data_ptr())
        session.run_with_iobinding(binding)
        return output

    return call_on_gpu


def openvino(network: nn.Module, images: Tensor, threads: int) -> Callable[[Tensor], Tensor]:
    """OpenVINO on the CPU, one request at a time, in the images' type: by default it may round to 16 bits."""
    ov = module("openvino")
    precision = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}[images.dtype]
    core = ov.Core()
    graph = core.read_model(model=_onnx_model_of(network, images))
    graph.reshape(list(images.shape))
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
        "ENABLE_CPU_PINNING": False,  # nobody else is bound to cores
    }
    request = core.compile_model(graph, "CPU", settings).create_infer_request()

    def call(images: Tensor) -> Tensor:
        return torch.from_numpy(request.infer([images.numpy()], share_inputs=True)[0])

    return call


def tensorrt(network: nn.Module, images: Tensor, threads: int) -> Callable[[Tensor], Tensor]:
    """TensorRT on a GPU, from tensors to tensors there. Nobody of this project has run it yet."""
    trt = module("tensorrt")
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    definition = builder.create_network()
    parser = trt.OnnxParser(definition, logger)
    if not parser.parse(_onnx_model_of(network, images)):
        raise Unavailable(f"TensorRT's parser refused the ONNX file: {parser.get_error(0)}")
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    profile.set_shape(INPUT, *(tuple(images.shape) for _ in range(3)))
    config.add_optimization_profile(profile)
    engine = trt.Runtime(logger).deserialize_cuda_engine(builder.build_serialized_network(definition, config))
    context = engine.create_execution_context()
    context.set_input_shape(INPUT, tuple(images.shape))
    output = torch.empty(_output_shape(network, images), dtype=images.dtype, device=images.device)
    context.set_tensor_address(OUTPUT, output.data_ptr())

    def call(images: Tensor) -> Tensor:
        context.set_tensor_address(INPUT, images.data_ptr())
        context.execute_async_v3(torch.cuda.current_stream(images.device).cuda_stream)
        return output

    return call


def _onnx_model_of(network: nn.Module, images: Tensor) -> bytes:
    return onnx_model(network, images.shape[2], images.shape[3], images.dtype, images.device)


def _output_shape(network: nn.Module, images: Tensor) -> list[int]:
    with torch.no_grad():
        return list(network(images).shape)
