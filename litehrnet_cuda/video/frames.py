"""Frames of video files, cameras and streams, one after the other."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from litehrnet_cuda.data.images import quiet_opencv
from litehrnet_cuda.errors import InputError

Array = np.ndarray[Any, Any]

SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"),
    *(".wmv", ".flv", ".3gp", ".ogv"),
)
WEBCAM = "webcam:"
_STREAMS = ("rtsp://", "rtsps://", "rtmp://", "http://", "https://", "udp://", "tcp://", "srt://")

DEFAULT_RATE = 25.0  # of sources that do not say theirs
_HIGHEST_RATE = 480.0  # what is beyond, counts ticks of a clock rather than frames
_PATIENCE = 3.0  # seconds without a picture, after which a camera or stream has ended


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a video.

    Args:
        index: its number, from 0; broken frames are counted where it is known that they were there.
        time: seconds since the first frame: of the video, or of the clock if the source is live.
        image: ``[H, W, 3]`` uint8 BGR.
    """

    index: int
    time: float
    image: Array


@dataclass
class Damage:
    """What could not be read.

    Args:
        missing: the number of frames.
        after: the frames, by number, after which some are missing, with the second that they belong to.
        ended: whether a live source gave no more pictures; others end by themselves.
    """

    missing: int = 0
    after: list[tuple[int, float]] = field(default_factory=list)
    ended: bool = False


def is_live(source: str | Path | int) -> bool:
    """Whether a source goes on in its own time: a camera or a stream."""
    return isinstance(source, int) or str(source).startswith((WEBCAM, *_STREAMS))


def is_video(source: str | Path | int) -> bool:
    """Whether a source is a camera, a stream or, by its name, a video file."""
    return is_live(source) or Path(str(source)).suffix.lower() in SUFFIXES


class VideoFrames:
    """The frames of a video, to be gone through once.

    Example::

        with VideoFrames("street.mp4") as frames:
            for frame in frames:
                print(frame.time, frame.image.shape)

    Broken frames are left out; :attr:`damage` tells afterwards how many there were, and where.

    Args:
        source: a file; a camera as its number or ``"webcam:0"``; or the address of a stream, such as
            ``"rtsp://..."``.

    Attributes:
        name: what to call the source in messages.
        live: whether it is a camera or a stream, which has no end.
        rate: frames per second, as the source says.
        count: the number of frames, as the source says, or None if it does not know.
        damage: what could not be read so far; complete once all frames were gone through.

    Raises:
        InputError: for a source that does not exist or cannot be opened.
    """

    def __init__(self, source: str | Path | int) -> None:
        quiet_ffmpeg()
        self.name = f"{WEBCAM}{source}" if isinstance(source, int) else str(source)
        self.live = is_live(source)
        with quiet_opencv():
            self._capture = _open(self.name, self.live)
        rate = self._property(cv2.CAP_PROP_FPS)
        count = self._property(cv2.CAP_PROP_FRAME_COUNT)
        self.rate = rate if 0 < rate <= _HIGHEST_RATE else DEFAULT_RATE
        self.count = int(count) if not self.live and 0 < count < 2**31 else None
        self.damage = Damage()

    def __enter__(self) -> VideoFrames:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        return self._live_frames() if self.live else self._file_frames()

    def close(self) -> None:
        """Lets go of the file or the camera."""
        self._capture.release()

    def _live_frames(self) -> Iterator[Frame]:
        index, failures, start, last = 0, 0, None, 0.0
        failing = 0.0  # since when
        while True:
            read, image = self._capture.read()
            now = time.monotonic()
            if not read:
                failing = failing if failures else now
                if now - failing > _PATIENCE:
                    break
                failures += 1
                time.sleep(min(0.01, 1 / self.rate))
                continue
            last = now
            if failures:
                self._note(failures, index - 1, 0.0 if start is None else now - start)
            start = now if start is None else start
            yield Frame(index, now - start, np.asarray(image))
            index, failures = index + 1, 0
        if start is None:
            raise InputError(f"{self.name}: it can be opened, but gave no picture for {_PATIENCE:g} seconds")
        self.damage.ended = True
        self.damage.after.append((index - 1, last - start))

    def _file_frames(self) -> Iterator[Frame]:
        index, delivered, last, start = 0, 0, -1 / self.rate, None
        gaps: list[tuple[int, float]] = []
        while True:
            if not self._capture.grab():
                found = self._seek_beyond(index)
                if found is None:
                    break
                self._note(found - index, index - 1, last)
                index = found
            read, image = self._capture.retrieve()
            if read:
                stamp = self._property(cv2.CAP_PROP_POS_MSEC) / 1000
                start = stamp if start is None else start
                now = stamp - start if math.isfinite(stamp) and stamp - start > last else last + 1 / self.rate
                if index and now - last > 1.5 / self.rate:
                    gaps.append((index - 1, last))
                yield Frame(index, now, np.asarray(image))
                last, delivered = now, delivered + 1
            else:
                self._note(1, index - 1, last)
            index += 1
        # Some decoders leave frames out without a word. That a video is slower in places is no damage by itself.
        if self.count is not None and self.count - index > 0:
            self.damage.missing += self.count - index
            self.damage.after += [gap for gap in gaps if gap not in self.damage.after] or [(index - 1, last)]
            self.damage.after.sort()

    def _seek_beyond(self, index: int) -> int | None:
        """After a failure at frame ``index``, the number of a later one that has been grabbed, or None at the end."""
        step = 1
        while self.count is not None and index + step < self.count:
            self._capture.set(cv2.CAP_PROP_POS_FRAMES, index + step)
            if self._capture.grab():
                # Frames that the container tells apart by time come out where they are, not where they were wanted.
                return max(index + 1, round(self._property(cv2.CAP_PROP_POS_FRAMES)) - 1)
            step *= 2  # each attempt may take a while; a file that lacks an hour needs few
        return None

    def _note(self, count: int, index: int, seconds: float) -> None:
        self.damage.missing += count
        self.damage.after.append((index, max(seconds, 0.0)))

    def _property(self, identifier: int) -> float:
        return float(self._capture.get(identifier))


