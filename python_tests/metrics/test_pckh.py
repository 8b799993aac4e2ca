"""PCKh against mmpose 1.x."""

from __future__ import annotations

import json

import numpy as np
import pytest

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.metrics.pckh import head_sizes, pckh


@pytest.fixture
def arguments(golden):
    stored = json.loads((golden / "pipeline" / "mpii_pckh.json").read_text())
    truth = np.array(stored["gt_keypoints_1_based"]) - 1
    arrays = {"predictions": stored["predictions_0_based"], "truth": truth, "visible": stored["visible"]}
    return arrays | {"sizes": stored["head_size"]}, stored["stats"]


def test_equals_mmpose(arguments):
    arrays, expected = arguments
    result = pckh(**arrays)
    assert list(result) == list(expected)
    for name, value in expected.items():
        # mmpose sums PCK@0.1 in float32: a relative error of 6e-8 in each of 14 terms, of 100 at most
        assert result[name] == pytest.approx(value, abs=1e-6 if name == "PCK@0.1" else 1e-10), name


def test_joints_that_nobody_annotated_are_nan(arguments):
    arrays, _ = arguments
    visible = np.array(arrays["visible"])
    visible[:, 9] = 0  # the top of the head
    result = pckh(**(arrays | {"visible": visible}))
    assert np.isnan(result["Head PCK"])
    assert np.isfinite(result["PCK"])
    assert np.isnan(pckh(**(arrays | {"visible": 0 * visible}))["PCK"])


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
