"""Files of masks whose pixels are numbers of classes."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from litehrnet_cuda.data.images import quiet_opencv
from litehrnet_cuda.errors import InputError

Array = np.ndarray[Any, Any]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _PALETTE = 0, 3  # of a PNG file's colour types, those whose samples are single numbers


def read_index_mask(path: str | Path) -> Array:
    """The numbers in a mask, as they are in the file.

    A PNG file with a palette holds numbers too, and colours for them, which decoders give instead; one of less than
    eight bits holds small numbers, which decoders stretch over 0 to 255. Here both stay the numbers that they are.

    Args:
        path: of a PNG file with one number per pixel, of at most 8 bits, or of any image file of one channel.

    Returns:
        ``[H, W]`` uint8

    Raises:
        InputError: if there is no such file, it cannot be decoded, or holds colours or larger numbers.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: expected a mask, but there is no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    bits = 8
    if content.startswith(_SIGNATURE) and len(content) > 33:
        bits, content = _without_palette(content)
    try:
        with quiet_opencv():
            mask = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED) if content else None
    except cv2.error:
        mask = None
    if mask is None:
        raise InputError(f"{path}: expected a mask that OpenCV can decode; the file is damaged or of another kind")
    if mask.ndim != 2 or mask.dtype != np.uint8:
        kind = "colours" if mask.ndim != 2 else f"numbers of {8 * mask.itemsize} bits"
        raise InputError(f"{path}: expected a mask with the number of a class at every pixel (8 bits), got {kind}")
    return np.asarray(mask if bits == 8 else mask // (255 // (2**bits - 1)), np.uint8)


def _without_palette(content: bytes) -> tuple[int, bytes]:
    """Bits per sample, and the file as a grey image where it has a palette: the samples are the same."""
    header = bytearray(content[16:29])  # width, height, bits, colour type, compression, filter, interlace
    bits, colour = header[8], header[9]
    if colour not in (_GREY, _PALETTE) or bits > 8:
        return 8, content
    if colour == _GREY:
        return bits, content
    header[9] = _GREY
    chunk = b"IHDR" + bytes(header)
    parts = [_SIGNATURE, struct.pack(">I", len(header)), chunk, struct.pack(">I", zlib.crc32(chunk))]
    place = 33
    while place + 12 <= len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        if content[place + 4 : place + 8] not in (b"PLTE", b"tRNS", b"bKGD", b"hIST", b"sBIT"):
            parts.append(content[place : place + 12 + length])
        place += 12 + length
    return bits, b"".join(parts)