def describe_damage(frames: VideoFrames, places: int = 3) -> str | None:
    """One sentence on the frames that could not be read, or None if there were none."""
    damage, said = frames.damage, []
    where = [
        f"after frame {index} ({seconds:.2f} s)" if index >= 0 else "at the begin" for index, seconds in damage.after
    ]
    end = where.pop() if damage.ended else ""
    if damage.missing:
        more = f" and in {len(where) - places} more places" if len(where) > places else ""
        of = f" of {frames.count}" if frames.count else ""
        said.append(f"skipped {damage.missing}{of} frames that cannot be read, {', '.join(where[:places])}{more}")
    if end:
        said.append(f"it ended: no more pictures came {end}")
    return f"{frames.name}: {'; '.join(said)}" if said else None


def quiet_ffmpeg() -> None:
    """Keeps FFmpeg from reporting every broken packet on standard error, thousands of lines, unless its user wishes.

    OpenCV reads the variable once, when it uses FFmpeg for the first time.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


def require_utf8(path: Path) -> None:
    """Raises :class:`InputError` for a name that OpenCV's videos cannot have: it would end the process."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise InputError(f"{str(path)!r}: expected a name in UTF-8 for a video; rename it") from None


def _open(name: str, live: bool) -> Any:
    if name.startswith(WEBCAM):
        number = name.removeprefix(WEBCAM)
        if not number.isdecimal() or len(number) > 4:
            raise InputError(f"{name}: expected the number of a camera, such as {WEBCAM}0")
        capture = cv2.VideoCapture(int(number))
        if not capture.isOpened():
            raise InputError(
                f"{name}: no camera of this number can be opened; see that it is connected, that no other program uses "
                f"it, and that you may use it"
            )
        return capture
    if not live:
        path = Path(name)
        require_utf8(path)
        try:
            if not path.is_file():
                there = "got a folder" if path.is_dir() else "but there is no such file"
                raise InputError(f"{path}: expected a video, {there}")
            with path.open("rb") as file:
                empty = not file.read(1)
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from None
        if empty:
            raise InputError(f"{path}: expected a video, got an empty file")
    capture = cv2.VideoCapture(name)
    if not capture.isOpened():
        raise InputError(
            f"{name}: the stream cannot be opened; see that the address is right and that it can be reached"
            if live
            else f"{name}: expected a video that OpenCV can decode; the file is damaged or of another kind"
        )
    return capture
