"""The images, boxes and crops that predictors take, and what they say about others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from spot_network import SpotNetwork, spot_image

from litehrnet_cuda import InputError, PoseEstimator
from litehrnet_cuda.predictors.arguments import check_boxes

Array = np.ndarray[Any, Any]
BOXES = [[10, 12, 60, 110], [50, 5, 120, 100], [-8, 20, 90, 130]]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (None, "cv2.imread returns"),
        ([[1, 2], [3, 4]], "got list"),
        (np.zeros((20, 30), np.uint8), r"got uint8 of shape \[20, 30\]"),
        (np.zeros((20, 30, 4), np.uint8), r"got uint8 of shape \[20, 30, 4\]"),
        (np.zeros((20, 30, 3), np.float32), r"got float32 of shape \[20, 30, 3\]"),
        (np.zeros((0, 30, 3), np.uint8), r"at least one pixel, got uint8 of shape \[0, 30, 3\]"),
        ("/nowhere/street.jpg", "no such file"),
    ],
)
@pytest.mark.parametrize("boxes", [None, []])
def test_unusable_images_are_said(spots: SpotNetwork, image: Any, boxes: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        PoseEstimator(spots)(image, boxes)


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([10, 20, 30, 40], r"expected shape \[P, 4\] .*, got \[4\]"),
        ([[10, 20, 30]], r"got \[1, 3\]"),
        ([[]], r"got \[1, 0\]"),
        (np.empty((0, 5)), r"got \[0, 5\]"),
        ([[1, 2, 3, 4], [1, 2]], "expected numbers of shape"),
        ([["left", "top", "right", "bottom"]], "expected numbers of shape"),
        ([[1, 2, float("nan"), 4]], r"expected finite .* for box 0"),
        ([[1, 2, 30, 40], [1, 2, float("inf"), 4]], r"expected finite .* for box 1"),
        ([[1, 2, 1e300, 4]], "expected finite"),
        ([[1, 2, 10**400, 4]], "boxes: expected"),
        ([[30, 20, 10, 40]], "left < right"),
        ([[10, 20, 10, 40]], "left < right"),
        ([[160, 20, 180, 40]], r"overlap the image of 160x120 pixels"),
        ([[10, -40, 30, 0]], r"overlap the image of 160x120 pixels"),
        ([[-3e38, -3e38, 3e38, 3e38]], "end within 1000000 pixels"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_unusable_boxes_are_said(spots: SpotNetwork, street: Array, boxes: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"boxes: .*{message}" if not message.startswith("boxes") else message):
        PoseEstimator(spots)(street, boxes)
    assert spots.batches == []


@pytest.mark.parametrize("scores", [[0.5], [0.5, float("nan"), 1], ["a", "b", "c"], 0.5, [10**400, 1, 1]])
def test_unusable_box_scores_are_said(spots: SpotNetwork, street: Array, scores: Any) -> None:
    with pytest.raises(InputError, match="box_scores: expected 3 "):
        PoseEstimator(spots)(street, BOXES, scores)
    assert spots.batches == []


def test_boxes_may_reach_beyond_the_image(spots: SpotNetwork) -> None:
    poses = PoseEstimator(spots, input_size=(64, 96))(spot_image(20, 20), [[-50, -60, 60, 90], [19, 19, 20, 20.5]])
    assert np.isfinite(poses.keypoints).all()
    np.testing.assert_allclose(poses.keypoints[0], np.broadcast_to([20, 20], (17, 2)), atol=0.5 * 165 * 1.25 / 24)


def test_check_boxes_takes_whatever_holds_numbers(street: Array) -> None:
    for boxes in (BOXES, np.array(BOXES, np.int64), tuple(map(tuple, BOXES)), torch.tensor(BOXES)):
        checked = check_boxes(boxes, street)
        assert checked.dtype == np.float32
        np.testing.assert_array_equal(checked, BOXES)


def test_crops_are_taken_as_tensors_and_as_arrays(spots: SpotNetwork) -> None:
    estimator = PoseEstimator(spots, input_size=(64, 96))
    crops = np.random.default_rng(0).random((2, 3, 96, 64), np.float32)
    crops.flags.writeable = False
    regions = np.ones((2, 2), np.float32)
    for found, expected in zip(
        estimator.predict_crops(crops, regions, regions),
        estimator.predict_crops(torch.tensor(crops), regions, regions),
        strict=True,
    ):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crops": torch.zeros(2, 3, 64, 96)}, r"crops: .* shape \[P, 3, 96, 64\] .*, got \[2, 3, 64, 96\] of"),
        ({"crops": torch.zeros(3, 96, 64)}, r"crops: .* got \[3, 96, 64\]"),
        ({"crops": np.zeros((2, 3, 96, 64), np.uint8)}, "crops: expected normalised ones .* of torch.uint8"),
        ({"crops": [1, 2]}, "crops: expected a tensor or an array, got list"),
        ({"centers": np.zeros((1, 2))}, r"centers: expected shape \[2, 2\], one for each crop, got \[1, 2\]"),
        ({"scales": np.zeros(2)}, r"scales: expected shape \[2, 2\], one for each crop, got \[2\]"),
    ],
)
def test_unusable_crops_are_said(spots: SpotNetwork, change: dict[str, Any], message: str) -> None:
    regions = np.ones((2, 2), np.float32)
    arguments = {"crops": torch.zeros(2, 3, 96, 64), "centers": regions, "scales": regions, **change}
    with pytest.raises(InputError, match=message):
        PoseEstimator(spots, input_size=(64, 96)).predict_crops(**arguments)
    assert spots.batches == []


def test_decoders_that_do_not_go_together_are_said(spots: SpotNetwork) -> None:
    estimator = PoseEstimator(spots, input_size=(64, 96))
    arguments = (torch.zeros(2, 3, 96, 64), np.ones((2, 2), np.float32), np.ones((2, 2), np.float32))
    for decoders in (("udp", "dark"), ("dark", "best")):
        with pytest.raises(InputError, match=f"of which udp goes alone, got {', '.join(decoders)}$"):
            estimator.predict_crops_with(decoders, *arguments)  # type: ignore[arg-type]
    nobody = [argument[:0] for argument in arguments]
    found = estimator.predict_crops_with(("dark", "quarter"), *nobody)
    assert [keypoints.shape for keypoints, _ in found] == [(0, 17, 2)] * 2
    assert spots.batches == []


@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 3000, 3), (3000, 2, 3)])
def test_images_of_odd_shapes(spots: SpotNetwork, shape: tuple[int, int, int]) -> None:
    poses = PoseEstimator(spots, input_size=(64, 96))(np.full(shape, 200, np.uint8))
    assert np.isfinite(poses.keypoints).all()
