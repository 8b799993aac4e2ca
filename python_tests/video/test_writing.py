"""Videos and lines that were begun are whole, whatever ends them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from video_files import number_of, picture, read_video

import litehrnet_cuda
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.video.writing import JsonLines, VideoWriter


def codec_of(file: Path) -> str:
    capture = cv2.VideoCapture(str(file))
    return int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").decode()


def test_pictures_become_an_mpeg4_video(tmp_path: Path) -> None:
    file = tmp_path / "new folder" / "улица.mp4"
    with VideoWriter(file, 12.5) as writer:
        for index in range(9):
            writer.write(picture(index))
        assert not file.exists()
    assert [number_of(image) for image in read_video(file)] == list(range(9))
    assert codec_of(file) in ("FMP4", "mp4v")  # how OpenCV names MPEG-4 Part 2
    assert cv2.VideoCapture(str(file)).get(cv2.CAP_PROP_FPS) == 12.5
    assert [entry.name for entry in file.parent.iterdir()] == [file.name]


def test_positions_keep_the_time(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", 10) as writer:
        for index, position in ((0, 0), (1, 3), (2, 3), (3, 4)):
            writer.write(picture(index), position)
    # Two pictures are missing before position 3, whose place is then taken.
    assert [number_of(image) for image in read_video(tmp_path / "a.mp4")] == [0, 0, 0, 1, 3]


def test_a_gap_is_filled_for_ten_seconds_at_most(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", 2) as writer:
        writer.write(picture(0), 0)
        writer.write(picture(1), 10**9)
        assert writer.count == 1 + 20 + 1
        writer.write(picture(2), 10**9 + 1)  # which goes on from there
        writer.write(picture(3), 10**9 + 3)
        assert writer.count == 22 + 1 + 2


def test_a_gap_shows_the_last_picture_whose_memory_may_be_used_again(tmp_path: Path) -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    with VideoWriter(tmp_path / "a.mp4", 10) as writer:
        writer.write(image, 0)
        image[:] = 255
        writer.write(image, 3)
    assert [round(float(found.mean()) / 255) for found in read_video(tmp_path / "a.mp4")] == [0, 0, 0, 1]


@pytest.mark.parametrize("size", [(65, 49), (33, 120), (16, 16)])
def test_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    with VideoWriter(tmp_path / "a.mp4", 10) as writer:
        for index in range(3):
            writer.write(picture(index, size))
    found = read_video(tmp_path / "a.mp4")
    assert len(found) == 3
    # Video has colour for blocks of two pixels: an odd row or column may go.
    assert np.abs(np.subtract(found[0].shape[1::-1], size)).max() <= 1


def test_pictures_of_another_size_are_fitted(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", 10) as writer:
        writer.write(picture(1))
        writer.write(picture(2, (128, 96)))
    assert [number_of(image) for image in read_video(tmp_path / "a.mp4")] == [1, 2]


def test_an_interrupt_leaves_a_whole_video(tmp_path: Path) -> None:

    def interrupted() -> None:
        with VideoWriter(tmp_path / "a.mp4", 10) as writer:
            for index in range(5):
                writer.write(picture(index))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(read_video(tmp_path / "a.mp4")) == 5
    assert len(list(tmp_path.iterdir())) == 1


def test_without_a_picture_there_is_no_file(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", 10):
        pass
    assert list(tmp_path.iterdir()) == []


def test_places_and_pictures_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"a.mp4: cannot be written"), VideoWriter(tmp_path / "file" / "a.mp4", 9) as w:
        w.write(picture(0))
    with pytest.raises(InputError, match=r"pictures of 20000x2 .* cannot be written"):
        with VideoWriter(tmp_path / "a.mp4", 9) as writer:
            writer.write(picture(0, (20_000, 2)))
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


FULL = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.video.writing import JsonLines, VideoWriter

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
folder = Path(sys.argv[1])
noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
for make, item in (
    (lambda: VideoWriter(folder / "a.mp4", 10), noise),
    (lambda: JsonLines(folder / "a.jsonl"), {"a": "b" * 900}),
):
    try:
        with make() as writer:
            for _ in range(200):
                writer.write(item)
    except InputError as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file sizes are POSIX's")
def test_a_full_disk_is_said(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(litehrnet_cuda.__file__).parents[1])}
    run = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True, env=environment
    )
    video, lines = run.stdout.splitlines()
    assert "a.mp4: cannot be written: " in video
    assert "of 200 pictures arrived in the file" in video
    assert "a.jsonl: cannot be written (" in lines
    # The lines that fitted are there, whole.
    kept = (tmp_path / "a.jsonl").read_text().splitlines()
    assert 15 < len(kept) < 25
    assert all(json.loads(line) == {"a": "b" * 900} for line in kept)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.jsonl"]


def test_lines_are_there_at_once(tmp_path: Path) -> None:
    file = tmp_path / "new folder" / "a.jsonl"
    with JsonLines(file) as lines:
        for number in range(3):
            lines.write({"frame": number, "name": "улица\n"})
            assert [json.loads(line)["frame"] for line in file.read_text(encoding="utf-8").splitlines()] == [
                *range(number + 1)
            ]


def test_lines_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with JsonLines(tmp_path / "file" / "a.jsonl") as lines, pytest.raises(InputError, match=r"a.jsonl: cannot be w"):
        lines.write({})
    (tmp_path / "old.jsonl").write_text("{}\n")
    with JsonLines(tmp_path / "old.jsonl"), JsonLines(tmp_path / "new.jsonl"):
        pass  # nothing is found, so nothing is lost and nothing begun
    assert (tmp_path / "old.jsonl").read_text() == "{}\n"
    assert not (tmp_path / "new.jsonl").exists()
    with JsonLines(tmp_path / "a.jsonl") as lines, pytest.raises(ValueError, match="JSON"):
        lines.write({"score": float("nan")})
