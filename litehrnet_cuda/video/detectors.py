"""Detectors of people: any Python function, named on the command line, and what it returns, checked.

A detector takes an image, ``[H, W, 3]`` uint8 BGR, and returns boxes ``[P, 4]`` (left, top, right, bottom) in its
pixels, or boxes and scores ``[P]``.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from litehrnet_cuda.errors import InputError

Array = np.ndarray[Any, Any]
Detector = Callable[[Array], Any]

_FORMS = "my_module:function, my_file.py:function or model.onnx"


@dataclass(frozen=True, eq=False)
class Detections:
    """Where people are in an image: boxes ``[P, 4]`` (left, top, right, bottom) and scores ``[P]``, both float32."""

    boxes: Array = field(default_factory=lambda: np.empty((0, 4), np.float32))
    scores: Array = field(default_factory=lambda: np.empty(0, np.float32))

    def __len__(self) -> int:
        return len(self.boxes)


def load_detector(name: str, device: str | None = None) -> Detector:
    """The detector of a name.

    Args:
        name: ``"my_module:function"``, ``"my_file.py:function"``, or an ONNX file, see
            :class:`litehrnet_cuda.video.onnx_detector.OnnxDetector`; ``"yolox:model.onnx"`` says how its input is
            prepared.
        device: for an ONNX file, ``"cpu"`` or ``"cuda"``.

    Raises:
        InputError: if there is no such file, module or function, or it cannot be imported.
    """
    if name.lower().endswith(".onnx"):
        from litehrnet_cuda.video.onnx_detector import PREPARATIONS, OnnxDetector

        preparation, separator, file = name.partition(":")
        named = separator and preparation in PREPARATIONS
        return OnnxDetector(file if named else name, preparation=preparation if named else None, device=device)
    place, separator, function = name.rpartition(":")
    if not separator or not place or not function.isidentifier():
        raise InputError(f"detector: expected {_FORMS}, got {name!r:.80}")
    module = _import_file(Path(place)) if place.endswith(".py") else _import_module(place)
    detector = getattr(module, function, None)
    if not callable(detector):
        raise InputError(f"detector: expected a function {function} in {place}, " + _what_there_is(module, detector))
    return detector  # type: ignore[no-any-return]


def detect(detector: Detector, image: Array, name: str = "detector") -> Detections:
    """What a detector finds in an image, cut to the image; boxes that have no part in it are left out.

    Args:
        detector: returns ``boxes [P, 4]`` or ``(boxes [P, 4], scores [P])``.
        image: ``[H, W, 3]`` uint8 BGR.
        name: of the detector in messages.

    Raises:
        InputError: if the detector fails, or returns something else.
    """
    try:
        found = detector(image)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{name}: failed with {type(error).__name__}: {error}") from error
    if found is None:
        raise InputError(f"{name}: expected boxes of shape [P, 4], or boxes and scores [P], got None; does it return?")
    with_scores = isinstance(found, tuple) and len(found) == 2
    boxes = _numbers(found[0] if with_scores else found, name, "boxes of shape [P, 4], or boxes and scores [P]")
    if boxes.size == 0:
        return Detections()
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise InputError(
            f"{name}: expected boxes of shape [P, 4] (left, top, right, bottom), or boxes and scores [P], got "
            f"{list(boxes.shape)}"
        )
    scores = np.ones(len(boxes), np.float32)
    if with_scores and found[1] is not None:
        scores = _numbers(found[1], name, f"{len(boxes)} scores, one for each box")
        if scores.shape != (len(boxes),):
            raise InputError(f"{name}: expected {len(boxes)} scores, one for each box, got {list(scores.shape)}")
    height, width = image.shape[:2]
    boxes = np.clip(boxes, 0, [width, height, width, height]).astype(np.float32)
    real = (boxes[:, 2] - boxes[:, 0] >= 1) & (boxes[:, 3] - boxes[:, 1] >= 1)
    return Detections(boxes[real], scores[real])


def _numbers(values: Any, name: str, expected: str) -> Array:
    if hasattr(values, "detach"):  # a tensor of PyTorch, on any device
        values = values.detach().cpu()
    try:
        array = np.asarray(values, np.float32)
    except (TypeError, ValueError):
        raise InputError(f"{name}: expected {expected}, got {type(values).__name__}") from None
    if not np.isfinite(array).all():
        raise InputError(f"{name}: expected {expected}, got NaN or infinity among them")
    return array


def _import_module(name: str) -> Any:
    if "" not in sys.path:
        sys.path.insert(0, "")  # modules of the current folder, which a command does not search
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise InputError(
                f"detector: expected {_FORMS}, and there is no module {name}; is it in this folder, or installed?"
            ) from None
        raise InputError(f"detector: {name} cannot be imported: {error}") from error
    except Exception as error:
        raise InputError(f"detector: {name} cannot be imported: {type(error).__name__}: {error}") from error


def _import_file(path: Path) -> Any:
    if not os.path.isfile(path):
        raise InputError(f"{path}: expected a Python file with a detector, but there is no such file")
    name = f"litehrnet_detector_{path.stem}"  # never that of another module
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # where dataclasses, for one, look for it
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)  # for what lies beside it, also when it is imported later
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise InputError(f"{path}: cannot be imported: {type(error).__name__}: {error}") from error
    return module


def _what_there_is(module: Any, value: Any) -> str:
    if value is not None:
        return f"got {type(value).__name__}, which cannot be called"
    names = [name for name, entry in vars(module).items() if callable(entry) and not name.startswith("_")]
    return f"which has {', '.join(names[:8])}" if names else "which has no functions"
