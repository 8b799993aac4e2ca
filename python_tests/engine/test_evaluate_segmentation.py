"""Accuracy of segmentation: the figures of a network of one's own, alone and in two processes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mask_cases import write_part
from process_cases import evaluate_masks
from processes import run_together

from litehrnet_cuda.classes import ClassSet
from litehrnet_cuda.data.mask_datasets import locate_mask_splits
from litehrnet_cuda.data.masks import MaskAnnotations
from litehrnet_cuda.engine.distributed import ALONE
from litehrnet_cuda.engine.evaluate_segmentation import SegmentationEvaluation, evaluate_segmentation
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.metrics.segmentation import confusion_matrix, segmentation_figures
from litehrnet_cuda.models.checkpoints import CheckpointMetadata, save_checkpoint
from litehrnet_cuda.models.registry import create_model
from litehrnet_cuda.predictors.segmenter import Segmenter

CLASSES = ClassSet.numbered(3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("masks")
    write_part(folder, "val", 5)
    return folder


@pytest.fixture
def masks(folder: Path) -> MaskAnnotations:
    return locate_mask_splits(folder)["val"].read(CLASSES)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a network whose classifier is large enough to find all classes."""
    torch.manual_seed(3)
    network = create_model("naive_litehrnet_18", "segmentation", num_outputs=3)
    with torch.no_grad():
        network.decode_head.conv_seg.weight.normal_(0, 5)
    metadata = CheckpointMetadata("naive_litehrnet_18", "segmentation", 3, class_set=CLASSES, input_size=(40, 32))
    return save_checkpoint(network, tmp_path_factory.mktemp("net") / "net.safetensors", metadata)


@pytest.fixture
def segmenter(checkpoint: Path) -> Segmenter:
    return Segmenter(checkpoint=checkpoint, device="cpu")


def test_classes_in_another_order_are_refused(segmenter: Segmenter, masks: MaskAnnotations) -> None:
    masks.class_set = ClassSet("reversed", CLASSES.names[::-1], CLASSES.palette)
    expected = "expected the network's classes in its order, class 0, class 1, class 2, got class 2, class 1, class 0"
    with pytest.raises(InputError, match=expected):
        evaluate_segmentation(segmenter, masks, progress=False)


def figures(found: SegmentationEvaluation) -> tuple[object, ...]:
    return found.matrix.tolist(), found.of_images, found.skipped, found.metrics


def test_it_is_the_matrix_of_all_images_together(segmenter: Segmenter, masks: MaskAnnotations) -> None:
    found = evaluate_segmentation(segmenter, masks, progress=False)
    expected = np.zeros((3, 3), np.int64)
    for index in range(5):
        image, labels = masks.read(index)
        matrix = confusion_matrix(labels, segmenter(image).labels, 3)
        assert found.of_images[index] == segmentation_figures(matrix, CLASSES.names)["mIoU"]
        expected += matrix
    np.testing.assert_array_equal(found.matrix, expected)
    assert (expected.sum(axis=0) > 0).sum() > 1, "more than one class is found"
    assert found.metrics == segmentation_figures(expected, CLASSES.names)
    assert (found.score_name, found.score) == ("mIoU", found.metrics["mIoU"])
    assert found.measured_in == "whole images"


def test_workers_make_no_difference(segmenter: Segmenter, masks: MaskAnnotations) -> None:
    one, other = (evaluate_segmentation(segmenter, masks, workers=count, progress=False) for count in (0, 1))
    assert figures(one) == figures(other)


def test_windows_are_another_measure(checkpoint: Path, masks: MaskAnnotations) -> None:
    sliding = Segmenter(checkpoint=checkpoint, mode="slide", device="cpu")
    found = evaluate_segmentation(sliding, masks, progress=False)
    assert found.measured_in == "sliding windows"
    assert (
        found.matrix.sum()
        == evaluate_segmentation(Segmenter(checkpoint=checkpoint, device="cpu"), masks, progress=False).matrix.sum()
    )


def test_two_processes_find_what_one_finds(checkpoint: Path, folder: Path, tmp_path: Path) -> None:
    one = evaluate_masks(ALONE, folder, checkpoint)
    first, second = run_together(tmp_path, evaluate_masks, folder, checkpoint)
    assert figures(first) == figures(second) == figures(one)


def test_bad_images_stop_or_are_left_out(segmenter: Segmenter, tmp_path: Path) -> None:
    write_part(tmp_path, "val", 3)
    masks = locate_mask_splits(tmp_path)["val"].read(CLASSES)
    whole = evaluate_segmentation(segmenter, masks.without([1]), progress=False)
    masks.images[1].mask.write_bytes(b"none")
    with pytest.raises(InputError, match=r"1\.png: expected a mask"):
        evaluate_segmentation(segmenter, masks, progress=False)
    found = evaluate_segmentation(segmenter, masks, bad_images="skip", progress=False)
    assert list(found.skipped) == [1]
    assert list(found.of_images) == [0, 2]
    np.testing.assert_array_equal(found.matrix, whole.matrix)
    for image in masks.images:
        image.image.write_bytes(b"none")
    with pytest.raises(InputError, match=r"expected at least one image .* but all 3"):
        evaluate_segmentation(segmenter, masks, bad_images="skip", progress=False)


def test_classes_have_to_be_as_many(segmenter: Segmenter, masks: MaskAnnotations) -> None:
    other = MaskAnnotations(masks.place, masks.images, ClassSet.numbered(4))
    with pytest.raises(InputError, match="expected masks of 3 classes as the network has outputs"):
        evaluate_segmentation(segmenter, other, progress=False)


def test_images_that_are_too_small_are_named_or_skipped(segmenter: Segmenter, tmp_path: Path) -> None:
    write_part(tmp_path, "val", 3)
    image, mask = cv2.imread(str(tmp_path / "images/val/1.png")), cv2.imread(str(tmp_path / "masks/val/1.png"), -1)
    cv2.imwrite(str(tmp_path / "images/val/1.png"), image[:20])
    cv2.imwrite(str(tmp_path / "masks/val/1.png"), mask[:20])
    masks = locate_mask_splits(tmp_path)["val"].read(CLASSES)
    with pytest.raises(InputError, match=r"1\.png: image: expected at least 32x32 pixels, got 72x20"):
        evaluate_segmentation(segmenter, masks, progress=False)
    found = evaluate_segmentation(segmenter, masks, bad_images="skip", progress=False)
    assert (list(found.of_images), list(found.skipped)) == ([0, 2], [1])


def test_data_without_labels_are_refused(segmenter: Segmenter, tmp_path: Path) -> None:
    write_part(tmp_path, "val", 2)
    for mask in (tmp_path / "masks" / "val").iterdir():
        cv2.imwrite(str(mask), np.full((56, 72), 255, np.uint8))
    with pytest.raises(InputError, match="expected masks with labelled pixels to measure with, found none"):
        evaluate_segmentation(segmenter, locate_mask_splits(tmp_path)["val"].read(CLASSES), progress=False)
