"""The code blocks of docs/video.md run, and its commands exist."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from pathlib import Path

import pytest
from video_files import read_video, write_video

from litehrnet_cuda.cli.main import load_command
from litehrnet_cuda.data.boxes import read_boxes
from litehrnet_cuda.video import detect, load_detector
from litehrnet_cuda.video.onnx_detector import MIN_SCORE, PERSON, PREPARATIONS

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "video.md").read_text(encoding="utf-8")
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


@pytest.mark.parametrize("line", re.findall(r"^    (litehrnet .*)$", PAGE, re.MULTILINE))
def test_commands_have_these_options(line: str) -> None:
    _, name, *arguments = shlex.split(line)
    parser = argparse.ArgumentParser()
    load_command(name).add_arguments(parser)
    parser.parse_args(arguments)


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
