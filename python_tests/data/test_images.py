"""Image files of every kind, and those that are none."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from litehrnet_cuda.data.images import encode_image, find_images, read_image
from litehrnet_cuda.errors import InputError

Array = np.ndarray[Any, Any]


def gradient(height: int = 40, width: int = 60) -> Array:
    """Smooth, so that JPEG hardly changes it, and different in every corner and channel."""
    ys, xs = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    return np.stack([200 * xs, 200 * ys, 100 + 50 * (xs - ys)], axis=-1).astype(np.uint8)


def write(path: Path, image: Array, *flags: int) -> Path:
    path.write_bytes(cv2.imencode(path.suffix, image, flags)[1].tobytes())
    return path


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def jpeg_segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp"])
def test_pixels_come_back(suffix: str, tmp_path: Path) -> None:
    flags = (cv2.IMWRITE_WEBP_QUALITY, 101) if suffix == ".webp" else ()  # 101: without loss
    image = gradient()
    np.testing.assert_array_equal(read_image(str(write(tmp_path / f"a{suffix}", image, *flags))), image)


def test_grey_has_three_equal_channels(tmp_path: Path) -> None:
    grey = gradient()[..., 0]
    np.testing.assert_array_equal(read_image(write(tmp_path / "a.png", grey)), np.repeat(grey[..., None], 3, axis=2))


def test_transparency_is_dropped(tmp_path: Path) -> None:
    image = gradient()
    transparent = np.concatenate([image, np.full((40, 60, 1), 7, np.uint8)], axis=2)
    np.testing.assert_array_equal(read_image(write(tmp_path / "a.png", transparent)), image)


def test_of_16_bits_the_upper_8_are_kept(tmp_path: Path) -> None:
    image = gradient()
    deep = write(tmp_path / "a.png", image.astype(np.uint16) * 256 + 99)
    assert read_image(deep).dtype == np.uint8
    np.testing.assert_array_equal(read_image(deep), image)


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (6, -1), (3, 2), (8, 1)])
def test_turned_upright_as_exif_says(orientation: int, turns: int, tmp_path: Path) -> None:
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)  # orientation, a short, one of them
    exif = b"Exif\0\0MM\0\x2a" + struct.pack(">IH", 8, 1) + entry + struct.pack(">I", 0)
    plain = write(tmp_path / "plain.jpg", gradient())
    content = plain.read_bytes()
    turned = tmp_path / "turned.jpg"
    turned.write_bytes(content[:2] + jpeg_segment(0xE1, exif) + content[2:])
    np.testing.assert_array_equal(read_image(turned), np.rot90(read_image(plain), turns))


def test_jpeg_of_print(tmp_path: Path) -> None:
    """A CMYK file of one grey 8x8 block, written out: four components, DC coefficients of 0."""
    table = jpeg_segment(0xDB, b"\0" + b"\1" * 64)
    frame = jpeg_segment(0xC0, struct.pack(">BHHB", 8, 8, 8, 4) + b"".join(bytes([c, 0x11, 0]) for c in (1, 2, 3, 4)))
    # One code of one bit in each Huffman table: DC "no difference", AC "end of block".
    huffman = b"".join(jpeg_segment(0xC4, bytes([kind, 1]) + bytes(15) + b"\0") for kind in (0x00, 0x10))
    scan = jpeg_segment(0xDA, bytes([4, 1, 0, 2, 0, 3, 0, 4, 0, 0, 63, 0])) + b"\0"
    file = tmp_path / "cmyk.jpg"
    file.write_bytes(b"\xff\xd8" + table + frame + huffman + scan + b"\xff\xd9")
    image = read_image(file)
    assert image.shape == (8, 8, 3)
    assert len(np.unique(image)) == 1


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 30000), (30000, 1)])
def test_odd_sizes(height: int, width: int, tmp_path: Path) -> None:
    assert read_image(write(tmp_path / "a.png", gradient(height, width))).shape == (height, width, 3)


def test_names_in_any_script(tmp_path: Path) -> None:
    image = gradient()
    for name in ("улица.png", "街.png", "a b'c\"d.png", "🙂.png"):
        np.testing.assert_array_equal(read_image(write(tmp_path / name, image)), image)


def unreadable(tmp_path: Path) -> dict[str, Path]:
    png = cv2.imencode(".png", np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))[1].tobytes()
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0))
    end = png_chunk(b"IDAT", zlib.compress(b"")) + png_chunk(b"IEND", b"")
    contents = {
        "empty.jpg": b"",
        "text.jpg": b"not an image\n",
        "beginning.png": png[:60],
        "huge.png": png[:8] + header + end,  # more pixels than OpenCV takes, and than there is memory for
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.jpg").mkdir()
    return {name: tmp_path / name for name in (*contents, "folder.jpg", "missing.jpg")} | {
        "below.jpg": tmp_path / "text.jpg" / "below.jpg",
        "zero": Path("a\0b.jpg"),
    }


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty.jpg", "got an empty file"),
        ("text.jpg", "the file is damaged or of another kind"),
        ("beginning.png", "the file is damaged or of another kind"),
        ("huge.png", "the file is damaged or of another kind"),
        ("folder.jpg", "got a folder"),
        ("missing.jpg", "there is no such file"),
        ("below.jpg", "cannot be read: Not a directory"),
        ("zero", "a name that no file can have"),
    ],
)
def test_what_is_no_image_is_said_in_one_sentence(
    name: str, message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = unreadable(tmp_path)[name]
    with pytest.raises(InputError, match=message) as caught:
        read_image(path)
    assert path.name.replace("\0", "\\x00") in str(caught.value)
    assert "\n" not in str(caught.value)
    printed = capfd.readouterr()
    assert printed.out + printed.err == ""  # OpenCV logs to the terminal unless told not to


def test_opencv_logs_as_before_after_reading(tmp_path: Path) -> None:
    level = cv2.utils.logging.getLogLevel()
    with pytest.raises(InputError):
        read_image(unreadable(tmp_path)["text.jpg"])
    assert cv2.utils.logging.getLogLevel() == level


def test_encoding_is_what_reading_undoes(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode_image(gradient(), ".png"))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), gradient())


def test_what_a_format_cannot_hold_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    image = np.zeros((2, 65_501, 3), np.uint8)
    with pytest.raises(InputError, match=r"an image of 65501x2 pixels cannot be written as \.jpg"):
        encode_image(image, ".jpg")
    assert capfd.readouterr().err == ""
    assert encode_image(image[:, :65_500], ".jpg")


# ------------------------------------------------------------------------------------------------------------ finding


def test_finds_the_images_of_folders_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    (folder / "inner.jpg").mkdir(parents=True)
    for name in ("b.PNG", "a.jpg", "c.txt", ".hidden.jpg", "d.webp"):
        (folder / name).touch()
    (tmp_path / "z.dat").touch()
    found = find_images([str(tmp_path / "z.dat"), folder])
    assert found == [tmp_path / "z.dat", folder / "a.jpg", folder / "b.PNG", folder / "d.webp"]


def test_an_image_that_is_named_twice_counts_once(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    (tmp_path / "b.jpg").touch()
    assert find_images([tmp_path / "b.jpg", tmp_path, tmp_path / "b.jpg"]) == [tmp_path / "b.jpg", tmp_path / "a.jpg"]


def test_the_order_of_arguments_is_kept(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).touch()
    assert find_images([tmp_path / "b.jpg", tmp_path / "a.jpg"]) == [tmp_path / "b.jpg", tmp_path / "a.jpg"]


def test_paths_without_images_are_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    with pytest.raises(InputError, match=r"empty: expected images \(\.jpg, .*\) in the folder, found none"):
        find_images([tmp_path / "empty"])
    with pytest.raises(InputError, match=r"missing\.jpg: there is no such file or folder"):
        find_images([tmp_path / "missing.jpg"])
    with pytest.raises(InputError, match=r"cannot be read: File name too long|no such file"):
        find_images([tmp_path / ("n" * 300)])


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the administrator may look into every folder")
def test_a_folder_that_is_closed_is_said(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    with pytest.raises(InputError, match="closed: cannot be read: Permission denied"):
        find_images([closed])


def test_a_jpeg_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jpg", np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8))
    content = file.read_bytes()
    file.write_bytes(content + b"appended by a camera")
    assert read_image(file).shape == (60, 80, 3)
    for film in (b"\xff\xda", b"\xff\xda \xff\xd9 \xff\xda", bytes(range(256)) * 40):  # of a moving photograph
        file.write_bytes(content + film)
        assert read_image(file).shape == (60, 80, 3)
    half = len(content) // 2
    # Cut off, or half copied: then the rest of the file is there, and empty.
    for cut in (content[:half], content[:-1], content[:half] + bytes(len(content) - half)):
        file.write_bytes(cut)
        with pytest.raises(InputError, match=r"a\.jpg: expected a whole image, got a JPEG file that ends early"):
            read_image(file)


def test_a_thumbnail_s_end_is_not_the_image_s(tmp_path: Path) -> None:
    """Cameras put a small JPEG into the head of the file."""
    thumbnail = write(tmp_path / "small.jpg", gradient()).read_bytes()
    content = write(tmp_path / "a.jpg", gradient()).read_bytes()
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    (tmp_path / "a.jpg").write_bytes(content[:2] + segment + content[2:])
    assert read_image(tmp_path / "a.jpg").shape == (40, 60, 3)
    (tmp_path / "a.jpg").write_bytes(content[:2] + segment + content[2:-50])
    with pytest.raises(InputError, match="ends early"):
        read_image(tmp_path / "a.jpg")


def test_annotations_are_of_images_that_nobody_has_turned(tmp_path: Path) -> None:
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0) + bytes(4)
    content = write(tmp_path / "a.jpg", gradient()).read_bytes()
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    (tmp_path / "a.jpg").write_bytes(content[:2] + segment + content[2:])
    assert read_image(tmp_path / "a.jpg").shape == (60, 40, 3)
    assert read_image(tmp_path / "a.jpg", upright=False).shape == (40, 60, 3)
