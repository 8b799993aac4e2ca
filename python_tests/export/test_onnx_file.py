"""Files that are written, run by ONNX Runtime and by OpenVINO."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from export_cases import METADATA, OF_CLASSES, SIZE, small_network, small_segmentation
from torch import Tensor, nn

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.export import onnx_file as onnx_module
from litehrnet_cuda.export.onnx_file import export_onnx, require_packages
from litehrnet_cuda.export.parity import LIMIT, ParityError
from litehrnet_cuda.export.shape import InputShape
from litehrnet_cuda.models.checkpoints import CheckpointMetadata
from litehrnet_cuda.predictors.onnx_network import OnnxNetwork
from litehrnet_cuda.predictors.pixel_classes import class_labels

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def dimensions(value: Any) -> list[str | int]:
    return [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]


def normalised(count: int, size: tuple[int, int] = SIZE) -> Tensor:
    return torch.randn(count, 3, size[1], size[0], generator=torch.Generator().manual_seed(count))


def test_a_file_says_what_it_takes_and_what_it_is(onnx_file: Path) -> None:
    model = onnx.load(onnx_file)
    (images,), (heatmaps,) = model.graph.input, model.graph.output
    assert (images.name, dimensions(images)) == ("images", ["batch", 3, 96, 64])
    assert (heatmaps.name, dimensions(heatmaps)) == ("heatmaps", ["batch", 17, 24, 16])
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert CheckpointMetadata.from_json(properties["litehrnet_cuda"]) == METADATA
    assert json.loads(properties["litehrnet_cuda"])["mean"] == [0.485, 0.456, 0.406]
    assert properties["decoder"] == ""


def test_a_file_tells_nothing_about_where_it_was_made(onnx_file: Path) -> None:
    content = onnx_file.read_bytes()
    assert str(Path(__file__).parents[2]).encode() not in content
    assert b"site-packages" not in content
    weights = sum(4 * parameter.numel() for parameter in small_network().parameters())
    assert len(content) < 2 * weights + 200_000  # the graph itself, and shapes


def test_batch_norms_are_folded(onnx_file: Path) -> None:
    kinds = [node.op_type for node in onnx.load(onnx_file).graph.node]
    assert "BatchNormalization" not in kinds
    convolutions = sum(isinstance(part, nn.Conv2d) for part in small_network().modules())
    assert kinds.count("Conv") == convolutions


@pytest.mark.parametrize("count", [1, 7])
def test_openvino_computes_the_network(onnx_file: Path, count: int) -> None:
    ov = pytest.importorskip("openvino")
    core = ov.Core()
    compiled = core.compile_model(core.read_model(onnx_file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    images = normalised(count)
    found = torch.from_numpy(compiled([images.numpy()])[0])
    expected = small_network()(images)
    torch.testing.assert_close(found, expected, rtol=0, atol=LIMIT * float(expected.abs().max()))


def test_a_free_size_is_free(tmp_path: Path) -> None:
    file, network = tmp_path / "free.onnx", small_network()
    parity = export_onnx(network, file, METADATA, InputShape(SIZE, free_size=True))
    assert len({shape[2:] for shape in parity.shapes}) > 1
    assert dimensions(onnx.load(file).graph.input[0]) == ["batch", 3, "height", "width"]
    session = ort.InferenceSession(file)
    for size in ((32, 32), (256, 32), (128, 192)):  # others than the export itself has tried
        images = normalised(2, size)
        found, expected = torch.from_numpy(session.run(None, {"images": images.numpy()})[0]), network(images)
        torch.testing.assert_close(found, expected, rtol=0, atol=LIMIT * float(expected.abs().max()))


@pytest.mark.parametrize(("decoder", "size"), [("quarter", (50, 70)), ("dark", SIZE), ("udp", SIZE)])
def test_key_points_are_decoded_inside(decoder: Any, size: tuple[int, int], tmp_path: Path) -> None:
    file = tmp_path / "keypoints.onnx"
    parity = export_onnx(small_network(), file, METADATA, InputShape(size, batch=2), decoder=decoder)
    assert parity.keypoints is not None
    model = onnx.load(file)
    assert [output.name for output in model.graph.output] == ["keypoints", "heatmaps"]
    assert dimensions(model.graph.output[0]) == [2, 17, 3]
    assert {entry.key: entry.value for entry in model.metadata_props}["decoder"] == decoder


def test_half_precision_keeps_float32_outside(tmp_path: Path, onnx_file: Path) -> None:
    file = tmp_path / "half.onnx"
    parity = export_onnx(small_network(), file, METADATA, InputShape(SIZE, batch=1), half=True)
    assert parity.limit is not None
    assert parity.limit > LIMIT
    model = onnx.load(file)
    assert {value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)} == {1}
    assert file.stat().st_size < 0.8 * onnx_file.stat().st_size


def test_what_differs_is_not_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = small_network()
    nn.init.normal_(other.keypoint_head.final_layer.bias)
    monkeypatch.setattr(onnx_module, "ExportedNetwork", lambda network, *_, **__: other)
    file = tmp_path / "out" / "model.onnx"
    with pytest.raises(ParityError, match=r"^model\.onnx is not what PyTorch computes, and nothing was written: "):
        export_onnx(small_network(), file, METADATA, InputShape(SIZE, batch=1))
    assert list(file.parent.iterdir()) == []


@pytest.mark.parametrize("with_head", [True, False])
@pytest.mark.parametrize("head", ["fcn", "resize_concat"])
def test_segmentation_networks_give_logits(head: Any, with_head: bool, tmp_path: Path) -> None:
    network, metadata = small_segmentation(head, with_head=with_head), replace(OF_CLASSES, head=head)
    file = tmp_path / "classes.onnx"
    export_onnx(network, file, metadata, InputShape(SIZE, free_size=True))
    (logits,) = onnx.load(file).graph.output
    assert (logits.name, dimensions(logits)[:2]) == ("logits", ["batch", 2])
    assert OnnxNetwork(file).metadata == metadata
    images = normalised(3, (128, 32))
    expected = network(images)
    atol = LIMIT * float(expected.abs().max())
    torch.testing.assert_close(OnnxNetwork(file)(images), expected, rtol=0, atol=atol)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        (InputShape(SIZE), SIZE),
        (InputShape((50, 70), batch=2), (50, 70)),
        (InputShape(SIZE, free_size=True), (160, 32)),
    ],
    ids=str,
)
def test_classes_are_decoded_inside(shape: InputShape, size: tuple[int, int], tmp_path: Path) -> None:
    file = tmp_path / "classes.onnx"
    parity = export_onnx(small_segmentation(), file, OF_CLASSES, shape, decoder="classes")
    assert parity.classes is not None
    model = onnx.load(file)
    assert [output.name for output in model.graph.output] == ["classes", "logits"]
    assert model.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.INT32
    assert {entry.key: entry.value for entry in model.metadata_props}["decoder"] == "classes"
    classes, logits = ort.InferenceSession(file).run(None, {"images": normalised(2, size).numpy()})
    expected = class_labels([torch.from_numpy(logits)], size[::-1])
    assert len(expected.unique()) == 2
    # Two ways to compute the same means: where two logits are equal to the last digits, either may be the larger.
    assert (torch.from_numpy(classes) == expected).float().mean() > 0.999


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_said(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    expected = rf"^ONNX files: expected the package {package}, .*pip install 'litehrnet_cuda\[export\]'"
    with pytest.raises(InputError, match=expected):
        require_packages()
