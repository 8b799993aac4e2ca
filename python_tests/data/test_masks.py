"""Reading images with masks: what numbers mean, and every mistake in a sentence that names the file."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from mask_cases import draw, write_part

from litehrnet_cuda.classes import ClassSet
from litehrnet_cuda.data.json_fields import DataError
from litehrnet_cuda.data.masks import MaskAnnotations, MaskedImage, count_pixels
from litehrnet_cuda.errors import InputError

CLASSES = ClassSet.numbered(3)


def masks(folder: Path, count: int = 3) -> MaskAnnotations:
    write_part(folder, "val", count)
    images = [
        MaskedImage(str(n), folder / "images" / "val" / f"{n}.png", folder / "masks" / "val" / f"{n}.png")
        for n in reversed(range(count))
    ]
    return MaskAnnotations(folder, images, CLASSES)


def test_images_and_classes_as_they_were_drawn(tmp_path: Path) -> None:
    found = masks(tmp_path)
    assert [image.name for image in found.images] == ["0", "1", "2"]
    image, labels = found.read(2)
    expected = draw(3002)
    np.testing.assert_array_equal(image, expected[0])
    np.testing.assert_array_equal(labels, expected[1])
    assert found.decoded_bytes() == 3 * 4 * 72 * 56


def test_numbers_stand_for_classes(tmp_path: Path) -> None:
    plain = masks(tmp_path)
    other = MaskAnnotations(tmp_path, plain.images, CLASSES, {0: 2, 1: 255, 2: 0, 255: 1})
    _, labels = plain.read(0)
    expected = np.select([labels == 0, labels == 2, labels == 255], [2, 0, 1], 255)
    np.testing.assert_array_equal(other.read_labels(0), expected)


def test_unknown_numbers_are_refused_with_those_that_are_known(tmp_path: Path) -> None:
    found = masks(tmp_path)
    cv2.imwrite(str(found.images[0].mask), np.full((56, 72), 7, np.uint8))
    with pytest.raises(DataError, match=r"0\.png: expected the numbers 0 to 2, 255, got 7 too") as refused:
        found.read(0)
    assert refused.value.kind == "the mask holds a number that is no class"


def test_sizes_have_to_agree(tmp_path: Path) -> None:
    found = masks(tmp_path)
    cv2.imwrite(str(found.images[1].mask), np.zeros((56, 70), np.uint8))
    with pytest.raises(DataError, match=r"1\.png: expected a mask of 72x56 pixels as 1\.png has, got 70x56"):
        found.read(1)


def test_absent_files_are_found_before_the_work(tmp_path: Path) -> None:
    found = masks(tmp_path)
    found.require_files()
    found.images[2].mask.unlink()
    with pytest.raises(DataError, match=r"2\.png: the mask of image 2 is missing"):
        found.require_files()
    found.images[0].image.unlink()
    with pytest.raises(DataError, match=r"0\.png: image 0 of .* is missing"):
        found.require_files()
    kinds = []
    for index, read in ((0, found.read_image), (2, found.read_labels)):
        with pytest.raises(DataError) as refused:
            read(index)
        kinds.append(refused.value.kind)
    assert kinds == ["the image is missing", "the mask is missing"]


def test_the_digest_tells_data_apart_but_not_places(tmp_path: Path) -> None:
    one, same = masks(tmp_path / "a"), masks(tmp_path / "b")
    assert one.digest == same.digest
    assert one.digest.startswith("3 images with 3 classes, ")
    assert MaskAnnotations(one.place, one.images, CLASSES, {0: 0, 1: 2}).digest != one.digest
    assert one.without([1]).digest != one.digest
    assert len(one.without([1])) == 2
    cv2.imwrite(str(same.images[0].mask), np.zeros((56, 72), np.uint8))  # which is a smaller file
    assert same.digest != one.digest


def test_no_image_is_no_data(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected at least one image with a mask, got none"):
        MaskAnnotations(tmp_path, [], CLASSES)


def test_pixels_are_counted_by_class() -> None:
    labels = [np.array([[0, 0, 2], [255, 2, 2]], np.uint8), np.array([[1]], np.uint8)]
    assert count_pixels(labels, 4).tolist() == [2, 1, 3, 0]
