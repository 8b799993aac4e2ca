"""PCKh against mmpose 1.x."""

from __future__ import annotations

import json

import numpy as np
import pytest

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import MPII
from litehrnet_cuda.metrics.pckh import GROUPS, head_sizes, pckh


@pytest.fixture
def arguments(golden):
    stored = json.loads((golden / "pipeline" / "mpii_pckh.json").read_text())
    truth = np.array(stored["gt_keypoints_1_based"]) - 1
    arrays = {"predictions": stored["predictions_0_based"], "truth": truth, "visible": stored["visible"]}
    return arrays | {"sizes": stored["head_size"]}, stored["stats"]


def test_equals_mmpose(arguments):
    arrays, expected = arguments
    result = pckh(**arrays)
    ours = {"PCK": "PCKh@0.5", "PCK@0.1": "PCKh@0.1"}
    for name, value in expected.items():  # in percent
        figure = result[ours.get(name, f"PCKh@0.5 {name.split()[0].lower()}")]
        # mmpose sums PCK@0.1 in float32: a relative error of 6e-8 in each of 14 terms, of 100 at most
        assert 100 * figure == pytest.approx(value, abs=1e-6 if name == "PCK@0.1" else 1e-10), name
    assert list(result)[:2] == ["PCKh@0.5", "PCKh@0.1"]


def test_of_each_joint_and_group_at_both_thresholds(arguments):
    arrays, _ = arguments
    result = pckh(**arrays)
    assert len(result) == 2 * (1 + len(GROUPS) + len(MPII))
    for threshold in (0.5, 0.1):
        hits = {name: [] for name in MPII.names}
        for person in range(30):
            for joint, name in enumerate(MPII.names):
                if arrays["visible"][person][joint]:
                    miss = np.subtract(arrays["predictions"][person][joint], arrays["truth"][person][joint])
                    hits[name].append(np.hypot(*miss) <= threshold * arrays["sizes"][person])
        for name, of_joint in hits.items():
            assert result[f"PCKh@{threshold} {name}"] == pytest.approx(np.mean(of_joint)), name
        for group, names in GROUPS.items():
            assert result[f"PCKh@{threshold} {group}"] == pytest.approx(np.mean([np.mean(hits[n]) for n in names]))
        counted = [hit for name, of_joint in hits.items() if name not in ("pelvis", "thorax") for hit in of_joint]
        assert result[f"PCKh@{threshold}"] == pytest.approx(np.mean(counted))


def test_joints_that_nobody_annotated_are_minus_one(arguments):
    arrays, _ = arguments
    visible = np.array(arrays["visible"])
    visible[:, 9] = 0  # the top of the head
    result = pckh(**(arrays | {"visible": visible}))
    assert result["PCKh@0.5 head"] == result["PCKh@0.1 head_top"] == -1
    assert 0 < result["PCKh@0.5"] < 1
    assert set(pckh(**(arrays | {"visible": 0 * visible})).values()) == {-1}


def test_head_size_is_six_tenths_of_the_diagonal():
    np.testing.assert_allclose(head_sizes(np.array([[10, 10, 40, 50]])), [30.0])


def test_says_what_is_wrong(arguments):
    arrays, _ = arguments
    with pytest.raises(
        InputError, match=r"predictions: expected shape \[N, 16, 2\], the joints of MPII, got \[2, 17, 2\]"
    ):
        pckh(**(arrays | {"predictions": np.zeros((2, 17, 2))}))
    with pytest.raises(InputError, match=r"visible: expected shape \[30, 16\] to go with predictions, got \[30, 17\]"):
        pckh(**(arrays | {"visible": np.zeros((30, 17))}))
    with pytest.raises(InputError, match=r"sizes: expected positive head sizes, got 0\.0"):
        pckh(**(arrays | {"sizes": np.zeros(30)}))
