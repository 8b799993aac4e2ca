"""Object keypoint similarity and suppression against mmpose 1.x."""

from __future__ import annotations

import json

import numpy as np
import pytest

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import COCO
from litehrnet_cuda.metrics.oks import oks, oks_nms, soft_oks_nms


@pytest.fixture
def stored(golden):
    return json.loads((golden / "pipeline" / "oks_nms.json").read_text())


@pytest.fixture
def people(stored):
    keypoints = np.array([person["keypoints"] for person in stored["instances"]])
    scores, areas = (np.array([person[field] for person in stored["instances"]]) for field in ("score", "area"))
    return {"keypoints": keypoints[..., :2], "scores": scores, "areas": areas, "sigmas": COCO.sigmas}, keypoints[..., 2]


def test_similarity_equals_mmpose(stored, people):
    arrays, _ = people
    points, areas = arrays["keypoints"], arrays["areas"]
    # The reference was stored as float32: half a unit in the last place below 1 is 3e-8.
    np.testing.assert_allclose(oks(points, areas, points, areas, COCO.sigmas), stored["oks_matrix"], rtol=0, atol=3e-8)


@pytest.mark.parametrize("threshold", ["0.3", "0.5", "0.7", "0.9", "0.95"])
def test_suppression_equals_mmpose(stored, people, threshold):
    arrays, joint_scores = people
    keep, arrays = stored["keep"][threshold], arrays | {"threshold": float(threshold)}
    assert oks_nms(**arrays).tolist() == keep["oks_nms"]
    assert soft_oks_nms(**arrays).tolist() == keep["soft_oks_nms"]
    assert soft_oks_nms(**arrays, max_detections=5).tolist() == keep["soft_oks_nms_max5"]
    confident = oks_nms(**arrays, joint_scores=joint_scores, joint_threshold=0.2)
    assert confident.tolist() == keep["oks_nms_vis_thr_0_2"]


def test_joints_below_the_threshold_do_not_count():
    points = np.zeros((2, 17, 2))
    points[1, :8] = 1000  # far away, but only by joints that nobody is sure of
    scores = np.ones((2, 17))
    scores[1, :8] = 0.1
    same = oks(
        points,
        [100, 100],
        points,
        [100, 100],
        COCO.sigmas,
        joint_scores=scores,
        other_joint_scores=scores,
        joint_threshold=0.2,
    )
    assert same[0, 1] == 1
    assert oks(points, [100, 100], points, [100, 100], COCO.sigmas)[0, 1] == pytest.approx(9 / 17)
    nobody = oks(
        points,
        [100, 100],
        points,
        [100, 100],
        COCO.sigmas,
        joint_scores=scores,
        other_joint_scores=scores,
        joint_threshold=2.0,
    )
    assert (nobody == 0).all()


def test_nobody_is_fine():
    empty = {"keypoints": np.zeros((0, 17, 2)), "scores": np.zeros(0), "areas": np.zeros(0), "sigmas": COCO.sigmas}
    assert oks_nms(**empty, threshold=0.9).tolist() == []
    assert soft_oks_nms(**empty, threshold=0.9).tolist() == []


def test_says_what_is_wrong():
    points, areas = np.zeros((2, 17, 2)), np.ones(2)
    with pytest.raises(
        InputError, match=r"keypoints: expected shape \[N, 17, 2\], one joint per sigma, got \[2, 16, 2\]"
    ):
        oks(points[:, 1:], areas, points, areas, COCO.sigmas)
    with pytest.raises(InputError, match=r"other_areas: expected shape \[2\], one per person, got \[3\]"):
        oks(points, areas, points, np.ones(3), COCO.sigmas)
    with pytest.raises(InputError, match=r"joint_scores: expected scores \[N, K\] for both lists"):
        oks(points, areas, points, areas, COCO.sigmas, joint_threshold=0.2)
    with pytest.raises(InputError, match=r"scores: expected shape \[2\], one per person, got \[1\]"):
        oks_nms(points, np.ones(1), areas, COCO.sigmas, 0.9)
