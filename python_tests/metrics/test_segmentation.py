"""Figures of segmentation, against their definitions counted pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest

from litehrnet_cuda.metrics.segmentation import class_ious, confusion_matrix, mean_iou, segmentation_figures


def test_the_matrix_counts_truth_by_row_and_prediction_by_column() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 4, (30, 20)).astype(np.uint8)
    truth[random.random((30, 20)) < 0.2] = 255
    predicted = random.integers(0, 4, (30, 20)).astype(np.uint8)
    matrix = confusion_matrix(truth, predicted, 4)
    for row in range(4):
        for column in range(4):
            assert matrix[row, column] == sum(
                t == row and p == column for t, p in zip(truth.flat, predicted.flat, strict=True)
            )
    assert matrix.sum() == (truth != 255).sum()


def test_figures_of_a_case_that_can_be_counted_by_hand() -> None:
    truth = np.array([[0, 0, 0, 1], [1, 1, 255, 255]])
    predicted = np.array([[0, 0, 1, 1], [1, 0, 0, 2]])
    figures = segmentation_figures(confusion_matrix(truth, predicted, 4), ["a", "b", "c", "d"])
    # a: 2 of both, 4 of either; b: 2 and 4; c is predicted where nothing counts, d nowhere.
    assert figures == pytest.approx(
        {
            **{"mIoU": 0.5, "pixel accuracy": 4 / 6, "mean accuracy": 2 / 3},
            **{"IoU a": 0.5, "IoU b": 0.5, "IoU c": -1, "IoU d": -1},
        }
    )
    assert next(iter(figures)) == "mIoU"


def test_a_class_that_is_only_predicted_counts_with_zero() -> None:
    matrix = confusion_matrix(np.array([0, 0, 0]), np.array([0, 0, 2]), 3)
    np.testing.assert_allclose(class_ious(matrix), [2 / 3, np.nan, 0])
    assert mean_iou(matrix) == pytest.approx(1 / 3)
    figures = segmentation_figures(matrix, "abc")
    assert figures["mean accuracy"] == pytest.approx(2 / 3), "over the classes of the truth"


def test_perfect_and_nothing() -> None:
    truth = np.array([0, 1, 2, 255])
    assert mean_iou(confusion_matrix(truth, np.array([0, 1, 2, 0]), 3)) == 1
    nothing = confusion_matrix(np.array([255]), np.array([1]), 3)
    assert set(segmentation_figures(nothing, "abc").values()) == {-1}


def test_counts_of_parts_add_up() -> None:
    random = np.random.default_rng(1)
    truth, predicted = random.integers(0, 5, (2, 4, 50))
    parts = sum(confusion_matrix(t, p, 5) for t, p in zip(truth, predicted, strict=True))
    np.testing.assert_array_equal(parts, confusion_matrix(truth, predicted, 5))
