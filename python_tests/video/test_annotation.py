"""A video becomes an annotated one and lines of JSON, and whatever stops it leaves both whole."""

from __future__ import annotations

import json
import os
import signal
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from video_files import FakeCapture, number_of, read_video, write_video

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.video import frames as frames_module
from litehrnet_cuda.video.annotation import Progress, annotate_video
from litehrnet_cuda.video.frames import Frame, VideoFrames

Array = np.ndarray[Any, Any]


@dataclass
class Number:
    """What is found in a numbered picture: its number, drawn as a bright lower half."""

    frame: Frame

    def __len__(self) -> int:
        return 2

    def draw(self, image: Array) -> Array:
        drawn = image.copy()
        drawn[drawn.shape[0] // 2 :] = 255
        return drawn

    def record(self) -> dict[str, Any]:
        return {"frame": self.frame.index, "number": number_of(self.frame.image)}


def numbers(lines: Path) -> list[int]:
    return [json.loads(line)["number"] for line in lines.read_text().splitlines()]


def upper_halves(video: Path) -> list[int]:
    pictures = read_video(video)
    assert all(picture[-10:].mean() > 230 for picture in pictures)
    return [number_of(picture[: picture.shape[0] // 2 - 2]) for picture in pictures]


def test_every_frame_is_drawn_and_written_down(tmp_path: Path) -> None:
    out, lines = tmp_path / "out.mp4", tmp_path / "out.jsonl"
    with VideoFrames(write_video(tmp_path / "a.mp4", 20, rate=12)) as frames:
        progress = annotate_video(frames, Number, video=out, lines=lines)
    assert (progress.frames, progress.found) == (20, 40)
    assert progress.rate > 0
    assert numbers(lines) == upper_halves(out) == list(range(20))
    assert cv2.VideoCapture(str(out)).get(cv2.CAP_PROP_FPS) == 12


def test_a_limit_and_who_watches(tmp_path: Path) -> None:
    seen: list[int] = []

    def watch(frames: Any) -> Any:
        for frame in frames:
            seen.append(frame.index)
            yield frame

    with VideoFrames(write_video(tmp_path / "a.mp4", 20)) as frames:
        progress = annotate_video(frames, Number, lines=tmp_path / "out.jsonl", limit=3, watch=watch)
    assert progress.frames == 3
    assert seen == numbers(tmp_path / "out.jsonl") == [0, 1, 2]
    assert not list(tmp_path.glob("out.mp4"))


def test_broken_frames_leave_the_video_as_long_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    real = cv2.VideoCapture
    monkeypatch.setattr(frames_module.cv2, "VideoCapture", lambda source: FakeCapture(8, broken=(3, 4), count_said=8))
    with VideoFrames(tmp_path / "a.mp4") as frames:
        monkeypatch.setattr(frames_module.cv2, "VideoCapture", real)
        annotate_video(frames, Number, video=tmp_path / "out.mp4", lines=tmp_path / "out.jsonl")
    assert numbers(tmp_path / "out.jsonl") == [0, 1, 2, 5, 6, 7]
    assert upper_halves(tmp_path / "out.mp4") == [0, 1, 2, 2, 2, 5, 6, 7]
    assert frames.damage.missing == 2


def test_an_interrupt_leaves_both_whole(tmp_path: Path) -> None:
    """Ctrl-C, as a signal, while a frame is worked on."""

    def find(frame: Frame) -> Number:
        if frame.index == 7:
            os.kill(os.getpid(), signal.SIGINT)
        return Number(frame)

    out, lines, progress = tmp_path / "out.mp4", tmp_path / "out.jsonl", Progress()
    with VideoFrames(write_video(tmp_path / "a.mp4", 20)) as frames, pytest.raises(KeyboardInterrupt):
        annotate_video(frames, find, video=out, lines=lines, progress=progress)
    assert progress.frames == 7
    assert numbers(lines) == upper_halves(out) == list(range(7))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.mp4", "out.jsonl", "out.mp4"]
    assert not [thread for thread in threading.enumerate() if thread.name in ("read ahead", "write behind")]


def test_an_error_leaves_what_came_before(tmp_path: Path) -> None:
    def find(frame: Frame) -> Number:
        if frame.index == 4:
            raise InputError("frame 4: no")
        return Number(frame)

    with VideoFrames(write_video(tmp_path / "a.mp4", 20)) as frames, pytest.raises(InputError, match="frame 4: no"):
        annotate_video(frames, find, video=tmp_path / "out.mp4", lines=tmp_path / "out.jsonl")
    assert numbers(tmp_path / "out.jsonl") == upper_halves(tmp_path / "out.mp4") == [0, 1, 2, 3]


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with VideoFrames(write_video(tmp_path / "a.mp4", 20)) as frames:
        with pytest.raises(InputError, match=r"out.mp4: cannot be written"):
            annotate_video(frames, Number, video=tmp_path / "file" / "out.mp4")


def test_a_camera_goes_on_while_a_frame_is_worked_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = threading.Event()

    class Camera(FakeCapture):
        def read(self) -> Any:
            if self.next == 1:
                assert taken.wait(10)
            return super().read()

    def find(frame: Frame) -> Number:
        if frame.index == 0:
            taken.set()
            while capture.next < 40:
                pass
        return Number(frame)

    capture = Camera(40, rate=50)
    real = cv2.VideoCapture
    monkeypatch.setattr(frames_module.cv2, "VideoCapture", lambda source: capture)
    with VideoFrames("webcam:0") as frames:
        monkeypatch.setattr(frames_module.cv2, "VideoCapture", real)
        progress = annotate_video(frames, find, lines=tmp_path / "out.jsonl")
    assert numbers(tmp_path / "out.jsonl") == [0, 39], "what came in between is passed over"
    assert progress.frames == 2
    assert capture.released
