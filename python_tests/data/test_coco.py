"""Reading of annotation and detection files: the real ones, other key points, and every mistake that we name."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from litehrnet_cuda.data.annotations import Problem
from litehrnet_cuda.data.coco import CocoKeypoints
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import COCO, KeypointSet

TWO = KeypointSet(name="two", names=("left", "right"), flip_pairs=((0, 1),), sigmas=(0.05, 0.05), upper_body=(0, 1))


def annotation(**fields) -> dict:
    base = {"id": 11, "image_id": 3, "category_id": 1, "bbox": [4, 5, 20, 25], "area": 400, "iscrowd": 0}
    return base | {"keypoints": [8, 9, 2, 20, 25, 1]} | fields


def content(*annotations: dict) -> dict:
    return {
        "images": [{"id": 3, "file_name": "a.png", "width": 40, "height": 30}],
        "categories": [{"id": 1, "name": "pair", "keypoints": ["left", "right"]}],
        "annotations": list(annotations) or [annotation()],
    }


@pytest.fixture
def read(tmp_path):
    """Writes a picture and the annotations, and reads them."""
    cv2.imwrite(str(tmp_path / "a.png"), np.full((30, 40, 3), (10, 20, 30), dtype=np.uint8))

    def _read(annotations, keypoint_set=TWO, **options) -> CocoKeypoints:
        file = tmp_path / "people.json"
        file.write_text(annotations if isinstance(annotations, str) else json.dumps(annotations))
        return CocoKeypoints(file, tmp_path, keypoint_set, **options)

    return _read


def test_reads_another_key_point_set(read, capsys):
    data = read(content())
    (person,) = data.people
    np.testing.assert_array_equal(person.keypoints, [[8, 9], [20, 25]])
    np.testing.assert_array_equal(person.visible, [1, 1])
    np.testing.assert_array_equal(person.box, [4, 5, 24, 29])  # the image is 30 pixels high: clipped to its last row
    assert (person.image_id, person.annotation_id, person.score) == (3, 11, 1.0)
    np.testing.assert_array_equal(data.read_image(3)[0, 0], [10, 20, 30])  # BGR
    np.testing.assert_array_equal(read(content(), box_convention="official").people[0].box, [4, 5, 23, 29])
    assert capsys.readouterr().out == ""


def test_leaves_out_whom_nobody_can_learn_from(read):
    found = content(
        annotation(id=1, keypoints=[0, 0, 0, 0, 0, 0]),
        annotation(id=2, iscrowd=1),
        annotation(id=3, bbox=[4, 5, 0, 25]),
        annotation(id=4, bbox=[100, 100, 20, 20]),
        annotation(id=5, area=0),
        annotation(id=6, category_id=2, keypoints=[]),
        annotation(id=7),
    )
    found["categories"].append({"id": 2, "name": "dog"})
    data = read(found)
    assert [person.annotation_id for person in data.people] == [7]


def test_reads_the_real_files_as_mmpose_does(shared, golden):
    folder = shared / "data" / "coco"
    data = CocoKeypoints(folder / "test_coco.json", folder)
    stored = json.loads((golden / "pipeline" / "affine.json").read_text())
    stored = [
        item for item in stored if item["dataset"] == "coco" and item["input_size"] == [192, 256] and not item["udp"]
    ]
    assert [person.annotation_id for person in data.people] == [item["id"] for item in stored]
    for person, item in zip(data.people, stored, strict=True):
        # float32 coordinates below 1024
        np.testing.assert_allclose(person.box, item["bbox_xyxy"], rtol=0, atol=2.0**-14)
        np.testing.assert_array_equal(person.keypoints, np.array(item["keypoints"]))
        np.testing.assert_array_equal(person.visible, item["keypoints_visible"])
    boxes = data.detections(folder / "test_coco_det_AP_H_56.json")
    assert len(boxes) == 118
    assert len(data.detections(folder / "test_coco_det_AP_H_56.json", score_threshold=0.5)) == 18
    assert boxes[0].annotation_id is None


def without(field: str, of: str = "annotations") -> dict:
    result = copy.deepcopy(content())
    del result[of][0][field]
    return result


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ("{", r"people\.json: not valid JSON: .* in line 1, column 2"),
        ("[]", r"people\.json: expected an object with images and annotations, got a list"),
        ({"images": []}, "categories: the list is missing"),
        (content() | {"annotations": {}}, "annotations: expected a list, got an object"),
        (without("keypoints"), "annotation 11: keypoints: the field is missing"),
        (without("bbox"), "annotation 11: bbox: the field is missing"),
        (without("image_id"), "annotation 11: image_id: the field is missing"),
        (without("id"), r"annotations\[0\]: id: the field is missing"),
        (without("file_name", "images"), "image 3: file_name: expected the name of a file, got None"),
        (without("width", "images"), "image 3: width: the field is missing"),
        (
            content(annotation(keypoints=[1, 2, 3])),
            r"keypoints: expected 6 numbers \(x, y, visibility of 2 joints\), got 3 values",
        ),
        (content(annotation(keypoints=[1, 2, 3, 4, None, 6])), "keypoints: expected 6 numbers .*, got None among them"),
        (
            content(annotation(bbox=[1, 2, float("nan"), 4])),
            "annotation 11: bbox: expected 4 finite numbers .*, got nan among them",
        ),
        (
            content(annotation(bbox=[1, 2, -3, 4])),
            "annotation 11: bbox: expected a width and height of at least 0, got -3 x 4",
        ),
        (content(annotation(bbox="1 2 3 4")), "bbox: expected 4 finite numbers .*, got a string"),
        (content(annotation(image_id=9)), "annotation 11: image_id 9 is not among the images"),
        (content(annotation(id="x")), "id: expected a whole number, got 'x'"),
        (content(annotation(), annotation()), "annotation 11: the id appears twice"),
        (content(annotation(area="big")), "annotation 11: area: expected a finite number, got 'big'"),
        (content() | {"images": content()["images"] * 2}, "image 3: the id appears twice"),
        (content() | {"images": [None]}, r"images\[0\]: expected an object, got nothing"),
    ],
)
def test_says_what_is_wrong(read, annotations, message):
    with pytest.raises(InputError, match=message) as caught:
        read(annotations)
    assert "people.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_says_that_the_key_point_set_does_not_fit(read):
    with pytest.raises(
        InputError, match=r"expected one with the 17 keypoints of 'coco', got categories with 2 keypoints"
    ):
        read(content(), COCO)


def test_says_what_is_absent(read, tmp_path):
    with pytest.raises(InputError, match=r"absent\.json: expected an annotation file, but there is no such file"):
        CocoKeypoints(tmp_path / "absent.json", tmp_path)
    data = read(content())
    with pytest.raises(InputError, match="absent: expected the folder of the images, but there is no such folder"):
        CocoKeypoints(data.annotation_file, tmp_path / "absent", TWO)
    picture = tmp_path / "a.png"
    picture.write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"a\.png: expected an image that OpenCV can decode"):
        data.read_image(3)
    cv2.imwrite(str(picture), np.zeros((30, 41, 3), dtype=np.uint8))
    with pytest.raises(
        InputError, match=r"a\.png: expected 40 x 30 pixels as people\.json says for image 3, got 41 x 30"
    ):
        data.read_image(3)
    picture.unlink()
    with pytest.raises(InputError, match=r"a\.png: image 3 of people\.json is missing; check the image folder"):
        data.read_image(3)


def test_detections(read, tmp_path):
    data, file = read(content()), Path(tmp_path / "detections.json")

    def detections(*changes: dict, **options) -> list:
        file.write_text(
            json.dumps([{"image_id": 3, "category_id": 1, "bbox": [-5, 1, 20, 10], "score": 0.6} | c for c in changes])
        )
        return data.detections(file, **options)

    found = detections({}, {"score": 0.4}, {"category_id": 2}, {"bbox": [0, 0, 0, 5]}, score_threshold=0.5)
    assert len(found) == 1
    np.testing.assert_array_equal(found[0].box, [-5, 1, 15, 11])  # not clipped
    for change, message in [
        (
            {"image_id": 4},
            r"detections\.json: expected boxes in the images of people\.json, got 1, .* image 4;",
        ),
        ({"image_id": 4, "bbox": [1, 2]}, "detection 0: bbox: expected 4 finite numbers"),
        ({"score": None}, "detection 0: score: expected a finite number, got None"),
        ({"bbox": [1, 2, 3]}, "detection 0: bbox: expected 4 finite numbers .*, got 3 values"),
    ]:
        with pytest.raises(InputError, match=message):
            detections(change)
    file.write_text("{}")
    with pytest.raises(InputError, match="expected a list of detections, got an object"):
        data.detections(file)
    file.write_text("[]")
    assert data.detections(file) == []


def test_detections_in_other_images_are_left_out_and_said(read, tmp_path):
    data, file = read(content()), tmp_path / "detections.json"
    box = {"image_id": 3, "category_id": 1, "bbox": [1, 1, 20, 10], "score": 0.6}
    changes = ({"image_id": 4}, {}, {"image_id": 5}, {"image_id": 4}, {"image_id": 6, "category_id": 2}, {"score": 0.1})
    file.write_text(json.dumps([box | change for change in changes]))
    said = []
    boxes = data.detections(file, score_threshold=0.5, on_problem=said.append)
    assert [(one.image_id, one.score) for one in boxes] == [(3, 0.6)]
    message = f"{file}: 3 of 5 boxes are left out, which are in 2 images that people.json does not have"
    assert said == [Problem("the box is in another image", message, is_error=False)]
    with pytest.warns(UserWarning, match="3 of 5 boxes are left out"):
        assert len(data.detections(file)) == 2
    assert data.detections(file, score_threshold=0.9, on_problem=said.append) == [], "its images fit"
