"""Rescoring, suppression and average precision against mmpose 1.x and pycocotools."""

from __future__ import annotations

import json

import numpy as np
import pytest

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import KeypointSet
from litehrnet_cuda.metrics.coco import STATISTICS, PredictedPose, coco_average_precision, coco_results

SCORE_MODES = {"bbox_keypoint": "box_and_joints", "bbox": "box", "keypoint": "joints"}
SUPPRESSIONS = {"oks_nms": "oks", "soft_oks_nms": "soft_oks", "none": "none"}
THREE = KeypointSet(name="three", names=("a", "b", "c"), flip_pairs=(), sigmas=(0.05, 0.05, 0.05))


@pytest.fixture
def poses(golden):
    stored = json.loads((golden / "pipeline" / "coco_predictions.json").read_text())
    return [
        PredictedPose(
            image_id=item["img_id"],
            keypoints=np.array(item["keypoints"]),
            joint_scores=np.array(item["keypoint_scores"]),
            box_score=item["bbox_score"],
            area=float(np.prod(item["bbox_scale"])),
        )
        for item in stored
    ]


@pytest.mark.parametrize("case", range(4))
def test_results_and_precision_equal_mmpose(golden, shared, poses, capsys, case):
    stored = json.loads((golden / "pipeline" / "coco_eval.json").read_text())[case]
    config = stored["config"]
    results = coco_results(
        poses,
        score_mode=SCORE_MODES[config["score_mode"]],
        suppression=SUPPRESSIONS[config["nms_mode"]],
        oks_threshold=config.get("nms_thr", 0.9),
        joint_threshold=config.get("keypoint_score_thr", 0.2),
    )
    assert len(results) == stored["kept"]
    assert [item["image_id"] for item in results] == [item["image_id"] for item in stored["final"]]
    assert [item["keypoints"][:2] for item in results] == [item["first_keypoint"] for item in stored["final"]]
    # float64 on both sides; the order of a sum of 17 terms below 1 may differ
    scores = [item["score"] for item in stored["final"]]
    np.testing.assert_allclose([item["score"] for item in results], scores, rtol=0, atol=1e-15 * 17)

    statistics = coco_average_precision(results, shared / "data" / "coco" / "test_coco.json")
    assert statistics == pytest.approx(stored["stats"], abs=1e-12)  # ratios of small counts, summed in float64
    assert list(statistics) == list(stored["stats"]) == list(STATISTICS)
    assert capsys.readouterr().out == ""


def made_up(first_id: int = 0) -> dict:
    """Two people with three joints in one image."""
    joints = [[100, 100, 2, 150, 100, 2, 100, 180, 2], [400, 100, 2, 450, 100, 0, 400, 180, 2]]
    people = [
        {
            "id": first_id + i,
            "image_id": 7,
            "category_id": 1,
            "bbox": [90 + 300 * i, 90, 80, 100],
            "area": 8000,
            "keypoints": k,
        }
        for i, k in enumerate(joints)
    ]
    return {
        "images": [{"id": 7, "width": 640, "height": 480, "file_name": "a.jpg"}],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": people,
    }


def perfect(truth: dict) -> list[dict]:
    return [
        {"image_id": 7, "category_id": 1, "keypoints": [float(v) for v in person["keypoints"]], "score": 0.9}
        for person in truth["annotations"]
    ]


@pytest.mark.parametrize("first_id", [0, 1, 500])
def test_perfect_results_of_another_key_point_set_score_one(first_id):
    # The id 0 would be taken for "not found" by pycocotools, and 17 sigmas would not fit three joints.
    truth = made_up(first_id)
    before = json.dumps(truth)
    assert coco_average_precision(perfect(truth), truth, THREE)["AP"] == pytest.approx(1.0)
    assert json.dumps(truth) == before


