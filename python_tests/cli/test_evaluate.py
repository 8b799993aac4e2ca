"""`litehrnet evaluate`: the figures of real weights, and one sentence for what cannot be evaluated."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from litehrnet_cuda.cli.main import main

Run = Callable[..., tuple[int, str, list[str]]]


@pytest.fixture
def evaluate(capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs the command and returns its status, its output and the lines on standard error."""

    def run(annotations: Path, checkpoint: Path, *options: str | Path) -> tuple[int, str, list[str]]:
        arguments = ["--annotations", str(annotations), "--checkpoint", str(checkpoint), "--device", "cpu"]
        status = main(["evaluate", *arguments, *map(str, options)])
        printed = capfd.readouterr()
        return status, printed.out, printed.err.splitlines()

    return run


@pytest.fixture
def annotations(coco_folder: Path) -> Path:
    return coco_folder / "annotations" / "person_keypoints_val.json"


def precision(output: str) -> float:
    (line,) = (line for line in output.splitlines() if line.split()[0] == "AP" and len(line.split()) == 2)
    return float(line.split()[1])


# ------------------------------------------------------------------------------------------------------------- figures


@pytest.mark.parametrize(("decoder", "expected"), [("quarter", 0.804), ("dark", 0.812)])
def test_real_weights_on_annotated_boxes(evaluate: Run, shared: Path, decoder: str, expected: float) -> None:
    """What mmpose 1.x gives for PP-TinyPose on four images of COCO, without the flip test; within 0.005."""
    file = shared / "data" / "coco" / "test_coco.json"
    weights = shared / "weights" / "tinypose_256x192.safetensors"
    status, output, errors = evaluate(file, weights, "--decoder", decoder)
    assert (status, errors) == (0, [])
    assert precision(output) == pytest.approx(expected, abs=0.005)
    assert f"input 192x256, {decoder} decoder, flip test off, 12 annotated boxes" in output


def test_real_weights_on_detected_boxes_with_flip_test(evaluate: Run, shared: Path, tmp_path: Path) -> None:
    folder = shared / "data" / "coco"
    weights = shared / "weights" / "tinypose_256x192.safetensors"
    boxes = json.loads((folder / "test_coco_det_AP_H_56.json").read_text())
    detections = tmp_path / "detections.json"
    detections.write_text(json.dumps([box for box in boxes if box["score"] > 0.5]))  # the others are about a hundred
    options = ("--detections", detections, "--flip-test", "--out", tmp_path / "out")
    status, output, errors = evaluate(folder / "test_coco.json", weights, *options)
    assert (status, errors) == (0, [])
    assert "flip test on" in output
    assert "detected boxes" in output
    # The detector found the people too, so that the figure is near that of annotated boxes; how near depends on it.
    assert 0.6 < precision(output) < 0.95
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["boxes"] == "detected"
    assert metrics["AP"] == pytest.approx(precision(output), abs=1e-4)


