"""What an ONNX detector is given and how its outputs are read; with ONNX Runtime itself where it is installed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.video.detectors import detect, load_detector
from litehrnet_cuda.video.onnx_detector import OnnxDetector

Array = np.ndarray[Any, Any]


@dataclass
class Session:
    """Stands in for onnxruntime.InferenceSession: returns what it is told, and keeps what it was given."""

    outputs: list[tuple[str, str, list[Any]]]
    returned: list[Any] = field(default_factory=list)
    input: tuple[str, list[Any]] = ("tensor(float)", [1, 3, 320, 320])
    metadata: dict[str, str] = field(default_factory=dict)
    given: Any = None

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="input", type=self.input[0], shape=self.input[1])]

    def get_outputs(self) -> list[Any]:
        return [SimpleNamespace(name=name, type=kind, shape=shape) for name, kind, shape in self.outputs]

    def get_modelmeta(self) -> Any:
        return SimpleNamespace(custom_metadata_map=self.metadata)

    def run(self, names: None, feeds: dict[str, Array]) -> list[Any]:
        (self.given,) = feeds.values()
        return [np.asarray(value) for value in self.returned]


DETS = [("dets", "tensor(float)", [1, "N", 5]), ("labels", "tensor(int64)", [1, "N"])]
ALL_IN_ONE = [("output0", "tensor(float)", [1, 300, 6])]
IMAGE = np.zeros((160, 320, 3), np.uint8)
IMAGE[:, :, 0], IMAGE[:, :, 2] = 200, 50  # blue and red


def test_boxes_and_labels_of_mmdeploy() -> None:
    rows = [[[32, 32, 64, 96, 0.9], [0, 0, 32, 32, 0.8], [1, 2, 3, 4, 0.2]]]
    session = Session(DETS, [rows, [[0, 5, 0]]])
    detector = OnnxDetector("rtmdet.onnx", session=session)
    people = detect(detector, np.repeat(np.repeat(IMAGE, 2, axis=0), 2, axis=1))  # 640x320, into 320x320
    np.testing.assert_allclose(people.boxes, [[64, 64, 128, 192]])
    np.testing.assert_allclose(people.scores, [0.9])
    # In the upper left corner, grey below; normalised as mmdetection's RTMDet, BGR.
    assert detector.preparation == "rtmdet"
    assert session.given.shape == (1, 3, 320, 320)
    assert session.given.dtype == np.float32
    np.testing.assert_allclose(
        session.given[0, :, 10, 10], [(200 - 103.53) / 57.375, -116.28 / 57.12, (50 - 123.675) / 58.395]
    )
    np.testing.assert_allclose(session.given[0, 0, 200, 10], (114 - 103.53) / 57.375, rtol=1e-6)


def test_order_of_outputs_and_missing_batches_do_not_matter() -> None:
    session = Session(DETS[::-1], [[0], [[32, 32, 64, 96, 0.9]]], input=("tensor(float)", ["b", 3, "h", "w"]))
    detector = OnnxDetector("a.onnx", session=session)
    assert detector.size == (640, 640)
    np.testing.assert_allclose(detector(IMAGE)[0], [[16, 16, 32, 48]])


def test_yolo_with_suppression_inside() -> None:
    rows = [[[0, 80, 320, 240, 0.75, 0], [10, 90, 20, 100, 0.7, 16], *[[0.0] * 6] * 3]]
    session = Session(ALL_IN_ONE, [rows], metadata={"author": "Ultralytics", "task": "detect"})
    detector = OnnxDetector("best.onnx", session=session)
    boxes, scores = detector(IMAGE)
    np.testing.assert_allclose(boxes, [[0, 0, 320, 160]])
    np.testing.assert_allclose(scores, [0.75])
    # In the middle, from 0 to 1, RGB.
    assert detector.preparation == "yolo"
    np.testing.assert_allclose(session.given[0, :, 160, 10], np.array([50, 0, 200]) / 255, rtol=1e-6)
    np.testing.assert_allclose(session.given[0, :, 79, 10], 114 / 255, rtol=1e-6)


def test_yolox_and_whole_numbers() -> None:
    session = Session(DETS, [[[[0, 0, 9, 9, 0.9]]], [[0]]])
    assert OnnxDetector("yolox_m.onnx", session=session).preparation == "yolox"
    OnnxDetector("a.onnx", preparation="yolox", session=session)(IMAGE)
    np.testing.assert_allclose(session.given[0, :, 10, 10], [200, 0, 50])
    session = Session(DETS, [[[[0, 0, 9, 9, 0.9]]], [[0]]], input=("tensor(uint8)", [1, 3, 320, 320]))
    OnnxDetector("a.onnx", session=session)(IMAGE)
    assert session.given.dtype == np.uint8
    np.testing.assert_array_equal(session.given[0, :, 10, 10], [200, 0, 50])


def test_other_labels_and_scores() -> None:
    session = Session(DETS, [[[[0, 0, 9, 9, 0.25], [0, 0, 8, 8, 0.15]]], [[7, 7]]])
    boxes, _ = OnnxDetector("a.onnx", label=7, min_score=0.2, session=session)(IMAGE)
    np.testing.assert_allclose(boxes, [[0, 0, 9, 9]])


@pytest.mark.parametrize(
    ("session", "message"),
    [
        (
            Session([("output0", "tensor(float)", [1, 84, 8400])]),
            "a.onnx: expected boxes without doubles, as dets [1, P, 5] and labels [1, P] or as one output [1, P, 6], "
            "got output0 [1, 84, 8400]; export the detector with its non-maximum suppression",
        ),
        (Session([*DETS, ("masks", "tensor(float)", [1, "N", 5])]), "got dets [1, 'N', 5], labels"),
        (Session([("heatmaps", "tensor(float)", [1, 17, 64, 48])]), "got heatmaps [1, 17, 64, 48]"),
        (Session(DETS, input=("tensor(float)", [1, 1, 320, 320])), "expected one input of images [1, 3, H, W], got"),
        (Session(DETS, input=("tensor(int64)", [1, 3, 320, 320])), "got input tensor(int64) [1, 3, 320, 320]"),
        (Session(DETS, input=("tensor(float)", [3, 320])), "got input tensor(float) [3, 320]"),
    ],
)
def test_other_networks_are_refused(session: Session, message: str) -> None:
    with pytest.raises(InputError) as caught:
        OnnxDetector("a.onnx", session=session)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ([np.zeros((2, 3, 5)), np.zeros((2, 3))], "expected an output of shape [1, P, 5], got [2, 3, 5]"),
        ([np.zeros((1, 3, 5)), np.zeros((1, 2))], "expected as many labels as boxes, got 2 and 3"),
    ],
)
def test_other_outputs_are_refused(returned: list[Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        OnnxDetector("a.onnx", session=Session(DETS, returned))(IMAGE)
    assert message in str(caught.value)


def test_an_unknown_preparation() -> None:
    with pytest.raises(InputError, match="preparation: expected one of rtmdet, yolox, yolo, got 'ssd'"):
        OnnxDetector("a.onnx", preparation="ssd", session=Session(DETS))


def save_detector(file: Path) -> Path:
    """A network that finds one person at the brightest row and column of an image, of 20x40 pixels."""
    onnx = pytest.importorskip("onnx")
    helper, numpy_helper, kinds = onnx.helper, onnx.numpy_helper, onnx.TensorProto
    constants = {"half": np.array([[[-10, -20, 10, 20]]], np.float32), "score": np.array([[[0.9]]], np.float32)}
    nodes = [
        helper.make_node("ReduceSum", ["images", "over_rows"], ["columns"], keepdims=0),
        helper.make_node("ReduceSum", ["images", "over_columns"], ["rows"], keepdims=0),
        helper.make_node("ArgMax", ["columns"], ["column"], axis=-1, keepdims=1),
        helper.make_node("ArgMax", ["rows"], ["row"], axis=-1, keepdims=1),
        helper.make_node("Concat", ["column", "row", "column", "row"], ["whole"], axis=-1),
        helper.make_node("Cast", ["whole"], ["flat"], to=kinds.FLOAT),
        helper.make_node("Unsqueeze", ["flat", "first"], ["centers"]),
        helper.make_node("Add", ["centers", "half"], ["boxes"]),
        helper.make_node("Concat", ["boxes", "score"], ["dets"], axis=-1),
        helper.make_node("Sub", ["column", "column"], ["labels"]),
    ]
    constants |= {"over_rows": np.array([1, 2]), "over_columns": np.array([1, 3]), "first": np.array([1])}
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("images", kinds.FLOAT, [1, 3, 120, 160])],
        [
            helper.make_tensor_value_info("dets", kinds.FLOAT, [1, 1, 5]),
            helper.make_tensor_value_info("labels", kinds.INT64, [1, 1]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, str(file))
    return file


def test_a_file_is_run_by_onnx_runtime(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    file = save_detector(tmp_path / "yolox.onnx")
    image = np.zeros((240, 320, 3), np.uint8)  # twice the input's size
    image[98:102, 158:162] = 255
    people = detect(load_detector(str(file)), image)
    # The middle is found to a pixel of the input, two of the image.
    np.testing.assert_allclose(people.boxes, [[140, 60, 180, 140]], atol=2)
    np.testing.assert_allclose(people.scores, [0.9])
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(InputError, match=r"text\.onnx: expected an ONNX file that ONNX Runtime can run"):
        load_detector(str(tmp_path / "text.onnx"))


def test_without_onnx_runtime_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (tmp_path / "a.onnx").write_bytes(b"x")
    with pytest.raises(InputError, match=r"`pip install 'litehrnet_cuda\[detector\]'` brings it"):
        OnnxDetector(tmp_path / "a.onnx")
