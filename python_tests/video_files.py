"""Small videos for tests, and a camera that is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from litehrnet_cuda.video.frames import quiet_ffmpeg

Array = np.ndarray[Any, Any]

quiet_ffmpeg()  # before the first use of it by any test

SIZE = (64, 48)


def picture(index: int, size: tuple[int, int] = SIZE) -> Array:
    """A picture with its number in eight stripes, dark or bright, which survive any codec: see :func:`number_of`."""
    bits = [(index >> bit) & 1 for bit in range(8)]
    stripes = np.repeat(np.array([60, 200], np.uint8)[bits], -(-size[0] // 8))[: size[0]]
    return np.ascontiguousarray(np.broadcast_to(stripes[None, :, None], (size[1], size[0], 3)))


def number_of(image: Array) -> int:
    """The number that a picture was drawn with."""
    stripe = -(-image.shape[1] // 8)
    bright = [image[:, bit * stripe : (bit + 1) * stripe].mean() > 130 for bit in range(8)]
    return sum(1 << bit for bit in range(8) if bright[bit])


def write_video(path: Path, count: int, rate: float = 10, codec: str = "mp4v", size: tuple[int, int] = SIZE) -> Path:
    """A video of numbered pictures."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), rate, size)
    assert writer.isOpened()
    noise = np.random.default_rng(0).integers(0, 40, (size[1], size[0], 3), np.uint8)
    for index in range(count):
        writer.write(picture(index, size) + np.roll(noise, index, axis=1))  # so that each takes its bytes in the file
    writer.release()
    return path


def read_video(path: Path) -> list[Array]:
    """All pictures of a video."""
    capture = cv2.VideoCapture(str(path))
    pictures = []
    while True:
        read, image = capture.read()
        if not read:
            return pictures
        pictures.append(image)


class FakeCapture:
    """Stands in for cv2.VideoCapture: numbered pictures, some of which cannot be read.

    Args:
        count: of pictures.
        broken: numbers of those that are there but cannot be decoded.
        rate: frames per second; count_said: what the source says its number of frames is, 0 for nothing.
        seekable: whether it goes on after a failure of ``grab`` when it is told where.
        stuck_at: the number at which ``grab`` fails until somebody seeks beyond ``stuck_to``.
    """

    def __init__(
        self,
        count: int,
        *,
        broken: tuple[int, ...] = (),
        rate: float = 10,
        count_said: int = 0,
        stuck_at: int = -1,
        stuck_to: int = -1,
        opens: bool = True,
    ) -> None:
        self.count, self.broken, self.rate, self.count_said = count, broken, rate, count_said
        self.stuck_at, self.stuck_to, self.opens = stuck_at, stuck_to, opens
        self.next = 0
        self.released = False

    def isOpened(self) -> bool:
        return self.opens

    def release(self) -> None:
        self.released = True

    def get(self, identifier: int) -> float:
        return {
            cv2.CAP_PROP_FPS: self.rate,
            cv2.CAP_PROP_FRAME_COUNT: float(self.count_said),
            cv2.CAP_PROP_POS_FRAMES: float(self.next),
            cv2.CAP_PROP_POS_MSEC: 1000 * (self.next - 1) / self.rate if self.rate else 0.0,
        }[identifier]

    def set(self, identifier: int, value: float) -> bool:
        assert identifier == cv2.CAP_PROP_POS_FRAMES
        self.next = int(value)
        return True

    def grab(self) -> bool:
        if self.next >= self.count or self.stuck_at <= self.next < self.stuck_to:
            return False
        self.next += 1
        return True

    def retrieve(self) -> tuple[bool, Array | None]:
        number = self.next - 1
        return (False, None) if number in self.broken else (True, picture(number))

    def read(self) -> tuple[bool, Array | None]:
        return self.retrieve() if self.grab() else (False, None)