def test_metrics_and_results_are_written(evaluate: Run, annotations: Path, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    status, output, errors = evaluate(annotations, checkpoint, "--out", out, "--workers", "1")
    assert (status, errors) == (0, [])
    assert sorted(file.name for file in out.iterdir()) == ["metrics.json", "results.json"]
    assert json.loads((out / "metrics.json").read_text())["boxes"] == "annotated"
    results = json.loads((out / "results.json").read_text())
    assert all(len(result["keypoints"]) == 51 for result in results)
    assert "naive_litehrnet_18, input 64x96" in output


def test_size_of_nobody_is_said_in_words(evaluate: Run, annotations: Path, checkpoint: Path, tmp_path: Path) -> None:
    content = json.loads(annotations.read_text())
    for annotation in content["annotations"]:
        annotation["area"] = 20_000  # large to COCO; so nobody is of medium size
    file = tmp_path / "large.json"
    file.write_text(json.dumps(content))
    status, output, _ = evaluate(file, checkpoint, "--images", annotations.parent.parent / "val")
    assert status == 0
    assert "AP (M)   none annotated" in output


@pytest.mark.parametrize("place", ["val", "images/val", "annotations", "elsewhere"])
def test_images_are_found_where_coco_keeps_them(
    evaluate: Run, coco_folder: Path, annotations: Path, checkpoint: Path, place: str, tmp_path: Path
) -> None:
    file = tmp_path / "annotations" / annotations.name
    file.parent.mkdir()
    shutil.copy(annotations, file)
    shutil.copytree(coco_folder / "val", tmp_path / place, dirs_exist_ok=True)
    options = ("--images", tmp_path / place) if place == "elsewhere" else ()
    assert evaluate(file, checkpoint, *options)[0] == 0


# ------------------------------------------------------------------------------------------------ what cannot be done


def one_sentence(outcome: tuple[int, str, list[str]], message: str) -> None:
    status, output, lines = outcome
    assert status == 2
    assert output == ""
    assert len(lines) == 1, lines
    assert lines[0].startswith("litehrnet evaluate: ")
    assert message in lines[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[]", "expected an object with images and annotations, got a list"),
        ({}, "the list is missing"),
        ({"images": [], "annotations": [], "categories": [{"id": 1}]}, "expected at least one box to look for people"),
        (
            {"images": [{"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}], "categories": [{"id": 1}],
             "annotations": [{"id": 4, "image_id": 1, "bbox": [1, 2, 3], "keypoints": [1, 2, 2] * 17}]},
            "annotation 4: bbox: expected 4 finite numbers",
        ),
        (
            '{"images": [{"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}], "categories": [{"id": 1}],'
            '"annotations": [{"id": 4, "image_id": 1, "bbox": [1, 2, NaN, 3], "keypoints": [' + "1," * 50 + "1]}]}",
            "annotation 4: bbox: expected 4 finite numbers",
        ),
    ],
)  # fmt: skip
def test_unusable_annotations(evaluate: Run, checkpoint: Path, tmp_path: Path, content: Any, message: str) -> None:
    file = tmp_path / "annotations.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    one_sentence(evaluate(file, checkpoint), message)
    assert [path.name for path in tmp_path.iterdir()] == ["annotations.json"]


def test_unusable_options(evaluate: Run, annotations: Path, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "file").touch()
    for options, message in (
        (("--images", "/nowhere"), "/nowhere: expected the folder of the images"),
        (("--images", tmp_path), "is missing; check the image folder"),
        (("--detections", "/nowhere/boxes.json"), "/nowhere/boxes.json: "),
        (("--device", "gpu"), "device: expected one that can be used here"),
        (("--model", "litehrnet18"), "did you mean"),
    ):
        one_sentence(evaluate(annotations, checkpoint, *options), message)
    one_sentence(evaluate(tmp_path / "missing.json", checkpoint, "--out", out), "missing.json: ")
    one_sentence(evaluate(annotations, tmp_path / "missing.pth", "--out", out), "missing.pth")
    one_sentence(evaluate(annotations, checkpoint, "--out", tmp_path / "file" / "out"), "cannot be written")
    assert not out.exists()


def test_joints_of_another_kind(evaluate: Run, shared: Path, checkpoint: Path) -> None:
    one_sentence(
        evaluate(shared / "data" / "mpii" / "test_mpii.json", checkpoint), "test_mpii.json: expected an object"
    )


def test_a_broken_image(evaluate: Run, coco_folder: Path, annotations: Path, checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(coco_folder / "val", tmp_path / "val")
    (tmp_path / "val" / "000000000003.jpg").write_bytes(b"broken")
    options = ("--images", tmp_path / "val", "--out", tmp_path / "out")
    one_sentence(
        evaluate(annotations, checkpoint, *options), "000000000003.jpg: expected an image that OpenCV can decode"
    )
    assert list((tmp_path / "out").iterdir()) == []


def test_negative_workers(
    evaluate: Run, annotations: Path, checkpoint: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        evaluate(annotations, checkpoint, "--workers", "-1")
    assert stop.value.code == 2
    assert "expected a whole number of at least 0, got '-1'" in capfd.readouterr().err


@pytest.mark.parametrize("columns", ["80", "100"])
def test_help_fits_a_screen(columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "--help"])
    assert stop.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100
