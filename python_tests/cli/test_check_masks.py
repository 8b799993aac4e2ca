"""`litehrnet check-data` on images with masks."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest
from mask_cases import write_part

from litehrnet_cuda.cli.main import main


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_part(tmp_path, "train", 3)
    write_part(tmp_path, "val", 2)
    return tmp_path


def test_good_data_are_counted_and_drawn(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = data / "samples.png"
    assert main(["check-data", str(data), "--out", str(picture), "--samples", "4", "--size", "40x40"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [f"train: {data}", "  3 images, 3 classes", "    class     pixels   images"]
    assert lines[3].startswith("    class 0 ")
    assert f"see {picture}" in lines
    assert lines[-1] == "no errors, no warnings"
    drawn = cv2.imread(str(picture))
    assert drawn is not None
    assert drawn.std() > 5, "not blank"


def test_mistakes_are_told_and_end_with_one(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "masks" / "train" / "1.png").unlink()
    assert main(["check-data", str(data), "--fast"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "  error: the mask is missing (1)" in lines
    assert lines[-1] == "1 error, no warnings"
    assert not any("pixels" in line for line in lines), "which --fast does not count"


def test_masks_of_drawn_people_are_asked_for(coco_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-data", str(coco_folder), "--masks"]) == 0
    assert "4 images, 2 classes" in capsys.readouterr().out
    assert main(["check-data", str(coco_folder)]) == 0
    assert "people" in capsys.readouterr().out


def test_nothing_to_draw_is_said(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in data.rglob("images/*/*.png"):
        file.write_bytes(b"none")
    assert main(["check-data", str(data), "--out", str(data / "samples.png")]) == 1
    assert f"no image can be drawn, so {data / 'samples.png'} is not written" in capsys.readouterr().out
