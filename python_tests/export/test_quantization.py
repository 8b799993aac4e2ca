from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from export_cases import METADATA, SIZE, small_network

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.export.onnx_file import export_onnx
from litehrnet_cuda.export.quantization import quantized
from litehrnet_cuda.export.shape import InputShape

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

IMAGES = list(torch.randn(4, 1, 3, SIZE[1], SIZE[0], generator=torch.Generator().manual_seed(0)))


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    file = tmp_path_factory.mktemp("int8") / "int8.onnx"
    return file, export_onnx(small_network(), file, METADATA, InputShape(SIZE), calibration=IMAGES)


def test_the_difference_on_calibration_images_is_told(int8: tuple[Path, Any]) -> None:
    file, parity = int8
    assert (parity.limit, parity.is_within) == (None, True)
    assert parity.shapes == [(4, 3, 96, 64)]
    # Of a hundred values and more that 7 or 8 bits are left for, in some thirty layers: visible, and not another image.
    assert 1e-3 < parity.difference < 0.5
    assert file.stat().st_size > 0


def test_pointwise_convolutions_behind_the_stem_are_quantised(int8: tuple[Path, Any]) -> None:
    graph = onnx.load(int8[0]).graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    shapes = {tensor.name: tensor.dims for tensor in graph.initializer}
    from_int8 = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    counts = {"quantised": 0, "kept": 0}
    for node in graph.node:
        if node.op_type != "Conv":
            continue
        weight = from_int8.get(node.input[1])
        if weight is None:
            counts["kept"] += 1
            name = node.input[1]
            depthwise = shapes[name][1] == 1
            assert depthwise or ".stem." in name or "keypoint_head" in name
            continue
        counts["quantised"] += 1
        assert types[weight] == onnx.TensorProto.INT8
        assert ".stem." not in weight
        assert shapes[weight][2:] == [1, 1]
        scales = next(n.input[1] for n in graph.node if n.output[0] == node.input[1])
        assert shapes[scales] == [shapes[weight][0]]  # a scale for each channel
    assert min(counts.values()) > 5


def test_no_image_is_said(onnx_file: Path) -> None:
    with pytest.raises(InputError, match="calibration: expected images, got none"):
        quantized(onnx.load(onnx_file), [])
