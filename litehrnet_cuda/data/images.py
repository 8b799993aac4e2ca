"""Image files: finding, reading, encoding."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from litehrnet_cuda.errors import InputError

Array = np.ndarray[Any, Any]

_SCAN, _END = 0xDA, 0xD9  # markers of JPEG: start of a scan, end of the image
_MARKER = re.compile(
    rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL
)  # that ends a scan's data: 0 stands for a byte 255 in them, restarts are parts of them
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def read_image(path: str | Path, *, upright: bool = True) -> Array:
    """The pixels of an image file.

    Args:
        path: of the file.
        upright: turn the image as its EXIF orientation says; annotations are of images that nobody has turned.

    Returns:
        ``[H, W, 3]`` uint8 BGR; a grey image has three equal channels, transparency is dropped, of 16 bits the upper
        8 are kept.

    Raises:
        InputError: if there is no such file, or it cannot be read or decoded.
    """
    path = Path(path)
    try:
        content = np.frombuffer(path.read_bytes(), np.uint8)
    except FileNotFoundError:
        raise InputError(f"{path}: expected an image, but there is no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: expected an image, got a folder") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError:  # a zero byte in the name
        raise InputError(f"{str(path)!r}: expected an image, got a name that no file can have") from None
    if content.size == 0:
        raise InputError(f"{path}: expected an image, got an empty file")
    if _is_cut_off(content):  # some versions of OpenCV make a partly grey image of it
        raise InputError(f"{path}: expected a whole image, got a JPEG file that ends early; copy it again")
    flags = cv2.IMREAD_COLOR if upright else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        with quiet_opencv():
            image = cv2.imdecode(content, flags)
    except cv2.error:  # such as an image of more pixels than OpenCV takes
        image = None
    if image is None:
        raise InputError(f"{path}: expected an image that OpenCV can decode; the file is damaged or of another kind")
    return np.asarray(image)


def encode_image(image: Array, suffix: str) -> bytes:
    """The content of an image file.

    Args:
        image: ``[H, W, 3]`` uint8 BGR.
        suffix: of the file's name, such as ``".jpg"``, which decides the format.

    Raises:
        InputError: if the format cannot hold the image: JPEG ends at 65500 pixels.
    """
    try:
        with quiet_opencv():
            done, content = cv2.imencode(suffix, image)
    except cv2.error:  # older versions of OpenCV
        done = False
    if not done:
        height, width = image.shape[:2]
        raise InputError(f"an image of {width}x{height} pixels cannot be written as {suffix}")
    return bytes(np.asarray(content))


def find_images(paths: Sequence[str | Path]) -> list[Path]:
    """The image files among paths: files as they are given, folders by the images in them, in order of name.

    Hidden files of a folder are left out, and so is what was found already.

    Raises:
        InputError: if a path does not exist or cannot be looked into, or a folder holds no image.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        try:
            if path.is_dir():
                inside = sorted(file for file in path.iterdir() if _looks_like_image(file))
                if not inside:
                    raise InputError(f"{path}: expected images ({', '.join(SUFFIXES)}) in the folder, found none")
                found += inside
            elif path.exists():
                found.append(path)
            else:
                raise InputError(f"{path}: there is no such file or folder")
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    return list(dict.fromkeys(found))


def _is_cut_off(content: Array) -> bool:
    """Whether a JPEG file ends before its end marker. Other formats are refused by their decoders.

    What follows the marker, such as the film of a moving photograph, is not looked at.
    """
    if bytes(content[:2]) != b"\xff\xd8" or bytes(content[-2:]) == b"\xff\xd9":
        return False
    data, place = content.tobytes(), 2
    while place + 4 <= len(data):
        if data[place] != 0xFF:
            return False  # no JPEG syntax: the decoder's to refuse
        kind = data[place + 1]
        if kind == _END:
            return False
        if kind == 0xFF:  # one of several that may stand before a marker
            place += 1
            continue
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        if kind == _SCAN:
            marker = _MARKER.search(data, place)
            if marker is None:
                return True
            place = marker.start()
    return bytes(data[place : place + 2]) != bytes((0xFF, _END))


def _looks_like_image(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Keeps OpenCV from printing what is reported as an error anyway."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)
