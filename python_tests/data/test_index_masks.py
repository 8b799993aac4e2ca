"""Masks come back as the numbers that are in the file, whatever a decoder makes of them."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from litehrnet_cuda.data.index_masks import read_index_mask
from litehrnet_cuda.errors import InputError


def png(values: np.ndarray, bits: int, palette: bool) -> bytes:
    """A PNG file from scratch, each row packed by hand, with colours that have nothing to do with the numbers."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width = values.shape
    shifts = np.arange(7, -1, -1)
    places = (values[..., None] >> np.arange(bits - 1, -1, -1)) & 1  # most significant bit first
    rows = [np.packbits(row.reshape(-1)).tobytes() for row in places]
    assert len(shifts) == 8
    header = struct.pack(">IIBBBBB", width, height, bits, 3 if palette else 0, 0, 0, 0)
    colours = bytes(number * 37 % 256 for number in range(3 * 2**bits))
    extra = chunk(b"PLTE", colours) + chunk(b"tRNS", bytes(2**bits)) if palette else b""
    data = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + data + chunk(b"IEND", b"")


@pytest.mark.parametrize("palette", [True, False])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_png_of_any_depth_with_a_palette_or_without(tmp_path: Path, bits: int, palette: bool) -> None:
    values = np.random.default_rng(bits).integers(0, 2**bits, (13, 11)).astype(np.uint8)
    file = tmp_path / "mask.png"
    file.write_bytes(png(values, bits, palette))
    found = read_index_mask(file)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, values)


def test_other_formats_of_one_channel(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (5, 7)).astype(np.uint8)
    for name in ("mask.bmp", "mask.tiff"):
        assert cv2.imwrite(str(tmp_path / name), values)
    np.testing.assert_array_equal(read_index_mask(tmp_path / "mask.tiff"), values)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.zeros((4, 4, 3), np.uint8), r"expected a mask with the number .* \(8 bits\), got colours"),
        (np.zeros((4, 4), np.uint16), r"got numbers of 16 bits"),
    ],
)
def test_colours_and_large_numbers_are_refused(tmp_path: Path, content: np.ndarray, message: str) -> None:
    cv2.imwrite(str(tmp_path / "mask.png"), content)
    with pytest.raises(InputError, match=message):
        read_index_mask(tmp_path / "mask.png")


@pytest.mark.parametrize("cut", [0, 7, 20, 60, -20])
@pytest.mark.parametrize("palette", [True, False])
def test_damaged_files_are_refused(tmp_path: Path, cut: int, palette: bool, capfd: pytest.CaptureFixture[str]) -> None:
    values = np.random.default_rng(1).integers(0, 4, (40, 40)).astype(np.uint8)
    content = png(values, 8, palette)
    file = tmp_path / "mask.png"
    file.write_bytes(content[: cut or 0] if cut >= 0 else content[: len(content) // 2])
    with pytest.raises(InputError, match=r"mask\.png: expected a mask"):
        read_index_mask(file)
    assert capfd.readouterr().err == ""


def test_absent_files_and_folders_are_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        read_index_mask(tmp_path / "absent.png")
    with pytest.raises(InputError, match="cannot be read"):
        read_index_mask(tmp_path)
