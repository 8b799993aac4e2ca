"""Frames arrive in order with their times, and what cannot be read is counted and named."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest
from video_files import FakeCapture, number_of, write_video

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.video import frames as module
from litehrnet_cuda.video.frames import VideoFrames, describe_damage, is_live, is_video

Opens = Callable[[FakeCapture], None]


@pytest.fixture
def opens(monkeypatch: pytest.MonkeyPatch) -> Opens:
    """Makes OpenCV open this in place of any source."""

    def put(capture: FakeCapture) -> None:
        monkeypatch.setattr(module.cv2, "VideoCapture", lambda source: capture)

    return put


def test_frames_of_a_file(tmp_path: Path) -> None:
    with VideoFrames(write_video(tmp_path / "a.mp4", 12, rate=8)) as frames:
        assert (frames.rate, frames.count, frames.live) == (8, 12, False)
        found = [(frame.index, frame.time, number_of(frame.image)) for frame in frames]
    assert [(index, number) for index, _, number in found] == [(i, i) for i in range(12)]
    # Containers keep milliseconds at least.
    assert [time for _, time, _ in found] == pytest.approx([i / 8 for i in range(12)], abs=1e-3)
    assert describe_damage(frames) is None


@pytest.mark.parametrize(("name", "codec"), [("a.avi", "MJPG"), ("a.webm", "VP80"), ("a.mkv", "mp4v")])
def test_other_containers(tmp_path: Path, name: str, codec: str) -> None:
    with VideoFrames(write_video(tmp_path / name, 6, codec=codec)) as frames:
        assert [number_of(frame.image) for frame in frames] == list(range(6))


def test_gif_and_video_of_people(shared: Path) -> None:
    with VideoFrames(shared / "data" / "demo" / "demo_coco.gif") as frames:
        found = list(frames)
    assert [frame.index for frame in found] == list(range(39))
    assert found[0].image.shape == (180, 320, 3)
    # Its delays are of 0.14 and 0.15 s.
    assert {round(b.time - a.time, 2) for a, b in itertools.pairwise(found)} <= {0.14, 0.15}
    with VideoFrames(shared / "data" / "demo" / "demo.mp4") as frames:
        assert [round(frame.time, 3) for frame in frames] == [0, 0.2, 0.4, 0.6, 0.8]


def test_a_file_that_is_cut_in_the_middle_says_what_is_missing(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "a.avi", 40, codec="MJPG").read_bytes()
    (tmp_path / "b.avi").write_bytes(whole[: len(whole) // 2])
    with VideoFrames(tmp_path / "b.avi") as frames:
        found = [number_of(frame.image) for frame in frames]
    assert 10 < len(found) < 30
    assert found[:-1] == list(range(len(found) - 1))  # the last one is the one that was cut
    last = len(found) - 1
    sentence = f"skipped {40 - len(found)} of 40 frames that cannot be read, after frame {last} ({last / 10:.2f} s)"
    assert str(describe_damage(frames)).endswith(sentence)


def test_damage_in_the_middle_is_skipped(tmp_path: Path) -> None:
    file = write_video(tmp_path / "a.mp4", 150)
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = bytes(3000)  # four frames, after which the decoder gives up
    file.write_bytes(content)
    with VideoFrames(file) as frames:
        found = [(frame.index, number_of(frame.image)) for frame in frames]
    assert found[-1] == (149, 149), "the frames after the damage are there, with their numbers"
    assert 3 <= frames.damage.missing == 150 - len(found) < 50
    assert len(frames.damage.after) == 1
    assert 60 < frames.damage.after[0][0] < 90
    # Of another number is at most the picture before, where damage has begun.
    assert sum(index != number for index, number in found) <= 1


def test_single_broken_frames_are_skipped_and_named(tmp_path: Path, opens: Opens) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    opens(FakeCapture(10, broken=(3, 7), count_said=10))
    with VideoFrames(tmp_path / "a.mp4") as frames:
        assert [frame.index for frame in frames] == [0, 1, 2, 4, 5, 6, 8, 9]
    sentence = "a.mp4: skipped 2 of 10 frames that cannot be read, after frame 2 (0.20 s), after frame 6 (0.60 s)"
    assert str(describe_damage(frames)).endswith(sentence)


def test_a_first_broken_frame_and_many_places(tmp_path: Path, opens: Opens) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    opens(FakeCapture(12, broken=(0, 2, 4, 6, 8), count_said=12))
    with VideoFrames(tmp_path / "a.mp4") as frames:
        assert [frame.index for frame in frames] == [1, 3, 5, 7, 9, 10, 11]
    assert "at the begin, after frame 1 (0.00 s), after frame 3 (0.20 s) and in 2 more places" in str(
        describe_damage(frames)
    )


def test_a_decoder_that_gives_up_is_led_beyond(tmp_path: Path, opens: Opens) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    opens(FakeCapture(30, count_said=30, stuck_at=10, stuck_to=14))
    with VideoFrames(tmp_path / "a.mp4") as frames:
        # One, two, four frames farther: what lies between is given up.
        assert [frame.index for frame in frames] == [*range(10), *range(14, 30)]
    assert frames.damage.missing == 4
    assert frames.damage.after == [(9, pytest.approx(0.9))]


def test_times_that_stand_still_are_replaced(tmp_path: Path, opens: Opens, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    capture = FakeCapture(4)
    real = capture.get
    monkeypatch.setattr(capture, "get", lambda name: 0.0 if name == cv2.CAP_PROP_POS_MSEC else real(name))
    opens(capture)
    with VideoFrames(tmp_path / "a.mp4") as frames:
        assert [frame.time for frame in frames] == pytest.approx([0, 0.1, 0.2, 0.3])


def test_a_camera(opens: Opens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.2)
    capture = FakeCapture(5, broken=(2,), rate=100)
    opens(capture)
    with VideoFrames(0) as frames:
        assert (frames.name, frames.live, frames.count) == ("webcam:0", True, None)
        found = list(frames)  # until it has failed for a while
    assert [number_of(frame.image) for frame in found] == [0, 1, 3, 4]
    assert [frame.index for frame in found] == [0, 1, 2, 3]
    times = [frame.time for frame in found]
    assert times == sorted(times)
    assert times[0] == 0
    assert frames.damage.missing == 1
    said = describe_damage(frames)
    assert said is not None
    assert said.startswith("webcam:0: skipped 1 frames that cannot be read, after frame 1 (")
    assert " s); it ended: no more pictures came after frame 3 (" in said
    assert capture.released


def test_a_camera_has_not_ended_while_nobody_asked(opens: Opens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.2)
    opens(FakeCapture(5, broken=(2,), rate=100))
    found = []
    with VideoFrames(0) as frames:
        for frame in frames:
            found.append(number_of(frame.image))
            time.sleep(0.3 if len(found) == 2 else 0)
    assert found == [0, 1, 3, 4]


def test_a_camera_without_a_picture_is_said(opens: Opens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.1)
    opens(FakeCapture(0))
    with VideoFrames(0) as frames, pytest.raises(InputError, match=r"webcam:0: it can be opened, but gave no picture"):
        next(iter(frames))


def test_a_name_that_opencv_cannot_take_is_said(tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/v\xe9.mp4")
    Path(name).touch()
    with pytest.raises(InputError, match="expected a name in UTF-8 for a video; rename it"):
        VideoFrames(name)


@pytest.mark.parametrize("rate", [0.0, -1.0, 90000.0, float("nan")])
def test_a_rate_that_is_none(opens: Opens, rate: float) -> None:
    opens(FakeCapture(1, rate=rate))
    assert VideoFrames("webcam:1").rate == 25


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("missing.mp4", "missing.mp4: expected a video, but there is no such file"),
        (".", ": expected a video, got a folder"),
        ("empty.mp4", "empty.mp4: expected a video, got an empty file"),
        ("text.mp4", "text.mp4: expected a video that OpenCV can decode; the file is damaged or of another kind"),
        ("webcam:front", "webcam:front: expected the number of a camera, such as webcam:0"),
        ("webcam:77", "webcam:77: no camera of this number can be opened"),
        ("rtsp://127.0.0.1:9/none", "rtsp://127.0.0.1:9/none: the stream cannot be opened"),
    ],
)
def test_sources_that_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], source: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.mp4").touch()
    Path("text.mp4").write_text("hello\n" * 100)
    with pytest.raises(InputError) as caught:
        VideoFrames(source)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("source", "video", "live"),
    [
        ("a.MP4", True, False),
        (Path("a.gif"), True, False),
        ("a.jpg", False, False),
        ("webcam:0", True, True),
        (0, True, True),
        ("rtsp://camera/1", True, True),
        ("mp4", False, False),
    ],
)
def test_what_is_a_video(source: str | Path | int, video: bool, live: bool) -> None:
    assert (is_video(source), is_live(source)) == (video, live)
