"""Detectors are found by name, and what they return is checked."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.video.detectors import detect, load_detector

IMAGE = np.zeros((100, 200, 3), np.uint8)
BOXES = [[10, 20, 50, 90], [60, 5, 120, 99]]


@pytest.mark.parametrize(
    ("found", "scores"),
    [
        (BOXES, [1, 1]),
        (np.array(BOXES), [1, 1]),
        (torch.tensor(BOXES), [1, 1]),
        ((np.array(BOXES), np.array([0.25, 0.5])), [0.25, 0.5]),
        ((torch.tensor(BOXES, requires_grad=False), torch.tensor([0.25, 0.5])), [0.25, 0.5]),
        ((BOXES, None), [1, 1]),
    ],
)
def test_what_detectors_may_return(found: Any, scores: list[float]) -> None:
    people = detect(lambda image: found, IMAGE)
    np.testing.assert_array_equal(people.boxes, BOXES)
    np.testing.assert_array_equal(people.scores, scores)
    assert people.boxes.dtype == people.scores.dtype == np.float32


@pytest.mark.parametrize("nothing", [[], np.empty((0, 4)), ([], []), (np.empty((0, 4)), np.empty(0))])
def test_nobody(nothing: Any) -> None:
    assert len(detect(lambda image: nothing, IMAGE)) == 0


def test_boxes_are_cut_to_the_image_and_those_outside_left_out() -> None:
    boxes = [[-10, -10, 20, 20], [190, 90, 300, 300], [200, 0, 210, 10], [30, 30, 30, 50], [40, 50, 30, 60]]
    people = detect(lambda image: (boxes, [0.1, 0.2, 0.3, 0.4, 0.5]), IMAGE)
    np.testing.assert_array_equal(people.boxes, [[0, 0, 20, 20], [190, 90, 200, 100]])
    np.testing.assert_allclose(people.scores, [0.1, 0.2])


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (None, "d: expected boxes of shape [P, 4], or boxes and scores [P], got None; does it return?"),
        (
            [1, 2, 3, 4],
            "d: expected boxes of shape [P, 4] (left, top, right, bottom), or boxes and scores [P], got [4]",
        ),
        (np.zeros((2, 5)), "got [2, 5]"),
        ("people", "d: expected boxes of shape [P, 4], or boxes and scores [P], got str"),
        ([[1, 2, 3, float("nan")]], "got NaN or infinity among them"),
        ((BOXES, [0.5]), "d: expected 2 scores, one for each box, got [1]"),
        ((BOXES, "high"), "d: expected 2 scores, one for each box, got str"),
    ],
)
def test_what_they_may_not_return(found: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        detect(lambda image: found, IMAGE, "d")
    assert message in str(caught.value)


def test_a_detector_that_fails() -> None:
    def detector(image: Any) -> Any:
        raise RuntimeError("no weights")

    with pytest.raises(InputError, match="d: failed with RuntimeError: no weights") as caught:
        detect(detector, IMAGE, "d")
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_functions_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("beside_my_detector.py").write_text("BOXES = [[1, 2, 30, 40]]\n")
    Path("my_detector.py").write_text(
        "from beside_my_detector import BOXES\ndef people(image): return BOXES\nsize = 3\n"
    )
    for name in ("my_detector:people", "my_detector.py:people", f"{tmp_path / 'my_detector.py'}:people"):
        np.testing.assert_array_equal(detect(load_detector(name), IMAGE).boxes, [[1, 2, 30, 40]])
    for name, message in (
        ("my_detector:persons", "expected a function persons in my_detector, which has people"),
        ("my_detector:size", "got int, which cannot be called"),
        ("nowhere_at_all:people", "there is no module nowhere_at_all; is it in this folder, or installed?"),
        ("nowhere.py:people", "nowhere.py: expected a Python file with a detector, but there is no such file"),
        ("people", "expected my_module:function, my_file.py:function or model.onnx, got 'people'"),
        ("my_detector.py", "expected my_module:function"),
        ("my_detector:", "expected my_module:function"),
        ("missing.onnx", "missing.onnx: expected an ONNX file of a detector, but there is no such file"),
        ("yolox:missing.onnx", "missing.onnx: expected an ONNX file of a detector, but there is no such file"),
    ):
        with pytest.raises(InputError) as caught:
            load_detector(name)
        assert message in str(caught.value), name


def test_a_file_may_do_what_modules_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "beside_and_later.py").write_text("BOXES = [[1, 2, 30, 40]]\n")
    (tmp_path / "modern.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass A:\n    a: int = 1\n"
        "def people(image):\n    from beside_and_later import BOXES\n    return BOXES\n"
    )
    detector = load_detector(f"{tmp_path / 'modern.py'}:people")
    np.testing.assert_array_equal(detect(detector, IMAGE).boxes, [[1, 2, 30, 40]])


def test_modules_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("broken_detector.py").write_text("import a_package_that_is_not_there\n")
    Path("wrong_detector.py").write_text("1 / 0\n")
    for name, message in (
        ("broken_detector:people", "broken_detector cannot be imported: No module named 'a_package_that_is_not_there'"),
        ("wrong_detector:people", "wrong_detector cannot be imported: ZeroDivisionError"),
        ("wrong_detector.py:people", "wrong_detector.py: cannot be imported: ZeroDivisionError"),
    ):
        with pytest.raises(InputError) as caught:
            load_detector(name)
        assert message in str(caught.value)
