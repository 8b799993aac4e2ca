"""Graphs that are made by hand, before and after."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from litehrnet_cuda.export.graph import simplify

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")


def upsampling(source: list[Any], target: list[Any], mode: str) -> Any:
    """A graph that resizes images to a size that it computes from their number, as PyTorch's exporter writes it."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    attributes = {
        "nearest": {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        "linear": {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
    }[mode]
    sides = [2 * source[2], 3 * source[3]] if isinstance(target[2], str) else target[2:]
    graph = helper.make_graph(
        [
            helper.make_node("Shape", ["images"], ["start"], end=2),
            helper.make_node("Concat", ["start", "sides"], ["size"], axis=0),
            helper.make_node("Resize", ["images", "", "", "size"], ["outputs"], **attributes),
        ],
        "graph",
        [helper.make_tensor_value_info("images", kind, source)],
        [helper.make_tensor_value_info("outputs", kind, target)],
        [onnx.numpy_helper.from_array(np.array(sides, np.int64), "sides")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    model.graph.node[0].doc_string = "/home/somebody/network.py"
    model.graph.node[1].metadata_props.add(key="stack", value="/home/somebody/network.py")
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: Any, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(ort.InferenceSession(model.SerializeToString()).run(None, {"images": images})[0])


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("target", [["s7", 2, 8, 9], ["s7", 2, 4, 3]])
def test_upsampling_by_whole_numbers_says_its_factors(mode: str, target: list[Any]) -> None:
    model = upsampling(["s7", 2, 4, 3], target, mode)
    images = np.random.default_rng(0).random((5, 2, 4, 3), np.float32)
    before = run(model, images)
    simplify(model)
    assert [node.op_type for node in model.graph.node] == ["Resize"]
    assert [tensor.name for tensor in model.graph.initializer] == [f"scales_{target[2] // 4}x{target[3] // 3}"]
    onnx.checker.check_model(model, full_check=True)
    assert np.array_equal(run(model, images), before)


@pytest.mark.parametrize("target", [["s7", 2, 7, 6], ["s7", 2, 2, 3]], ids=["odd", "downwards"])
def test_other_sizes_stay_computed(target: list[Any]) -> None:
    model = upsampling(["s7", 2, 4, 3], target, "nearest")
    simplify(model)
    assert [node.op_type for node in model.graph.node] == ["Shape", "Concat", "Resize"]
    assert run(model, np.ones((5, 2, 4, 3), np.float32)).shape == (5, *target[1:])


def test_sources_are_forgotten_and_free_dimensions_named() -> None:
    model = upsampling(["s7", 2, 4, 3], ["s7", 2, 7, 6], "nearest")
    simplify(model)
    assert b"somebody" not in model.SerializeToString()
    for value in (model.graph.input[0], model.graph.output[0]):
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"
