"""The folder of drawn people: valid COCO, reused when it is complete, and never half of one."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO as CocoFile
from pycocotools.cocoeval import COCOeval

from litehrnet_cuda.data.generated import coco_folder
from litehrnet_cuda.data.generated.coco_folder import write_coco
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import COCO


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
        patch.setattr(coco_folder, "generate_scene", None)  # drawing again would fail
        assert write_coco(tmp_path, 3) == path
    write_coco(tmp_path, 2)
    assert sorted(p.name for p in (tmp_path / "train").iterdir()) == ["000000000001.jpg", "000000000002.jpg"]
    assert len(json.loads(path.read_text())["images"]) == 2


def test_a_set_that_is_not_to_be_replaced_stays(tmp_path: Path) -> None:
    path = write_coco(tmp_path, 2, seed=4)
    before = path.read_bytes()
    message = "expected the drawings of 'train' that are there, of count 2, seed 4, got count 3, seed 5; ask"
    with pytest.raises(InputError, match=message):
        write_coco(tmp_path, 3, seed=5, replace=False)
    assert path.read_bytes() == before
    assert write_coco(tmp_path, 2, seed=4, replace=False) == path


def test_an_interrupted_run_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    def stop(done: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_coco(tmp_path, 4, progress=stop)
    assert not list(tmp_path.rglob("*.json"))
    assert not list(tmp_path.rglob("*.jpg"))


def test_ctrl_c_is_not_for_the_processes_that_draw(tmp_path: Path) -> None:
    def interrupt_them(done: int) -> None:
        for process in multiprocessing.active_children() if done < 20 else ():
            assert process.pid is not None
            os.kill(process.pid, signal.SIGINT)

    write_coco(tmp_path, 40, workers=2, progress=interrupt_them)


def test_a_killed_run_leaves_only_a_hidden_draft_that_the_next_run_removes(tmp_path: Path) -> None:
    code = (
        "import os, sys; from litehrnet_cuda.data.generated.coco_folder import write_coco;"
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
