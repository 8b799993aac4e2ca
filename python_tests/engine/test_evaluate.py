"""Average precision of an estimator, from the truth itself and from real weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import emulated_ops
import numpy as np
import pytest
import torch
from torch import Tensor

from litehrnet_cuda.backends import use_backend
from litehrnet_cuda.data.coco import CocoKeypoints, PersonBox
from litehrnet_cuda.data.pose_dataset import NO_AUGMENTATION, PoseDataset
from litehrnet_cuda.engine.evaluate import evaluate
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.models.litehrnet import LiteHRNet, PoseNetwork, Variant
from litehrnet_cuda.models.registry import create_model
from litehrnet_cuda.predictors import PoseEstimator

SIZE = (64, 96)


class KnowsTheTruth(PoseNetwork):
    """Answers each batch with the next target heat maps of the annotated people."""

    def __init__(self, people: CocoKeypoints) -> None:
        super().__init__(LiteHRNet(Variant("oracle", (1,), (8, 16))), 17)
        targets = PoseDataset(people, SIZE, sigma=1.0, augmentation=NO_AUGMENTATION)
        self.maps = torch.stack([targets[index]["heatmaps"] for index in range(len(targets))])
        self.images = torch.stack([targets[index]["image"] for index in range(len(targets))])
        self.given: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        start = sum(map(len, self.given))
        self.given.append(x)
        return self.maps[start : start + len(x)]


@pytest.fixture
def oracle(people: CocoKeypoints) -> KnowsTheTruth:
    return KnowsTheTruth(people)


def test_the_truth_has_an_average_precision_of_one(people: CocoKeypoints, oracle: KnowsTheTruth) -> None:
    evaluation = evaluate(PoseEstimator(oracle, input_size=SIZE, batch_size=3), people, progress=False)
    assert evaluation.metrics["AP .5"] == pytest.approx(1)
    assert len(evaluation.poses) == len(people.people)
    assert {len(batch) for batch in oracle.given[:-1]} == {3}
    # What the network sees is what it sees in training, without augmentation.
    torch.testing.assert_close(torch.cat(oracle.given), oracle.images, rtol=0, atol=0)
    for pose, person in zip(evaluation.poses, people.people, strict=True):
        assert pose.image_id == person.image_id
        found = person.visible > 0
        # Half a heat-map pixel, in image pixels.
        pixel = np.sqrt(pose.area / (SIZE[0] * SIZE[1])) * 4
        inside = pose.joint_scores > 0.5  # joints beyond the region have no heat map
        difference = np.abs(pose.keypoints - person.keypoints)[found & inside]
        assert len(difference) > 5
        assert difference.max() <= 0.5 * pixel


def test_results_are_plain_json(people: CocoKeypoints, checkpoint: Path) -> None:
    evaluation = evaluate(PoseEstimator(checkpoint=checkpoint), people, progress=False)
    assert json.loads(json.dumps(evaluation.results)) == evaluation.results
    assert set(evaluation.metrics) >= {"AP", "AP .5", "AR"}


def test_boxes_of_a_detector_in_any_order(people: CocoKeypoints, checkpoint: Path) -> None:
    estimator = PoseEstimator(checkpoint=checkpoint, batch_size=3)
    boxes = [PersonBox(person.image_id, person.box, 0.5, None) for person in people.people]
    forwards, backwards = (evaluate(estimator, people, order, progress=False) for order in (boxes, boxes[::-1]))
    assert forwards.metrics == backwards.metrics
    assert {pose.box_score for pose in forwards.poses} == {0.5}
    image_ids = [pose.image_id for pose in backwards.poses]
    assert image_ids == sorted(image_ids)  # so that every image is read once


def test_workers_give_the_same(people: CocoKeypoints, checkpoint: Path) -> None:
    estimator = PoseEstimator(checkpoint=checkpoint)
    results = [evaluate(estimator, people, workers=workers, progress=False).results for workers in (0, 1)]
    assert results[0] == results[1]


def test_a_person_may_be_any_category(people: CocoKeypoints, oracle: KnowsTheTruth, tmp_path: Path) -> None:
    content = json.loads(people.annotation_file.read_text())
    content["categories"][0]["id"] = 7
    for annotation in content["annotations"]:
        annotation["category_id"] = 7
    file = tmp_path / "seven.json"
    file.write_text(json.dumps(content))
    seven = CocoKeypoints(file, people.image_dir)
    evaluation = evaluate(PoseEstimator(oracle, input_size=SIZE), seven, progress=False)
    assert evaluation.metrics["AP .5"] == pytest.approx(1)
    assert {result["category_id"] for result in evaluation.results} == {7}


def test_progress_is_shown_on_terminals_only(
    people: CocoKeypoints, checkpoint: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    evaluate(PoseEstimator(checkpoint=checkpoint), people)
    printed = capfd.readouterr()
    assert printed.out + printed.err == ""


# --------------------------------------------------------------------------------------------------- with real weights


@pytest.mark.parametrize(("decoder", "expected"), [("quarter", 0.804), ("dark", 0.812)])
def test_real_weights_on_real_images(shared: Path, decoder: Any, expected: float) -> None:
    """PP-TinyPose on four images of COCO, annotated boxes, no flip test: the values that mmpose 1.x gives.

    0.005 is asked for: less than one joint decision of one of the twelve people (1/120) is worth.
    """
    folder = shared / "data" / "coco"
    annotations = CocoKeypoints(folder / "test_coco.json", folder)
    estimator = PoseEstimator(checkpoint=shared / "weights" / "tinypose_256x192.safetensors", decoder=decoder)
    evaluation = evaluate(estimator, annotations, progress=False)
    assert len(evaluation.poses) == 12
    assert evaluation.metrics["AP"] == pytest.approx(expected, abs=0.005)


@pytest.mark.slow
def test_real_weights_as_a_plan(shared: Path) -> None:
    """The same precision from the kernels, for the whole network in one call, as the estimator runs them on a GPU."""
    folder = shared / "data" / "coco"
    annotations = CocoKeypoints(folder / "test_coco.json", folder)
    emulated_ops.load().configure(seed=0)
    precision = []
    for optimize in (True, False):
        estimator = PoseEstimator(
            checkpoint=shared / "weights" / "tinypose_256x192.safetensors", decoder="dark", optimize=optimize
        )
        with use_backend("emulated" if optimize else "reference"):
            precision.append(evaluate(estimator, annotations, progress=False).metrics["AP"])
    assert precision[0] == precision[1]


# ------------------------------------------------------------------------------------------------- what cannot be done


def test_joints_that_differ_are_said(people: CocoKeypoints) -> None:
    estimator = PoseEstimator(create_model("naive_litehrnet_18", num_outputs=16))
    with pytest.raises(
        InputError, match="evaluate: expected annotations with 16 joints as the network has outputs, got 17"
    ):
        evaluate(estimator, people)


def test_no_boxes_are_said(people: CocoKeypoints, checkpoint: Path) -> None:
    with pytest.raises(InputError, match="expected at least one box to look for people in, got none"):
        evaluate(PoseEstimator(checkpoint=checkpoint), people, [])


def test_annotations_that_give_no_precision_are_said_before_the_work(
    people: CocoKeypoints, oracle: KnowsTheTruth, tmp_path: Path
) -> None:
    content = json.loads(people.annotation_file.read_text())
    for annotation in content["annotations"]:
        del annotation["area"]
    file = tmp_path / "without_area.json"
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match="the field area is missing"):
        evaluate(PoseEstimator(oracle, input_size=SIZE), CocoKeypoints(file, people.image_dir), progress=False)
    assert oracle.given == []


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_is_said_in_one_sentence(
    people: CocoKeypoints, checkpoint: Path, workers: int, tmp_path: Path
) -> None:
    for entry in people.images.values():
        (tmp_path / entry.path.name).write_bytes(entry.path.read_bytes())
    broken = tmp_path / people.images[2].path.name
    cv2.imwrite(str(broken), np.zeros((3, 5, 3), np.uint8))
    annotations = CocoKeypoints(people.annotation_file, tmp_path)
    with pytest.raises(InputError, match=rf"^\S*{broken.name}: expected 160 x 120 pixels as .* got 5 x 3$"):
        evaluate(PoseEstimator(checkpoint=checkpoint), annotations, workers=workers, progress=False)
