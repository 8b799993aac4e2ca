"""What docs/video.md shows is what is written; its commands are run by test_documentation.py."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from documentation import blocks_of
from video_files import read_video, write_video

from litehrnet_cuda.cli.main import main
from litehrnet_cuda.data.boxes import read_boxes
from litehrnet_cuda.video import detect, load_detector
from litehrnet_cuda.video.onnx_detector import MIN_SCORE, PERSON, PREPARATIONS

FILE = Path(__file__).resolve().parents[1] / "docs" / "video.md"
PAGE = FILE.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: Path) -> None:
    detector, program = BLOCKS
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("my_detector.py").write_text(detector)
    Path("model.safetensors").write_bytes(checkpoint.read_bytes())
    write_video(Path("street.mp4"), 4)
    assert len(detect(load_detector("my_detector.py:people"), read_video(Path("street.mp4"))[0])) == 2
    exec(detector + program, {})  # the page's own code
    assert len(read_video(Path("street_poses.mp4"))) == 4
    assert len(Path("street_poses.jsonl").read_text().splitlines()) == 4


def keys(of_frame: dict[str, Any]) -> tuple[list[str], list[str]]:
    return list(of_frame), list(of_frame["people"][0])


def test_a_line_of_json_is_of_this_form(tmp_path: Path, checkpoint: Path) -> None:
    (text,) = (block.text for block in blocks_of(FILE) if block.language == "")
    shown = json.loads(text.replace(", ...", "").replace("\n", " "))
    write_video(tmp_path / "street.mp4", 2)
    command = ["predict", str(tmp_path / "street.mp4"), "--checkpoint", str(checkpoint), "--smooth", "--out"]
    assert main([*command, str(tmp_path / "poses")]) == 0
    written = json.loads((tmp_path / "poses" / "street_poses.jsonl").read_text().splitlines()[1])
    assert keys(written) == keys(shown)
    assert written["keypoint_set"] == shown["keypoint_set"]
    assert len(written["people"][0]["box"]) == 4
    assert {len(joint) for joint in written["people"][0]["keypoints"].values()} == {3}


def test_boxes_are_of_this_form(tmp_path: Path) -> None:
    by_frame, detections = re.findall(r"`((?:\{\"street|\[\{\"file).*?)`", PAGE, re.DOTALL)
    by_frame = by_frame.replace("left, top, right, bottom", "1, 2, 30, 40").replace("...]", "]").replace(", ]", "]")
    detections = detections.replace("left, top, width, height", "1, 2, 30, 40").replace(", ...", "")
    for number, content in enumerate((by_frame, detections)):
        file = tmp_path / f"{number}.json"
        file.write_text(content)
        boxes = read_boxes(file).of(Path("street.mp4"))
        assert boxes is not None
        assert 0 in boxes.frames
        assert json.loads(content)


def test_preparations_are_named() -> None:
    assert re.search(r"yolox:model.onnx` \(or `rtmdet:`, `yolo:`\)", PAGE)
    assert set(PREPARATIONS) == {"rtmdet", "yolox", "yolo"}
    assert f"label {PERSON}, as in COCO, and count from a score of {MIN_SCORE}" in PAGE
