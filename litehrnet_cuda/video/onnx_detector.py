"""People from an ONNX file of a detector whose outputs are boxes: suppression of doubles included.

Two kinds of outputs are understood:

- ``dets [1, P, 5]`` (left, top, right, bottom, score) and ``labels [1, P]``, as mmdeploy exports RTMDet and YOLOX "end
  to end";
- one output ``[1, P, 6]`` (left, top, right, bottom, score, label), as Ultralytics exports YOLO with ``nms=True``, and
  YOLOv10 and YOLO26 without.

Boxes are in pixels of the network's input; the leading 1 may be absent. Which label is a person's can be said; it is 0
with COCO's classes.
"""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from litehrnet_cuda.errors import InputError

Array = np.ndarray[Any, Any]

PERSON = 0  # of COCO's 80 classes
MIN_SCORE = 0.3
DEFAULT_SIDE = 640  # of inputs whose size the file leaves open
_GREY = 114  # beside the image: all three pad with it
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}


@dataclass(frozen=True)
class Preparation:
    """How an image becomes a detector's input: fitted into it with its proportions, the rest grey; then numbers.

    Args:
        mean: subtracted from, and
        std: divides the values 0 to 255, in the order of the channels in the input.
        rgb: whether that is RGB.
        centered: whether the image is in the middle of the input, or in its upper left corner.
    """

    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    rgb: bool = False
    centered: bool = False


# mmdetection's configurations of RTMDet and YOLOX (data_preprocessor); Ultralytics' predictor.
PREPARATIONS = {
    "rtmdet": Preparation((103.53, 116.28, 123.675), (57.375, 57.12, 58.395)),
    "yolox": Preparation(),
    "yolo": Preparation(std=(255.0, 255.0, 255.0), rgb=True, centered=True),
}


