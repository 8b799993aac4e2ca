"""Average precision of an estimator, from the truth itself and from real weights."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import emulated_ops
import numpy as np
import process_cases
import pytest
import torch
from processes import run_together
from torch import Tensor

from litehrnet_cuda.backends import use_backend
from litehrnet_cuda.codecs.heatmap import DECODERS
from litehrnet_cuda.data.coco import CocoKeypoints, PersonBox
from litehrnet_cuda.data.mpii import MpiiKeypoints
from litehrnet_cuda.data.pose_dataset import NO_AUGMENTATION, PoseDataset
from litehrnet_cuda.engine.evaluate import evaluate, evaluate_decoders, natural_metric, why_not_pckh
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import COCO, MPII
from litehrnet_cuda.models.litehrnet import LiteHRNet, PoseNetwork, Variant
from litehrnet_cuda.models.registry import create_model
from litehrnet_cuda.predictors.pose_estimator import PoseEstimator

SIZE = (64, 96)


class KnowsTheTruth(PoseNetwork):
    """Answers each batch with the next target heat maps of the annotated people."""

    def __init__(self, people: CocoKeypoints) -> None:
        super().__init__(LiteHRNet(Variant("oracle", (1,), (8, 16))), len(people.keypoint_set))
        targets = PoseDataset(people, SIZE, sigma=1.0, augmentation=NO_AUGMENTATION)
        self.maps = torch.stack([targets[index]["heatmaps"] for index in range(len(targets))])
        self.images = torch.stack([targets[index]["image"] for index in range(len(targets))])
        self.given: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        start = sum(map(len, self.given)) % len(self.maps)
        self.given.append(x)
        return self.maps[start : start + len(x)]


@pytest.fixture
def oracle(people: CocoKeypoints) -> KnowsTheTruth:
    return KnowsTheTruth(people)


def test_the_truth_has_an_average_precision_of_one(people: CocoKeypoints, oracle: KnowsTheTruth) -> None:
    evaluation = evaluate(PoseEstimator(oracle, input_size=SIZE, batch_size=3), people, progress=False)
    assert evaluation.metrics["AP .5"] == pytest.approx(1)
    assert (evaluation.metric, evaluation.score_name, evaluation.score) == ("coco", "AP", evaluation.metrics["AP"])
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
    assert (forwards.boxes, evaluate(estimator, people, progress=False).boxes) == ("detected", "annotated")
    assert {pose.annotation_id for pose in forwards.poses} == {None}
    image_ids = [pose.image_id for pose in backwards.poses]
    assert image_ids == sorted(image_ids)  # so that every image is read once


def test_workers_give_the_same(people: CocoKeypoints, checkpoint: Path) -> None:
    estimator = PoseEstimator(checkpoint=checkpoint)
    results = [evaluate(estimator, people, workers=workers, progress=False).results for workers in (0, 1)]
    assert results[0] == results[1]


def test_two_processes_give_what_one_gives(people: CocoKeypoints, checkpoint: Path, tmp_path: Path) -> None:
    assert len(people.people) > 4  # so that both have several batches
    # In a process of its own: where tests have put the emulator in place, networks run in another way.
    arguments = (people.annotation_file, people.image_dir, checkpoint)
    first = tmp_path / "first"
    first.mkdir()
    (expected,) = run_together(first, process_cases.evaluate_files, *arguments, count=1)
    for entry in people.images.values():
        (tmp_path / entry.path.name).write_bytes(entry.path.read_bytes())
    broken = tmp_path / people.images[people.people[-1].image_id].path.name
    broken.write_bytes(b"broken")
    left = tmp_path / "left"
    left.mkdir()
    arguments = (people.annotation_file, people.image_dir, tmp_path, checkpoint)
    outcomes = run_together(left, process_cases.evaluate_in_several_ways, *arguments)
    for evaluation, _, said, rest in outcomes:
        assert evaluation.metrics == expected.metrics
        assert evaluation.results == expected.results
        for pose, alone in zip(evaluation.poses, expected.poses, strict=True):
            np.testing.assert_array_equal(pose.keypoints, alone.keypoints)
            np.testing.assert_array_equal(pose.joint_scores, alone.joint_scores)
        # One of them reads the image, and neither waits for ever.
        assert f"{broken.name}: expected an image that OpenCV can decode" in said
        assert list(rest.skipped) == [people.people[-1].image_id]
        assert len(rest.poses) == sum(person.image_id not in rest.skipped for person in people.people)
    assert [alone for _, alone, _, _ in outcomes] == [expected.score, None]
    assert outcomes[0][3].metrics == outcomes[1][3].metrics


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


# ------------------------------------------------------------------------------------------------------- broken images


@pytest.fixture
def broken(people: CocoKeypoints, tmp_path: Path) -> CocoKeypoints:
    """The same people, where the image of the first ones is damaged and that of the last is gone."""
    for entry in people.images.values():
        (tmp_path / entry.path.name).write_bytes(entry.path.read_bytes())
    first, last = (people.images[people.people[place].image_id].path.name for place in (0, -1))
    (tmp_path / first).write_bytes(b"broken")
    (tmp_path / last).unlink()
    return CocoKeypoints(people.annotation_file, tmp_path)


@pytest.mark.parametrize("metric", ["coco", "pck"])
@pytest.mark.parametrize("workers", [0, 1])
def test_skipped_images_count_neither_way(
    people: CocoKeypoints, broken: CocoKeypoints, checkpoint: Path, metric: Any, workers: int
) -> None:
    first, last = people.people[0].image_id, people.people[-1].image_id
    estimator = PoseEstimator(checkpoint=checkpoint, batch_size=1)  # or crops would be in batches with other ones
    found = evaluate(estimator, broken, metric=metric, bad_images="skip", workers=workers, progress=False)
    assert found.skipped.keys() == {first, last}
    assert "expected an image that OpenCV can decode" in found.skipped[first]
    assert "is missing; check the image folder" in found.skipped[last]
    # The same people, as if the others had never been annotated.
    content = json.loads(people.annotation_file.read_text())
    content["images"] = [image for image in content["images"] if image["id"] not in found.skipped]
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] not in found.skipped]
    file = broken.image_dir / "rest.json"
    file.write_text(json.dumps(content))
    expected = evaluate(estimator, CocoKeypoints(file, people.image_dir), metric=metric, progress=False)
    assert found.metrics == expected.metrics
    assert [pose.annotation_id for pose in found.poses] == [pose.annotation_id for pose in expected.poses]
    assert expected.skipped == {}


def test_who_is_annotated_in_a_skipped_image_is_not_missed(broken: CocoKeypoints, oracle: KnowsTheTruth) -> None:
    found = evaluate(PoseEstimator(oracle, input_size=SIZE), broken, bad_images="skip", progress=False)
    assert len(found.poses) < len(broken.people)
    assert (found.metrics["AP .5"], found.metrics["AR .5"]) == (pytest.approx(1), pytest.approx(1))


def test_bad_images_stop_an_evaluation_unless_they_are_to_be_skipped(broken: CocoKeypoints, checkpoint: Path) -> None:
    estimator = PoseEstimator(checkpoint=checkpoint)
    with pytest.raises(InputError, match="is missing; check the image folder"):
        evaluate(estimator, broken, progress=False)
    for entry in broken.images.values():
        entry.path.unlink(missing_ok=True)
    with pytest.raises(InputError, match=r"val\.json: expected at least one image that can be read, but all \d+ with"):
        evaluate(estimator, broken, bad_images="skip", progress=False)


# ------------------------------------------------------------------------------------------------------- other metrics


@pytest.fixture
def heads(people: CocoKeypoints) -> CocoKeypoints:
    """People with the joints of MPII and heads of 10, 11, 12, ... pixels."""
    annotated = copy.copy(people)
    annotated.keypoint_set = MPII
    annotated.people = [
        replace(person, keypoints=person.keypoints[:16], visible=person.visible[:16], head_size=10.0 + index)
        for index, person in enumerate(people.people)
    ]
    return annotated


class Recites(PoseEstimator):
    """Answers with given key points, crop by crop."""

    def __init__(self, keypoints: np.ndarray) -> None:
        super().__init__(create_model("naive_litehrnet_18", num_outputs=16), input_size=SIZE, batch_size=7)
        self.rest = keypoints.astype(np.float32)

    def predict_crops_with(self, decoders: Any, crops: Tensor, centers: Any, scales: Any) -> Any:
        now, self.rest = np.split(self.rest, [len(crops)])
        return [(now, np.ones(now.shape[:2], np.float32)) for _ in decoders]


def test_heads_are_measured_in_pckh_as_mmpose_does(golden: Path, heads: CocoKeypoints) -> None:
    """The stored people stand in boxes of drawn ones; what is compared is the way from boxes to figures."""
    stored = json.loads((golden / "pipeline" / "mpii_pckh.json").read_text())
    truth = np.array(stored["gt_keypoints_1_based"], np.float32) - 1
    boxes = [heads.people[index % len(heads.people)] for index in range(len(truth))]
    heads.people = [
        replace(
            box,
            annotation_id=1000 + 7 * index,
            keypoints=truth[index],
            visible=np.array(stored["visible"][index], np.float32),
            head_size=stored["head_size"][index],
        )
        for index, box in enumerate(boxes)
    ]
    estimator = Recites(np.array(stored["predictions_0_based"]))
    evaluation = evaluate(estimator, heads, progress=False)
    assert (evaluation.metric, evaluation.boxes, evaluation.score_name) == ("pckh", "annotated", "PCKh@0.5")
    expected = stored["stats"]
    # Predictions pass through float32: to 6e-5 of a pixel at a thousand pixels. None is that close to a threshold.
    assert 100 * evaluation.score == pytest.approx(expected["PCK"], abs=1e-9)
    assert 100 * evaluation.metrics["PCKh@0.1"] == pytest.approx(expected["PCK@0.1"], abs=1e-6)  # mmpose: float32
    for group in ("Head", "Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle"):
        value = evaluation.metrics[f"PCKh@0.5 {group.lower()}"]
        assert 100 * value == pytest.approx(expected[f"{group} PCK"], abs=1e-9), group
    assert len(evaluation.results) == len(truth)  # nobody is suppressed
    assert [pose.annotation_id for pose in evaluation.poses] == [person.annotation_id for person in heads.people]


def test_pck_on_request(people: CocoKeypoints, oracle: KnowsTheTruth) -> None:
    estimator = PoseEstimator(oracle, input_size=SIZE)
    evaluation = evaluate(estimator, people, metric="pck", pck_threshold=0.1, progress=False)
    assert (evaluation.metric, evaluation.score_name) == ("pck", "PCK@0.1")
    misses: dict[str, list[bool]] = {name: [] for name in COCO.names}
    distances = []
    for pose, person in zip(evaluation.poses, people.people, strict=True):
        longer = max(person.box[2] - person.box[0], person.box[3] - person.box[1])
        for joint, name in enumerate(COCO.names):
            if person.visible[joint]:
                distances.append(np.hypot(*(pose.keypoints[joint] - person.keypoints[joint])))
                misses[name].append(distances[-1] < 0.1 * longer)
    assert evaluation.metrics["EPE"] == pytest.approx(np.mean(distances))
    for name, hits in misses.items():
        assert evaluation.metrics[f"PCK@0.1 {name}"] == pytest.approx(np.mean(hits) if hits else -1)
    assert evaluation.score > 0.9
    assert len(evaluation.results) == len(people.people)


def test_the_metric_follows_the_data(people: CocoKeypoints, heads: CocoKeypoints) -> None:
    assert natural_metric(people) == "coco"
    assert natural_metric(heads) == "pckh"
    heads.people = [*heads.people[:-1], replace(heads.people[-1], head_size=None)]
    assert natural_metric(heads) == "coco"
    heads.people = []
    assert natural_metric(heads) == "coco"


def test_mpii_without_head_sizes_says_why_it_is_not_pckh(heads: CocoKeypoints, tmp_path: Path) -> None:
    assert why_not_pckh(heads) is None, "these are none of MPII's"
    person = {"image": "a.jpg", "center": [50, 60], "scale": 0.5, "joints": [[11, 21]] * 16, "joints_vis": [1] * 16}
    for sizes, expected in (([{"head_size": 9.0}, {"head_size": 8.0}], None), ([{"head_size": 9.0}, {}], "1 of 2")):
        file = tmp_path / "mpii_val.json"
        file.write_text(json.dumps([person | size for size in sizes]))
        said = why_not_pckh(MpiiKeypoints(file, tmp_path))
        if expected is None:
            assert said is None
        else:
            assert said is not None
            assert f"PCK by the size of boxes is reported instead of PCKh, because {expected} people have no" in said
            assert "put mpii_gt_val.mat beside it" in said


def test_metrics_that_cannot_be_had_are_said(people: CocoKeypoints, heads: CocoKeypoints, checkpoint: Path) -> None:
    estimator = PoseEstimator(checkpoint=checkpoint)
    detected = [PersonBox(person.image_id, person.box, 0.5, None) for person in people.people]
    with pytest.raises(
        InputError, match="boxes: expected annotated boxes for the metric pck, which compares person by"
    ):
        evaluate(estimator, people, detected, metric="pck")
    with pytest.raises(InputError, match="expected the 16 joints of MPII for PCKh, got 17"):
        evaluate(estimator, people, metric="pckh")
    heads.people = [replace(person, head_size=None) for person in heads.people]
    with pytest.raises(InputError, match="expected the size of everybody's head for PCKh, got none for annotation"):
        evaluate(Recites(np.empty((0, 16, 2))), heads, metric="pckh")
    with pytest.raises(InputError, match="metric: expected one of coco, pckh, pck, got 'ap'"):
        evaluate(estimator, people, metric="ap")  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------ every decoder


def test_decoders_share_the_network(people: CocoKeypoints, oracle: KnowsTheTruth) -> None:
    found = evaluate_decoders(PoseEstimator(oracle, input_size=SIZE), people, None, DECODERS, progress=False)
    assert list(found) == list(DECODERS)
    assert len(oracle.given) == 2  # the crops of udp are others
    for decoder, evaluation in found.items():
        oracle.given.clear()
        alone = evaluate(PoseEstimator(oracle, input_size=SIZE, decoder=decoder), people, progress=False)
        assert evaluation.metrics == alone.metrics
        assert evaluation.results == alone.results


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
        InputError, match=r"json: expected annotations with 16 joints as the network has outputs, got 17 \(coco\)"
    ):
        evaluate(estimator, people)


def test_no_boxes_are_said(people: CocoKeypoints, checkpoint: Path) -> None:
    with pytest.raises(InputError, match="expected at least one box to look for people in, got none"):
        evaluate(PoseEstimator(checkpoint=checkpoint), people, [])


def test_what_the_reader_accepts_is_measured(people: CocoKeypoints, oracle: KnowsTheTruth, tmp_path: Path) -> None:
    """Annotations without areas, and some of another category, without key points."""
    content = json.loads(people.annotation_file.read_text())
    for annotation in content["annotations"]:
        del annotation["area"]
    content["categories"].append({"id": 77, "name": "dog"})
    dog = {"id": 1000, "image_id": content["images"][0]["id"], "category_id": 77, "bbox": [1, 1, 9, 9]}
    content["annotations"].append(dog)
    file = tmp_path / "without_area.json"
    file.write_text(json.dumps(content))
    read = CocoKeypoints(file, people.image_dir)
    assert len(read.people) == len(people.people)
    estimator = PoseEstimator(oracle, input_size=SIZE)
    expected = evaluate(estimator, people, progress=False).score
    # Boxes are larger than the people in them, so that distances count less.
    assert evaluate(estimator, read, progress=False).score >= expected > 0.5


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
