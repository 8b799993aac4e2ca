"""What is written as a video goes by: pictures as an MP4 file, results as lines of JSON."""

from __future__ import annotations

import io
import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from litehrnet_cuda.data.images import quiet_opencv
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.files import written_whole
from litehrnet_cuda.video.frames import quiet_ffmpeg, require_utf8

Array = np.ndarray[Any, Any]

# MPEG-4 Part 2, which every build of OpenCV can write (H.264 is in few, for its licence). VLC, mpv, QuickTime, the
# players of Windows and of Linux desktops, and video editors play it; web browsers do not.
CODEC = "mp4v"
_LONGEST_GAP = 10.0  # seconds that the last picture stands for what is missing


class VideoWriter:
    """An MP4 file (MPEG-4 Part 2), written picture by picture; it takes its place when it is closed.

    A context: it is closed at its end, also after Ctrl-C or an error, with the pictures so far.

    Args:
        path: of the file, ending in ``.mp4``.
        rate: pictures per second.

    Raises:
        InputError: if the place cannot be written to, or pictures of this size cannot be encoded.
    """

    def __init__(self, path: str | Path, rate: float) -> None:
        self.path = Path(path)
        require_utf8(self.path)
        self.rate = rate
        self.count = 0
        self._cut = 0  # pictures by which gaps were shortened
        self._last: Array | None = None
        self._size = (0, 0)
        self._writer: Any = None
        self._draft = Path()
        self._place = ExitStack()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def write(self, image: Array, position: int | None = None) -> None:
        """Adds a picture.

        Args:
            image: ``[H, W, 3]`` uint8 BGR; of another size than the first it is resized.
            position: its number in the video. What is missing before it is filled with the last picture (before the
                first one, with that), and a gap is shortened to ten seconds; a picture whose place is taken is left
                out. By default the next number.
        """
        if self._writer is None:
            self._open(image)
        if (image.shape[1], image.shape[0]) != self._size:
            image = cv2.resize(image, self._size, interpolation=cv2.INTER_AREA)
        missing = 0 if position is None else position - self._cut - self.count
        if missing < 0:
            return
        longest = round(_LONGEST_GAP * self.rate)
        self._cut += max(0, missing - longest)
        for _ in range(min(missing, longest)):
            self._writer.write(image if self._last is None else self._last)
            self.count += 1
        self._writer.write(image)
        self.count += 1
        self._last = image.copy()  # the caller may use its memory again

    def close(self) -> None:
        """Finishes the file. Without a picture there is none.

        Raises:
            InputError: if the file is not whole, which a full disk is the likely cause of.
        """
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        with self._place:
            with quiet_opencv():
                capture = cv2.VideoCapture(str(self._draft))
                found = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
                capture.release()
            if found != self.count:
                raise InputError(
                    f"{self.path}: cannot be written: {found} of {self.count} pictures arrived in the file; make room "
                    f"or choose another place"
                )

    def _open(self, image: Array) -> None:
        self._size = (image.shape[1], image.shape[0])
        self._draft = self._place.enter_context(written_whole(self.path))
        quiet_ffmpeg()
        with quiet_opencv():
            self._writer = cv2.VideoWriter(str(self._draft), cv2.VideoWriter.fourcc(*CODEC), self.rate, self._size)
        if not self._writer.isOpened():
            self._writer = None
            width, height = self._size
            with self._place:  # which removes the draft
                raise InputError(
                    f"{self.path}: pictures of {width}x{height} pixels, {self.rate:g} per second, cannot be written as "
                    f"MPEG-4, or the place cannot be written to"
                )


class JsonLines:
    """A file of one JSON object per line, which is whole after each.

    A context. Whatever ends the program, the file holds the lines so far.

    Args:
        path: of the file, which is replaced when the first line is written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file: io.FileIO | None = None

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def write(self, record: dict[str, Any]) -> None:
        """Adds a line.

        Raises:
            InputError: if it cannot be written; the file then holds the lines before it.
        """
        line = json.dumps(record, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        file = self._opened()
        end = file.tell()
        try:
            if file.write(line) != len(line):
                raise OSError(28, os.strerror(28))
        except OSError as error:
            try:
                file.truncate(end)  # to whole lines
            except OSError:
                pass
            raise self._refusal(error) from error

    def close(self) -> None:
        """Closes the file. Without a line there is none."""
        if self._file is not None:
            self._file.close()

    def _opened(self) -> io.FileIO:
        if self._file is None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self.path.open("wb", buffering=0)  # a line is one write
            except OSError as error:
                raise self._refusal(error) from error
        return self._file

    def _refusal(self, error: OSError) -> InputError:
        return InputError(
            f"{self.path}: cannot be written ({error.strerror or error}); make room or choose another place"
        )
