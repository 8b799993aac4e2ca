"""Pictures and files of an evaluation of segmentation."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mask_cases import write_part

from litehrnet_cuda.classes import ClassSet
from litehrnet_cuda.data.mask_datasets import locate_mask_splits
from litehrnet_cuda.data.masks import MaskAnnotations
from litehrnet_cuda.engine import segmentation_report
from litehrnet_cuda.engine.evaluate_segmentation import SegmentationEvaluation
from litehrnet_cuda.engine.segmentation_report import predictions_beside_truth, worst_and_best, write_report
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.models.registry import create_model
from litehrnet_cuda.predictors.segmenter import Segmenter

CLASSES = ClassSet("three", ("ground", "left", "right"), ((0, 0, 0), (250, 0, 0), (0, 0, 250)), background=0)


@pytest.fixture
def masks(tmp_path: Path) -> MaskAnnotations:
    write_part(tmp_path / "data", "val", 6)
    return locate_mask_splits(tmp_path / "data")["val"].read(CLASSES)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    torch.manual_seed(0)
    network = create_model("naive_litehrnet_18", "segmentation", num_outputs=3)
    return Segmenter(network, class_set=CLASSES, device="cpu")


MATRIX = np.array([[5, 1, 0], [2, 3, 0], [0, 0, 0]])
FOUND = SegmentationEvaluation(MATRIX, CLASSES, {0: 0.5, 1: 0.1, 2: -1.0, 3: 0.9, 4: 0.3, 5: 0.7})


def test_predictions_are_shown_beside_the_truth(segmenter: Segmenter, masks: MaskAnnotations) -> None:
    sheet = predictions_beside_truth(segmenter, masks, count=2)
    assert sheet.dtype == np.uint8
    image, _ = masks.read(0)
    assert sheet.shape[0] > image.shape[0]
    assert sheet.shape[1] > 4 * image.shape[1], "two pairs in a row"
    assert sheet.std() > 5


def test_the_worst_and_the_best_are_in_order(
    segmenter: Segmenter, masks: MaskAnnotations, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[list[str], str]] = []

    def remember(pictures: list[np.ndarray], titles: list[str], columns: int, cell: object, heading: str) -> np.ndarray:
        calls.append((titles, heading))
        assert len(pictures) == len(titles)
        assert columns == 4
        return pictures[0]

    monkeypatch.setattr(segmentation_report, "contact_sheet", remember)
    worst_and_best(segmenter, FOUND, masks)
    ((titles, heading),) = calls
    assert titles[::2] == [
        "truth, worst 1: mIoU 0.10, 1.png",
        "truth, worst 2: mIoU 0.30, 4.png",
        "truth, best 1: mIoU 0.90, 3.png",
        "truth, best 2: mIoU 0.70, 5.png",
    ]
    assert heading == "Truth and prediction: 2 worst and 2 best of 5 images (whole images)"
    nothing = SegmentationEvaluation(MATRIX, CLASSES, {0: -1.0})
    with pytest.raises(InputError, match="expected an image with labelled pixels"):
        worst_and_best(segmenter, nothing, masks)


def test_a_report_is_three_files(segmenter: Segmenter, masks: MaskAnnotations, tmp_path: Path) -> None:
    files = write_report(tmp_path / "report", segmenter, FOUND, masks, {"checkpoint": "net.safetensors"})
    assert [file.name for file in files] == ["metrics.json", "confusion.csv", "worst_and_best.png"]
    metrics = json.loads(files[0].read_text())
    assert (metrics["mode"], metrics["checkpoint"], metrics["IoU right"]) == ("whole", "net.safetensors", None)
    assert metrics["IoU ground"] == 5 / 8
    with files[1].open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [["class", *CLASSES.names], ["ground", "5", "1", "0"], ["left", "2", "3", "0"], ["right", *"000"]]
    assert cv2.imread(str(files[2])).std() > 5