def test_sigmas_of_the_key_point_set_are_used():
    truth = made_up()
    results = perfect(truth)
    for result in results:
        result["keypoints"] = [v + 8 * (i % 3 == 0) for i, v in enumerate(result["keypoints"])]
    strict = KeypointSet(name="strict", names=THREE.names, flip_pairs=(), sigmas=(0.01, 0.01, 0.01))
    assert coco_average_precision(results, truth, strict)["AP"] == 0
    # OKS = exp(-8^2 / (2 * 8000 * (2 * 0.05)^2)) = 0.67 passes four of the ten thresholds, 0.50 to 0.65
    assert coco_average_precision(results, truth, THREE)["AP"] == pytest.approx(0.4)


def test_people_of_other_images_do_not_count():
    content = made_up()
    elsewhere = [annotation | {"image_id": 2, "id": 100 + annotation["id"]} for annotation in content["annotations"]]
    both = content | {
        "images": [*content["images"], content["images"][0] | {"id": 2}],
        "annotations": [*content["annotations"], *elsewhere],
    }
    results = [
        {"image_id": a["image_id"], "category_id": 1, "keypoints": list(map(float, a["keypoints"])), "score": 1.0}
        for a in content["annotations"]
    ]
    assert coco_average_precision(results, both, THREE)["AR"] == pytest.approx(0.5)
    assert coco_average_precision(results, both, THREE, image_ids=[content["images"][0]["id"]])["AR"] == pytest.approx(
        1
    )


def test_nobody_predicted_is_zero():
    assert coco_results([]) == []
    assert coco_average_precision([], made_up(), THREE) == dict.fromkeys(STATISTICS, 0.0)


def test_no_confident_joint_is_score_zero(poses):
    results = coco_results(poses[:1], joint_threshold=2.0)
    assert results[0]["score"] == 0
    json.dumps(results)  # plain numbers only


def without(field: str) -> dict:
    truth = made_up()
    del truth["annotations"][1][field]
    return truth


def test_missing_areas_and_categories_have_defaults():
    truth = made_up()
    expected = coco_average_precision(perfect(truth), truth, THREE)
    for annotation in truth["annotations"]:
        annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
    same = coco_average_precision(perfect(truth), truth, THREE)
    for annotation in truth["annotations"]:
        del annotation["area"], annotation["category_id"]
    assert coco_average_precision(perfect(truth), truth, THREE) == same
    assert same["AP"] == expected["AP"] == pytest.approx(1.0)


def test_categories_that_count_are_one():
    truth = made_up()
    results = perfect(truth)  # all of the first category
    other = truth["categories"][0] | {"id": 7}
    truth["categories"].append(other)
    truth["annotations"][-1]["category_id"] = 7
    without_points = {"id": 99, "image_id": truth["images"][0]["id"], "category_id": 8, "bbox": [0, 0, 1, 1]}
    truth["annotations"].append(without_points)
    ids = [truth["categories"][0]["id"], 7]
    assert coco_average_precision(results, truth, THREE, category_ids=ids)["AP"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        (without("bbox"), "annotations: the field bbox is missing, which average precision needs"),
        ({"images": []}, "annotations: the field annotations is missing"),
        (made_up() | {"images": [{"file_name": "a.jpg"}]}, "annotations: the field id is missing"),
        (
            {"images": [], "categories": [], "annotations": 3},
            "annotations: expected COCO key-point annotations, an object",
        ),
        ("absent.json", "absent.json: expected a readable JSON file: .*No such file"),
    ],
)
def test_says_what_is_wrong_with_annotations(annotations, message):
    with pytest.raises(InputError, match=message):
        coco_average_precision(perfect(made_up()), annotations, THREE)


def test_says_what_is_wrong_with_results():
    truth = made_up()
    stranger = [perfect(truth)[0] | {"image_id": 8}]
    with pytest.raises(InputError, match=r"results\[0\]: image_id 8 is not among the annotated images"):
        coco_average_precision(stranger, truth, THREE)
    with pytest.raises(InputError, match=r"results\[0\]: keypoints: expected 51 numbers .*, got 9"):
        coco_average_precision(perfect(truth), truth)
    with pytest.raises(InputError, match="score_mode: expected one of box_and_joints, box, joints, got 'sum'"):
        coco_results([], score_mode="sum")
    with pytest.raises(InputError, match="suppression: expected one of oks, soft_oks, none, got 'nms'"):
        coco_results([], suppression="nms")
