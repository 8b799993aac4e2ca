"""The drawn data: repeatable, valid COCO, true to what is drawn, and varied."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO as CocoFile
from pycocotools.cocoeval import COCOeval

from litehrnet_cuda.data import generator
from litehrnet_cuda.data.generator import CATEGORIES, Scene, generate_scene, write_coco
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import COCO

COUNT = 150


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [generate_scene(11, i) for i in range(COUNT)]


@pytest.fixture(scope="module")
def people(scenes: list[Scene]) -> list[dict[str, Any]]:
    return [annotation for scene in scenes for annotation in scene.annotations]


def flags_of(annotation: dict[str, Any]) -> np.ndarray:
    return np.array(annotation["keypoints"]).reshape(17, 3)[:, 2].astype(int)


def decoded(annotation: dict[str, Any]) -> np.ndarray:
    with warnings.catch_warnings():
        # pycocotools' array class does not know NumPy 2's `copy` keyword.
        warnings.simplefilter("ignore", DeprecationWarning)
        return np.asarray(coco_mask.decode(annotation["segmentation"]))


def test_a_scene_depends_on_seed_and_index_alone(scenes: list[Scene]) -> None:
    for index in (90, 3):
        again = generate_scene(11, index)
        assert np.array_equal(again.image, scenes[index].image)
        assert np.array_equal(again.mask, scenes[index].mask)
        assert again.annotations == scenes[index].annotations
    assert not np.array_equal(generate_scene(12, 3).image, scenes[3].image)
    assert not np.array_equal(scenes[4].image, scenes[3].image)


@pytest.mark.parametrize("size", [(320, 240), (97, 131), (384, 288)])
def test_size_and_types(size: tuple[int, int]) -> None:
    scene = generate_scene((1, 2), 0, size=size)
    assert scene.image.shape == (size[1], size[0], 3)
    assert scene.mask.shape == (size[1], size[0])
    assert scene.image.dtype == scene.mask.dtype == np.uint8


def test_number_of_people() -> None:
    assert generate_scene(0, 0, people=(0, 0)).annotations == []
    assert not generate_scene(0, 0, people=(0, 0)).mask.any()
    # Someone may be wholly hidden, so four is the most, not the rule.
    assert max(len(generate_scene(0, i, people=(4, 4)).annotations) for i in range(5)) == 4


def test_masks_areas_and_boxes_agree(scenes: list[Scene]) -> None:
    for scene in scenes:
        together = np.zeros(scene.mask.shape, int)
        for annotation in scene.annotations:
            mask = decoded(annotation)
            assert mask.sum() == annotation["area"] > 0
            x, y, w, h = annotation["bbox"]
            rows, columns = np.nonzero(mask)
            # The box holds the whole figure, so it contains the seen part and lies inside of the image.
            assert 0 <= x <= columns.min() <= columns.max() < x + w <= scene.mask.shape[1]
            assert 0 <= y <= rows.min() <= rows.max() < y + h <= scene.mask.shape[0]
            together += mask
        assert together.max(initial=0) <= 1, "a pixel belongs to one person at most"
        assert np.array_equal(together > 0, scene.mask > 0)
        assert scene.mask.max(initial=0) < len(CATEGORIES)


def test_box_of_a_person_alone_is_tight() -> None:
    checked = 0
    for i in range(60):
        scene = generate_scene(5, i, people=(1, 1))
        for annotation in scene.annotations:
            rows, columns = np.nonzero(decoded(annotation))
            seen = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
            checked += seen == annotation["bbox"]
    # Objects stand in front of about one person in six and cut some of them at the rim; all others are exact.
    assert checked >= 45


def test_visibility_flags_are_true(scenes: list[Scene]) -> None:
    for scene in scenes:
        height, width = scene.mask.shape
        for annotation in scene.annotations:
            keypoints = np.array(annotation["keypoints"]).reshape(17, 3)
            mask = decoded(annotation)
            assert annotation["num_keypoints"] == np.count_nonzero(keypoints[:, 2])
            for x, y, flag in keypoints:
                assert flag in (0, 1, 2)
                if flag == 0:
                    assert x == y == 0
                else:
                    column, row = int(np.rint(x)), int(np.rint(y))
                    assert 0 <= column < width
                    assert 0 <= row < height
                    assert flag == 1 or mask[row, column], "what is seen of a person lies on the person"


def test_left_is_on_the_right_of_a_person_who_faces_the_camera(people: list[dict[str, Any]]) -> None:
    pairs = [(COCO.names.index(f"left_{joint}"), COCO.names.index(f"right_{joint}")) for joint in ("shoulder", "ear")]
    facing = away = 0
    for annotation in people:
        keypoints = np.array(annotation["keypoints"]).reshape(17, 3)
        for left, right in pairs:
            if keypoints[[left, right], 2].min() == 0:
                continue
            if abs(annotation["yaw"]) < 30:
                facing += 1
                assert keypoints[left, 0] > keypoints[right, 0]
            elif abs(annotation["yaw"]) > 150:
                away += 1
                assert keypoints[left, 0] < keypoints[right, 0]
    assert facing > 50
    assert away > 5


def test_the_face_is_seen_from_the_front_only(people: list[dict[str, Any]]) -> None:
    front = [flags_of(a)[0] for a in people if abs(a["yaw"]) < 40]
    behind = [flags_of(a)[0] for a in people if abs(a["yaw"]) > 150]
    assert np.mean(np.array(front) == 2) > 0.75
    assert not np.any(np.array(behind) == 2)


def test_variety(scenes: list[Scene], people: list[dict[str, Any]]) -> None:
    counts = np.bincount([len(scene.annotations) for scene in scenes], minlength=5)
    assert counts[1:5].min() > 0
    assert counts[0] < 0.02 * COUNT
    yaw = np.abs([a["yaw"] for a in people])
    assert 0.6 < np.mean(yaw < 60) < 0.95
    assert np.any((yaw > 60) & (yaw < 120))
    assert np.any(yaw > 140)
    assert len({a["pose"] for a in people}) >= 6
    flags = np.concatenate([flags_of(a) for a in people])
    seen, hidden, outside = (np.mean(flags == flag) for flag in (2, 1, 0))
    assert 0.6 < seen < 0.92
    assert 0.06 < hidden < 0.35
    assert 0.002 < outside < 0.12
    heights = np.array([a["bbox"][3] for a in people])
    assert np.mean((heights >= 90) & (heights <= 225)) > 0.8


def test_images_are_neither_flat_nor_burnt(scenes: list[Scene]) -> None:
    means = np.array([scene.image.mean() for scene in scenes])
    spreads = np.array([scene.image.std() for scene in scenes])
    clipped = np.array([np.mean((scene.image == 0) | (scene.image == 255)) for scene in scenes])
    assert 80 < means.mean() < 170
    assert means.std() > 10
    assert spreads.min() > 10
    assert np.median(clipped) < 0.05


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools, with NumPy 2
def test_pycocotools_reads_the_folder_and_scores_the_truth_with_1(tmp_path: Path) -> None:
    calls: list[int] = []
    path = write_coco(tmp_path, 12, seed=3, split="val", progress=calls.append)
    assert path == tmp_path / "annotations" / "person_keypoints_val.json"
    assert calls == list(range(1, 13))
    truth = CocoFile(str(path))
    assert truth.loadCats([1])[0]["keypoints"] == list(COCO.names)
    for image in truth.loadImgs(truth.getImgIds()):
        shape = (image["height"], image["width"])
        assert cv2.imread(str(tmp_path / "val" / image["file_name"])).shape[:2] == shape
        classes = cv2.imread(str(tmp_path / "masks" / "val" / f"{image['id']:012d}.png"), cv2.IMREAD_UNCHANGED)
        union = np.zeros(shape, bool)
        for annotation in truth.loadAnns(truth.getAnnIds([image["id"]])):
            union |= truth.annToMask(annotation).astype(bool)
        assert np.array_equal(classes > 0, union)
    annotations = truth.loadAnns(truth.getAnnIds())
    assert sorted(a["id"] for a in annotations) == list(range(1, len(annotations) + 1))
    results = [{k: a[k] for k in ("image_id", "category_id", "keypoints")} | {"score": 1.0} for a in annotations]
    evaluation = COCOeval(truth, truth.loadRes(results), "keypoints")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)


def test_splits_and_seeds_differ_and_workers_do_not_matter(tmp_path: Path) -> None:
    def first(directory: str, **arguments: Any) -> bytes:
        split = arguments.get("split", "train")
        write_coco(tmp_path / directory, 3, **arguments)
        return (tmp_path / directory / split / "000000000003.jpg").read_bytes()

    alone = first("a", seed=1)
    assert first("b", seed=1, workers=2) == alone
    assert first("a", seed=1, split="val") != alone
    assert first("c", seed=2) != alone
    assert (tmp_path / "a/annotations/person_keypoints_train.json").read_bytes() == (
        tmp_path / "b/annotations/person_keypoints_train.json"
    ).read_bytes()


def test_a_finished_set_is_reused_and_another_one_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_coco(tmp_path, 3)
    with monkeypatch.context() as patch:
        patch.setattr(generator, "generate_scene", None)  # drawing again would fail
        assert write_coco(tmp_path, 3) == path
    write_coco(tmp_path, 2)
    assert sorted(p.name for p in (tmp_path / "train").iterdir()) == ["000000000001.jpg", "000000000002.jpg"]
    assert len(json.loads(path.read_text())["images"]) == 2


def test_an_interrupted_run_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    def stop(done: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_coco(tmp_path, 4, progress=stop)
    assert not list(tmp_path.rglob("*.json"))
    assert not list(tmp_path.rglob("*.jpg"))


def test_a_killed_run_leaves_only_a_hidden_draft_that_the_next_run_removes(tmp_path: Path) -> None:
    code = (
        "import os, sys; from litehrnet_cuda.data.generator import write_coco;"
        "write_coco(sys.argv[1], 9, progress=lambda done: os._exit(9) if done == 2 else None)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 9
    assert [p.name for p in tmp_path.iterdir()] == [".train.unfinished"]
    write_coco(tmp_path, 1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["annotations", "masks", "train"]
    assert [p.name for p in (tmp_path / "train").iterdir()] == ["000000000001.jpg"]


def test_a_run_stopped_while_it_moves_its_files_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(source: Path, target: Path) -> None:
        if target.suffix == ".json":
            raise OSError("no space left")
        shutil.move(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="no space left"):
            write_coco(tmp_path, 2)
    assert not list((tmp_path / "annotations").iterdir())
    assert len(json.loads(write_coco(tmp_path, 2).read_text())["images"]) == 2


@pytest.mark.parametrize("content", ['{"info": {}, "images": []}', "not json", "[]"])
def test_data_from_elsewhere_are_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "annotations" / "person_keypoints_train.json"
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(InputError, match="choose another directory"):
        write_coco(tmp_path, 1)
    assert path.read_text() == content
    bare = tmp_path / "bare"
    (bare / "train").mkdir(parents=True)
    (bare / "train" / "mine.jpg").write_bytes(b"precious")
    with pytest.raises(InputError, match="choose another directory"):
        write_coco(bare, 1)
    assert (bare / "train" / "mine.jpg").read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "count: expected 1 or more images, got 0"),
        ({"count": 1, "split": "../x"}, "split: expected a name"),
        ({"count": 1, "split": "masks"}, "split: expected a name"),
        ({"count": 1, "workers": 0}, "workers: expected 1 or more"),
        ({"count": 1, "size": (10, 240)}, "size: expected a width and height of at least 64 pixels, got 10 x 240"),
        ({"count": 1, "people": (3, 9)}, "people: expected"),
        ({"count": 1, "seed": -1}, "seed"),
    ],
)
def test_bad_arguments(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        write_coco(tmp_path, **arguments)
    assert not list(tmp_path.iterdir())
