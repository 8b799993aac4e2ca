"""PCK, AUC and EPE against sums by hand and mmpose's definitions, written out as loops."""

from __future__ import annotations

import numpy as np
import pytest

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.metrics.pck import auc, box_lengths, distances, epe, in_lengths, pck_figures, share_within

NAMES = ("thumb", "index")


def two_people() -> dict:
    """Joints 3, 5 | 15, (not annotated) pixels from the truth; boxes 20 and 100 pixels long."""
    truth = np.array([[[10, 10], [20, 10]], [[50, 60], [0, 0]]], float)
    predictions = truth + np.array([[[3, 0], [3, 4]], [[0, -15], [999, 0]]])
    boxes = np.array([[0, 0, 20, 10], [0, 0, 50, 100]], float)
    return {
        "predictions": predictions,
        "truth": truth,
        "visible": np.array([[1, 2], [1, 0]]),
        "lengths": box_lengths(boxes),
        "names": NAMES,
    }


def test_by_hand():
    result = pck_figures(**two_people())
    # thumb: 3 < 0.2 * 20 and 15 < 0.2 * 100; index: 5 > 0.2 * 20. AUC's steps are 1.5 pixels wide: below 0, 1.5 .. 28.5
    # lie 3 (from step 3 of 0..19 on: 17 of 20 steps), 15 (from step 11: 9 of 20), 5 (from step 4: 16 of 20).
    assert result == pytest.approx(
        {
            "PCK@0.2": (2 / 2 + 0 / 1) / 2,
            "AUC": ((17 / 20 + 9 / 20) / 2 + 16 / 20) / 2,
            "EPE": (3 + 5 + 15) / 3,
            "PCK@0.2 thumb": 1.0,
            "EPE thumb": 9.0,
            "PCK@0.2 index": 0.0,
            "EPE index": 5.0,
        }
    )
    assert next(iter(result)) == "PCK@0.2"
    assert pck_figures(**two_people(), threshold=0.3)["PCK@0.3 index"] == 1


def test_equals_the_definitions_written_as_loops():
    random = np.random.default_rng(3)
    people, joints = 40, 7
    truth = random.uniform(0, 200, (people, joints, 2))
    predictions = truth + random.normal(0, 12, truth.shape)
    visible = random.random((people, joints)) < 0.7
    lengths = random.uniform(30, 90, people)
    result = pck_figures(predictions, truth, visible, lengths, [str(k) for k in range(joints)], threshold=0.1)

    def accuracy(threshold: float, norms: np.ndarray) -> float:
        shares = []
        for joint in range(joints):
            found = [
                np.linalg.norm((predictions[p, joint] - truth[p, joint]) / norms[p]) < threshold
                for p in range(people)
                if visible[p, joint]
            ]
            if found:
                shares.append(sum(found) / len(found))
        return sum(shares) / len(shares)

    assert result["PCK@0.1"] == pytest.approx(accuracy(0.1, lengths))
    area = sum(accuracy(step / 20, np.full(people, 30.0)) for step in range(20)) / 20
    assert result["AUC"] == pytest.approx(area)
    misses = [
        np.linalg.norm(predictions[p, k] - truth[p, k]) for p in range(people) for k in range(joints) if visible[p, k]
    ]
    assert result["EPE"] == pytest.approx(sum(misses) / len(misses))


def test_thresholds_are_exclusive_unless_said():
    distance = np.array([[0.5]])
    assert share_within(distance, 0.5) == 0
    assert share_within(distance, 0.5, inclusive=True) == 1


def test_what_nobody_annotated_is_minus_one():
    arguments = two_people() | {"visible": np.array([[1, 0], [1, 0]])}
    result = pck_figures(**arguments)
    assert result["PCK@0.2 index"] == result["EPE index"] == -1
    assert result["PCK@0.2"] == result["PCK@0.2 thumb"]
    assert set(pck_figures(**arguments | {"visible": np.zeros((2, 2))}).values()) == {-1}
    assert epe(np.empty((0, 2))) == auc(np.empty((0, 2))) == -1


def test_says_what_is_wrong():
    arguments = two_people()
    for changes, message in (
        ({"predictions": np.zeros((2, 2))}, r"predictions: expected shape \[N, K, 2\], got \[2, 2\]"),
        ({"truth": np.zeros((2, 3, 2))}, r"truth: expected shape \[2, 2, 2\] to go with predictions, got \[2, 3, 2\]"),
        ({"visible": np.zeros(2)}, r"visible: expected shape \[2, 2\] to go with predictions, got \[2\]"),
        ({"names": ("a",)}, "names: expected 2, one per joint, got 1"),
        ({"lengths": np.ones(3)}, r"lengths: expected shape \[2\], one per person, got \[3\]"),
        ({"lengths": np.zeros(2)}, r"lengths: expected positive lengths in pixels, got 0\.0"),
        ({"threshold": 0}, "threshold: expected a positive fraction of the length, got 0"),
    ):
        with pytest.raises(InputError, match=message):
            pck_figures(**arguments | changes)
    with pytest.raises(InputError, match="auc: expected a positive reach and number of steps, got 0 and 20"):
        auc(distances(arguments["predictions"], arguments["truth"], arguments["visible"]), reach=0)
    assert np.isnan(in_lengths(np.array([[np.nan]]), np.ones(1))).all()
