"""Reading and finding image files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from litehrnet_cuda.errors import InputError

Array = np.ndarray[Any, Any]

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def read_image(path: str | Path) -> Array:
    """The pixels of an image file, turned upright as its EXIF orientation says.

    Returns:
        ``[H, W, 3]`` uint8 BGR; a grey image has three equal channels, transparency is dropped.

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
    if content.size == 0:
        raise InputError(f"{path}: expected an image, got an empty file")
    try:
        image = cv2.imdecode(content, cv2.IMREAD_COLOR)
    except cv2.error:  # such as an image of more pixels than OpenCV takes
        image = None
    if image is None:
        raise InputError(f"{path}: expected an image that OpenCV can decode; the file is damaged or of another kind")
    return np.asarray(image)


def find_images(paths: Sequence[str | Path]) -> list[Path]:
    """The image files among paths: files as they are given, folders by the images in them, in order of name.

    Raises:
        InputError: if a path does not exist, or a folder holds no image.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
            if not inside:
                raise InputError(f"{path}: expected images ({', '.join(SUFFIXES)}) in the folder, found none")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise InputError(f"{path}: expected an image or a folder, but there is no such file")
    return found
