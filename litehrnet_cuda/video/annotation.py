"""A video in, and out come the same one with what was found drawn on it, and a line of JSON for each frame."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from litehrnet_cuda.video.frames import Frame, VideoFrames
from litehrnet_cuda.video.poses import ahead_of
from litehrnet_cuda.video.threads import WriteBehind
from litehrnet_cuda.video.writing import JsonLines, VideoWriter

Array = np.ndarray[Any, Any]


class Finding(Protocol):
    """What was found in an image."""

    def draw(self, image: Array) -> Array:
        """A copy of the image, ``[H, W, 3]`` uint8 BGR, with it drawn on."""
        ...

    def record(self) -> dict[str, Any]:
        """It as an object of JSON."""
        ...

    def __len__(self) -> int:
        """How many there are of what is counted, such as people."""
        ...


@dataclass
class Progress:
    """How far a video has been worked on: frames written, what was counted in them, seconds since the first one."""

    frames: int = 0
    found: int = 0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Frames per second, the first one aside, for which networks are made ready."""
        return max(self.frames - 1, 0) / self.seconds if self.seconds else 0.0


def annotate_video(
    frames: VideoFrames,
    find: Callable[[Frame], Finding],
    *,
    video: str | Path | None = None,
    lines: str | Path | None = None,
    limit: int | None = None,
    watch: Callable[[Iterable[Frame]], Iterable[Frame]] = iter,
    progress: Progress | None = None,
) -> Progress:
    """Finds something in each frame of a video, and writes it down as it goes.

    Reading and writing run in threads beside ``find``. Whatever stops it, such as Ctrl-C, the files hold what there is
    so far; only a process that is killed leaves the lines alone.

    Args:
        frames: the video.
        find: called with each frame, in order.
        video: the MP4 file to write, at the rate of the source. Of a live source a picture is shown until the next one
            came, so that the video takes as long as the scene.
        lines: the file of JSON lines to write: ``frame``, ``time`` and what :meth:`Finding.record` gives.
        limit: stop after so many frames.
        watch: passes on the frames, as ``tqdm`` does to show how far it is.
        progress: kept up to date, for whoever wants to know after an interruption.

    Returns:
        the progress: how many frames there were, and how long they took.

    Raises:
        InputError: for a place that cannot be written to, and whatever ``find`` raises.
    """
    progress = Progress() if progress is None else progress
    with ExitStack() as stack:
        record = stack.enter_context(JsonLines(lines)) if lines else None
        picture = stack.enter_context(VideoWriter(video, frames.rate)) if video else None

        def write(item: tuple[Frame, Finding]) -> None:
            frame, found = item
            if record:
                record.write(found.record())
            if picture:
                picture.write(found.draw(frame.image), round(frame.time * frames.rate))
            progress.frames += 1
            progress.found += len(found)

        writer = WriteBehind(write)
        stack.callback(writer.close)
        ready = stack.enter_context(closing(ahead_of(frames)))
        start = None
        for number, frame in enumerate(watch(ready), start=1):
            writer.put((frame, find(frame)))
            now = time.perf_counter()
            start = now if start is None else start
            progress.seconds = now - start
            if number == limit:
                break
    return progress
