"""Boxes of people from files, and which image they belong to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from litehrnet_cuda.data.boxes import BoxTable, ImageBoxes, read_boxes
from litehrnet_cuda.errors import InputError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "boxes.json"


def read(file: Path, content: Any) -> BoxTable:
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return read_boxes(file)


def annotations(**changes: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
        "annotations": [
            {"id": 5, "image_id": 1, "bbox": [10, 20, 30, 40], "category_id": 1},
            {"id": 6, "image_id": 1, "bbox": [1, 2, 3, 4], "category_id": 1, "iscrowd": 1},
            {"id": 7, "image_id": 1, "bbox": [1, 2, 0, 4], "category_id": 1},
            {"id": 8, "image_id": 1, "bbox": [1, 2, 3, 4], "category_id": 3},
        ],
        "categories": [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}],
        **changes,
    }


def test_names_to_corners(file: Path) -> None:
    table = read(file, {"a.jpg": [[1, 2, 3, 4], [5.5, 6, 7, 8]], "b.jpg": []})
    assert table.images == {"a.jpg": ImageBoxes([[1, 2, 3, 4], [5.5, 6, 7, 8]], [1, 1]), "b.jpg": ImageBoxes()}


def test_detections(file: Path) -> None:
    detections = [
        {"file_name": "a.jpg", "bbox": [10, 20, 30, 40], "score": 0.5},
        {"file_name": "b.jpg", "bbox": [0, 0, 1, 1]},
        {"file_name": "a.jpg", "bbox": [-1.5, 2, 3, 4], "score": 0.25},
    ]
    table = read(file, detections)
    assert table.images["a.jpg"] == ImageBoxes([[10, 20, 40, 60], [-1.5, 2, 1.5, 6]], [0.5, 0.25])
    assert table.images["b.jpg"] == ImageBoxes([[0, 0, 1, 1]], [1])


def test_boxes_of_frames(file: Path) -> None:
    boxes = read(file, {"a.mp4": {"3": [[1, 2, 3, 4]], "0": []}, "b.mp4": [[1, 2, 5, 6]], "c.mp4": {}}).images
    assert boxes["a.mp4"].frames == {3: ImageBoxes([[1, 2, 3, 4]], [1]), 0: ImageBoxes()}
    assert boxes["a.mp4"].of_frame(3) == ImageBoxes([[1, 2, 3, 4]], [1])
    assert boxes["a.mp4"].of_frame(0) == ImageBoxes()
    assert boxes["a.mp4"].of_frame(1) is None
    assert boxes["b.mp4"].of_frame(77) == ImageBoxes([[1, 2, 5, 6]], [1])
    assert boxes["c.mp4"] == ImageBoxes()


def test_detections_of_frames(file: Path) -> None:
    detections = [
        {"file_name": "a.mp4", "frame": 2, "bbox": [10, 20, 30, 40], "score": 0.5},
        {"file_name": "a.mp4", "frame": 2, "bbox": [0, 0, 1, 1]},
        {"file_name": "a.mp4", "frame": 0, "bbox": [0, 0, 2, 2]},
    ]
    frames = read(file, detections).images["a.mp4"].frames
    assert frames == {2: ImageBoxes([[10, 20, 40, 60], [0, 0, 1, 1]], [0.5, 1]), 0: ImageBoxes([[0, 0, 2, 2]], [1])}


def test_annotations_without_crowds_empty_boxes_and_other_things(file: Path) -> None:
    table = read(file, annotations())
    assert table.images == {"a.jpg": ImageBoxes([[10, 20, 40, 60]], [1]), "b.jpg": ImageBoxes()}


def test_annotations_without_categories_are_all_people(file: Path) -> None:
    content = annotations()
    del content["categories"]
    assert len(read(file, content).images["a.jpg"].boxes) == 2


def test_the_real_annotations(shared: Path) -> None:
    table = read_boxes(shared / "data" / "coco" / "test_coco.json")
    assert sorted(table.images) == ["000000000785.jpg", "000000040083.jpg", "000000196141.jpg", "000000197388.jpg"]
    assert all(entry.boxes for entry in table.images.values())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("", "not valid JSON"),
        ("3", "expected an object .* or a COCO annotation file; got 3"),
        ("null", "got None"),
        ({"a.jpg": {"boxes": []}}, "a.jpg: expected a list of boxes, got {'boxes'"),
        ({"a.jpg": [1, 2, 3, 4]}, "a.jpg: box 0: expected a box of four finite numbers, got 1"),
        ({"a.jpg": [[1, 2, 3, 4], [1, 2, 3]]}, r"a.jpg: box 1: expected a box of four finite numbers, got \[1, 2, 3\]"),
        ({"a.jpg": [[1, 2, 3, "4"]]}, "a.jpg: box 0: expected a box of four finite numbers"),
        ({"a.jpg": [[1, 2, 3, None]]}, "a.jpg: box 0: expected a box of four finite numbers"),
        ({"a.jpg": [[1, 2, 3, True]]}, "a.jpg: box 0: expected a box of four finite numbers"),
        ('{"a.jpg": [[1, 2, NaN, 4]]}', r"a.jpg: box 0: expected a box of four finite numbers, got \[1, 2, nan, 4\]"),
        ('{"a.jpg": [[1, 2, Infinity, 4]]}', "a.jpg: box 0: expected a box of four finite numbers"),
        ('{"a.jpg": [[1, 2, 1' + "0" * 400 + ", 4]]}", "a.jpg: box 0: expected a box of four finite numbers"),
        ({"a.jpg": [[3, 2, 1, 4]]}, "a.jpg: box 0: expected a box with left < right"),
        (
            {"a.mp4": {"3": [[1, 2, 3]]}},
            r"a.mp4: frame 3: box 0: expected a box of four finite numbers, got \[1, 2, 3\]",
        ),
        ({"a.mp4": {"3": 4}}, "a.mp4: frame 3: expected a list of boxes, got 4"),
        ({"a.mp4": {"-1": []}}, "a.mp4: expected a list of boxes, got {'-1'"),
        ([{"file_name": "a", "frame": -1, "bbox": [1, 2, 3, 4]}], "detection 0: frame: expected the number of a frame"),
        (
            [{"file_name": "a", "frame": 1, "bbox": [1, 2, 3, 4]}, {"file_name": "a", "bbox": [1, 2, 3, 4]}],
            "a: expected a frame in each of its detections, or in none",
        ),
        ([[1, 2, 3, 4]], "expected a list of objects"),
        ([{"image_id": 1, "bbox": [1, 2, 3, 4]}], "detection 0: file_name: expected the name of an image, got None"),
        ([{"file_name": "a.jpg"}], "detection 0: expected a box of four finite numbers, got None"),
        ([{"file_name": "a.jpg", "bbox": [1, 2, 3, -4]}], "detection 0: expected a box with left < right"),
        (
            [{"file_name": "a.jpg", "bbox": [1, 2, 3, 4], "score": "high"}],
            "detection 0: score: expected a finite number",
        ),
        (annotations(images=[{"id": 1}]), r"images\[0\]: expected an id and a file_name"),
        (annotations(images=[{"id": [1], "file_name": "a"}]), r"images\[0\]: expected an id and a file_name"),
        (annotations(images=3), "images: expected a list of objects"),
        (annotations(annotations=[3]), "annotations: expected a list of objects"),
        (annotations(annotations=[{"id": 9, "image_id": 4, "bbox": [1, 2, 3, 4]}]), "annotation 9: image_id: .* got 4"),
        (
            annotations(annotations=[{"image_id": [1], "bbox": [1, 2, 3, 4]}]),
            "annotation 0: image_id: expected that of",
        ),
        (annotations(annotations=[{"id": 9, "image_id": 1}]), "annotation 9: expected a box of four finite numbers"),
        (annotations(categories=[3]), "categories: expected a list of objects"),
    ],
)
def test_mistakes_are_said_with_their_place(file: Path, content: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read(file, content)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_absent_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"boxes\.json: .*no such file"):
        read_boxes(tmp_path / "boxes.json")


def table_of(*names: str) -> BoxTable:
    return BoxTable({name: ImageBoxes([[0, 0, index + 1, 1]], [1]) for index, name in enumerate(names)})


def chosen(table: BoxTable, path: str) -> str | None:
    boxes = table.of(Path(path))
    return next((name for name, entry in table.images.items() if entry is boxes), None)


@pytest.mark.parametrize(
    ("names", "path", "expected"),
    [
        (("1.jpg", "2.jpg"), "/data/2.jpg", "2.jpg"),
        (("val2017/1.jpg",), "/elsewhere/1.jpg", "val2017/1.jpg"),
        (("1.jpg",), "/data/11.jpg", None),
        (("left/1.jpg", "right/1.jpg"), "/data/right/1.jpg", "right/1.jpg"),
        (("a/left/1.jpg", "b/left/1.jpg"), "/data/b/left/1.jpg", "b/left/1.jpg"),
        (("1.jpg", "/data/left/1.jpg"), "/data/left/1.jpg", "/data/left/1.jpg"),
        (("1.png",), "/data/1.jpg", None),
    ],
)
def test_an_image_has_the_boxes_of_the_name_that_fits_best(names: tuple[str, ...], path: str, expected: str) -> None:
    assert chosen(table_of(*names), path) == expected


def test_relative_paths_know_their_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "right").mkdir()
    monkeypatch.chdir(tmp_path / "right")
    assert chosen(table_of("left/1.jpg", "right/1.jpg"), "1.jpg") == "right/1.jpg"


def test_names_that_fit_equally_well_are_said() -> None:
    with pytest.raises(
        InputError, match=r"1\.jpg: expected boxes for it under one name, .* left/1.jpg and right/1.jpg"
    ):
        table_of("left/1.jpg", "right/1.jpg").of(Path("/data/1.jpg"))
