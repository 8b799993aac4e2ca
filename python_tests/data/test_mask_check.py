"""What is found in images and masks before anybody trains on them."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from mask_cases import write_part

from litehrnet_cuda.data.mask_check import MaskReport, check_mask_splits
from litehrnet_cuda.data.mask_datasets import locate_mask_splits


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_part(tmp_path, "train", 4)
    write_part(tmp_path, "val", 2)
    return tmp_path


def check(folder: Path, **options: bool) -> tuple[dict[str, MaskReport], list[tuple[str, int]]]:
    calls: list[tuple[str, int]] = []
    reports = check_mask_splits(locate_mask_splits(folder), progress=lambda *call: calls.append(call), **options)
    return reports, calls


def kinds(report: MaskReport) -> list[tuple[str, bool]]:
    return [(problem.kind, problem.is_error) for problem in report.problems]


def test_good_data(data: Path) -> None:
    reports, calls = check(data)
    assert [kinds(report) for report in reports.values()] == [[], []]
    assert calls == [("train", 4), *[("train", 0)] * 4, ("val", 2), *[("val", 0)] * 2]
    report = reports["train"]
    assert report.annotations is not None
    labels = [report.annotations.read_labels(index) for index in range(4)]
    assert report.pixels.tolist() == [sum(int((one == index).sum()) for one in labels) for index in range(3)]
    assert report.images.tolist() == [sum(bool((one == index).any()) for one in labels) for index in range(3)]
    assert report.errors == 0


def test_mistakes_are_collected(data: Path) -> None:
    masks, images = data / "masks" / "train", data / "images" / "train"
    (images / "0.png").write_bytes(b"none")
    (masks / "1.png").unlink()
    cv2.imwrite(str(masks / "2.png"), np.zeros((5, 5), np.uint8))
    reports, _ = check(data)
    assert kinds(reports["train"]) == [
        ("the image cannot be decoded", True),
        ("the mask is missing", True),
        ("the mask has another size than its image", True),
    ]
    assert reports["train"].errors == 3
    (fast, _) = check(data, decode=False)
    assert kinds(fast["train"]) == [("the mask is missing", True)]


def test_a_number_that_is_no_class(data: Path) -> None:
    file = data / "mine.toml"
    parts = "".join(f'[{part}]\nimages = "images/{part}"\nmasks = "masks/{part}"\n' for part in ("train", "val"))
    file.write_text(f'name = "mine"\nclasses = ["a", "b"]\n{parts}')
    reports, _ = check(file)
    assert set(kinds(reports["val"])) == {("the mask holds a number that is no class", True)}


def test_what_is_odd_is_a_warning(data: Path) -> None:
    images, masks = data / "images", data / "masks"
    shutil.copy(images / "train" / "1.png", images / "train" / "0.png")
    shutil.copy(images / "train" / "1.png", images / "val" / "0.png")
    cv2.imwrite(str(masks / "val" / "0.png"), np.full((56, 72), 255, np.uint8))
    cv2.imwrite(str(masks / "val" / "1.png"), np.zeros((56, 72), np.uint8))
    reports, _ = check(data)
    assert kinds(reports["train"]) == [("a picture appears twice", False)]
    assert kinds(reports["val"]) == [
        ("nothing is labelled", False),
        ("a class is nowhere", False),
        ("a class is nowhere", False),
        ("a picture is in two parts of the data", False),
    ]