class OnnxDetector:
    """A detector as a function of an image, for :func:`litehrnet_cuda.video.detectors.detect`.

    Args:
        path: of the ONNX file.
        preparation: a name of ``PREPARATIONS``; by default ``"yolo"`` for a file that says that it is Ultralytics',
            ``"yolox"`` for one with that in its name, else ``"rtmdet"``. The wrong one finds nobody.
        device: ``"cuda"`` for ONNX Runtime's CUDA provider; by default that where there is one.
        label: of people.
        min_score: boxes below it are left out.
        session: what runs the network, by default ONNX Runtime.

    Raises:
        InputError: without ONNX Runtime, or for a file that it cannot run or whose inputs or outputs are others.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        preparation: str | None = None,
        device: str | None = None,
        label: int = PERSON,
        min_score: float = MIN_SCORE,
        session: Any = None,
    ) -> None:
        if preparation is not None and preparation not in PREPARATIONS:
            raise InputError(f"preparation: expected one of {', '.join(PREPARATIONS)}, got {preparation!r}")
        self.path = Path(path)
        self._session = _open_session(self.path, device) if session is None else session
        self.preparation = preparation or self._guess()
        self.label = label
        self.min_score = min_score
        inputs = self._session.get_inputs()
        shape = list(inputs[0].shape)
        if len(inputs) != 1 or len(shape) != 4 or shape[1] not in (3, None) or inputs[0].type not in _TYPES:
            found = ", ".join(f"{entry.name} {entry.type} {entry.shape}" for entry in inputs)
            raise InputError(f"{self.path}: expected one input of images [1, 3, H, W], got {found}")
        height, width = (side if isinstance(side, int) and side > 0 else DEFAULT_SIDE for side in shape[2:])
        self.size = (width, height)
        self._input, self._dtype = inputs[0].name, _TYPES[inputs[0].type]
        self._columns = self._understand_outputs()

    def __call__(self, image: Array) -> tuple[Array, Array]:
        """Boxes ``[P, 4]`` and scores ``[P]`` of the people in an image, ``[H, W, 3]`` uint8 BGR."""
        pixels, scale, left, top = _fit(image, self.size, PREPARATIONS[self.preparation].centered)
        outputs = self._session.run(None, {self._input: self._prepare(pixels)})
        if self._columns == 6:
            rows = self._rows(outputs[0], 6)
            labels = rows[:, 5]
        else:
            dets, names = (outputs[index] for index in self._places)
            rows, labels = self._rows(dets, 5), np.asarray(names).reshape(-1)
        if len(labels) != len(rows):
            raise InputError(f"{self.path}: expected as many labels as boxes, got {len(labels)} and {len(rows)}")
        rows = rows[(labels == self.label) & (rows[:, 4] >= self.min_score)]
        return (rows[:, :4] - [left, top, left, top]) / scale, rows[:, 4]

    def _prepare(self, pixels: Array) -> Array:
        preparation = PREPARATIONS[self.preparation]
        if self._dtype == np.uint8:
            values = pixels
        else:
            values = pixels.astype(np.float32)
        if preparation.rgb:
            values = values[..., ::-1]
        if self._dtype != np.uint8:
            values = (values - np.array(preparation.mean, np.float32)) / np.array(preparation.std, np.float32)
        return np.ascontiguousarray(values.transpose(2, 0, 1)[None], self._dtype)

    def _guess(self) -> str:
        described = dict(self._session.get_modelmeta().custom_metadata_map)
        if "ultralytics" in " ".join(described.values()).lower():
            return "yolo"
        return "yolox" if "yolox" in self.path.name.lower() else "rtmdet"

    def _understand_outputs(self) -> int:
        """5 for boxes with labels beside, 6 for all in one; what the file leaves open shows when it runs."""
        outputs = self._session.get_outputs()
        shapes = [list(entry.shape) for entry in outputs]
        if len(outputs) == 1 and len(shapes[0]) in (2, 3) and shapes[0][-1] == 6:
            return 6
        boxes = [index for index, shape in enumerate(shapes) if len(shape) in (2, 3) and shape[-1] == 5]
        labels = [index for index, entry in enumerate(outputs) if "int" in entry.type and len(entry.shape) in (1, 2)]
        if len(boxes) == 1 and len(labels) == 1:
            self._places = (boxes[0], labels[0])
            return 5
        found = ", ".join(f"{entry.name} {entry.shape}" for entry in outputs)
        raise InputError(
            f"{self.path}: expected boxes without doubles, as dets [1, P, 5] and labels [1, P] or as one output "
            f"[1, P, 6], got {found}; export the detector with its non-maximum suppression (mmdeploy: end2end, "
            f"Ultralytics: nms=True)"
        )

    def _rows(self, output: Any, columns: int) -> Array:
        rows = np.asarray(output, np.float32)
        if rows.ndim == 3 and len(rows) == 1:
            rows = rows[0]
        if rows.ndim != 2 or rows.shape[1] != columns:
            raise InputError(f"{self.path}: expected an output of shape [1, P, {columns}], got {list(rows.shape)}")
        return rows


def _fit(image: Array, size: tuple[int, int], centered: bool) -> tuple[Array, float, int, int]:
    """The image in the input's size ``[h, w, 3]``, its scale, and where its left and top came to be."""
    scale = min(size[0] / image.shape[1], size[1] / image.shape[0])
    width, height = (max(1, round(side * scale)) for side in (image.shape[1], image.shape[0]))
    left, top = ((size[0] - width) // 2, (size[1] - height) // 2) if centered else (0, 0)
    pixels = np.full((size[1], size[0], 3), _GREY, np.uint8)
    pixels[top : top + height, left : left + width] = cv2.resize(image, (width, height))
    return pixels, scale, left, top


def _open_session(path: Path, device: str | None) -> Any:
    if not os.path.isfile(path):
        raise InputError(f"{path}: expected an ONNX file of a detector, but there is no such file")
    try:
        onnxruntime = importlib.import_module("onnxruntime")
    except ImportError:
        raise InputError(
            f"{path}: ONNX Runtime runs it, which is not installed; `pip install 'litehrnet_cuda[detector]'` brings it"
        ) from None
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    available = onnxruntime.get_available_providers()
    cuda = "CUDAExecutionProvider"
    wanted = [cuda] if cuda in available and (device or "cuda").startswith("cuda") else []
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=[*wanted, "CPUExecutionProvider"])
    except Exception as error:  # its errors share no base
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: expected an ONNX file that ONNX Runtime can run: {reason:.200}") from error
