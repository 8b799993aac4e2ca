"""`litehrnet evaluate`: the figures of real weights, and one sentence for what cannot be evaluated."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from litehrnet_cuda import __version__
from litehrnet_cuda.cli.arguments import DECODER_NAMES
from litehrnet_cuda.cli.commands.evaluate import BAD_IMAGES_NAMES, BOX_CONVENTION_NAMES, METRIC_NAMES
from litehrnet_cuda.cli.main import main
from litehrnet_cuda.data.coco import CocoKeypoints
from litehrnet_cuda.data.pose_dataset import BAD_IMAGES
from litehrnet_cuda.data.transforms import BOX_CONVENTIONS
from litehrnet_cuda.engine import evaluate as engine_evaluate
from litehrnet_cuda.engine import report
from litehrnet_cuda.engine.evaluate import METRICS
from litehrnet_cuda.keypoints import MPII
from litehrnet_cuda.metrics.coco import STATISTICS
from litehrnet_cuda.metrics.pckh import GROUPS
from litehrnet_cuda.models.checkpoint_files import write_safetensors
from litehrnet_cuda.models.checkpoints import CheckpointMetadata, read_checkpoint, read_metadata, save_checkpoint
from litehrnet_cuda.models.registry import create_model

LOOPBACK = os.environ | {
    "PYTHONPATH": os.pathsep.join([str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]),
    "MASTER_ADDR": "127.0.0.1",
}
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
    (line,) = (line for line in output.splitlines() if line.startswith("AP   "))
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
    assert f"input 192x256, {decoder} decoder, flip test off, box convention mmpose1, 12 annotated boxes" in output


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
    assert all("boxes detected by detections.json" in line for line in output.splitlines())
    # The detector found the people too, so that the figure is near that of annotated boxes; how near depends on it.
    assert 0.6 < precision(output) < 0.95
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["boxes"], metrics["detections"]) == ("detected", str(detections))
    assert (metrics["box_convention"], "box convention" in output) == (None, False), "detected boxes are not clipped"
    assert (tmp_path / "out" / "results_detected_boxes.json").is_file()
    assert metrics["AP"] == pytest.approx(precision(output), abs=1e-4)


def test_figures_poses_and_pictures_are_written(
    evaluate: Run, annotations: Path, checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "out"
    status, output, errors = evaluate(annotations, checkpoint, "--out", out, "--workers", "1")
    assert (status, errors) == (0, [])
    pictures = ["joint_errors.png", "worst_and_best.png"]
    assert sorted(file.name for file in out.iterdir()) == sorted(
        ["metrics.json", "results_annotated_boxes.json", *pictures]
    )
    metrics = json.loads((out / "metrics.json").read_text())
    count = len(json.loads(annotations.read_text())["annotations"])
    expected = {
        "metric": "coco",
        "boxes": "annotated",
        "box_count": count,
        "people": count,
        "skipped_images": 0,
        "box_convention": "mmpose1",
        "detections": None,
        "annotations": str(annotations),
        "model": "naive_litehrnet_18",
        "checkpoint": str(checkpoint),
        "checkpoint_sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        "input_size": [64, 96],
        "decoder": "quarter",
        "flip_test": False,
        "processes": 1,
        "torch": torch.__version__,
        "litehrnet_cuda": __version__,
    }
    assert {name: metrics[name] for name in expected} == expected
    assert metrics["AP"] == pytest.approx(precision(output), abs=1e-4)
    assert set(metrics) == {*expected, *STATISTICS}
    results = json.loads((out / "results_annotated_boxes.json").read_text())
    assert all(len(result["keypoints"]) == 51 for result in results)
    lines = output.splitlines()
    setting = "naive_litehrnet_18, input 64x96, quarter decoder, flip test off, box convention mmpose1"
    assert lines[0] == f"{setting}, {count} annotated boxes"
    assert all(line.endswith("annotated boxes") for line in lines)


def test_every_decoder_in_one_table(evaluate: Run, annotations: Path, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    status, output, errors = evaluate(annotations, checkpoint, "--decoder", "all", "--metric", "pck", "--out", out)
    assert (status, errors) == (0, [])
    setting, head, *rows, last = output.splitlines()
    assert "every decoder" in setting
    assert last == f"figures, poses and pictures are in {out}, annotated boxes"
    assert head.split() == ["decoder", "PCK@0.2", "AUC", "EPE", "in"]
    assert [row.split()[0] for row in rows] == list(DECODER_NAMES)
    assert all(row.endswith("  annotated boxes") for row in rows)
    assert sorted(folder.name for folder in out.iterdir()) == sorted(DECODER_NAMES)
    for row in rows:
        metrics = json.loads((out / row.split()[0] / "metrics.json").read_text())
        assert metrics["decoder"] == row.split()[0]
        assert f"{metrics['EPE']:.2f}" == row.split()[3]
        alone = evaluate(annotations, checkpoint, "--decoder", metrics["decoder"], "--metric", "pck")[1]
        assert next(line for line in alone.splitlines() if line.startswith("all ")).split()[1:4] == row.split()[1:4]


def test_validation_people_of_a_data_set(
    evaluate: Run, coco_folder: Path, annotations: Path, checkpoint: Path, tmp_path: Path, capfd: Any
) -> None:
    shutil.copytree(coco_folder, tmp_path / "data")
    (tmp_path / "data" / "annotations" / "person_keypoints_train.json").write_text("nobody reads this")
    expected = evaluate(annotations, checkpoint)[1]
    options = ["--checkpoint", str(checkpoint), "--device", "cpu"]
    assert main(["evaluate", "--data", str(tmp_path / "data"), *options]) == 0
    assert capfd.readouterr().out == expected
    assert main(["evaluate", "--data", str(tmp_path / "data"), "--images", str(tmp_path), *options]) == 2
    assert "--images: expected --annotations to go with it" in capfd.readouterr().err
    description = tmp_path / "own.toml"
    description.write_text('name = "coco"\n[train]\nannotations = "a.json"\nimages = "."\n')
    assert main(["evaluate", "--data", str(description), *options]) == 2
    assert "own.toml: expected a part to validate with ([val]), got train" in capfd.readouterr().err


def test_torchrun_prints_what_one_process_prints(annotations: Path, checkpoint: Path, tmp_path: Path) -> None:
    options = ["--batch-size", "2", "--flip-test", "--decoder", "dark", "--device", "cpu"]
    command = ["-m", "litehrnet_cuda", "evaluate", "--annotations", str(annotations), "--checkpoint", str(checkpoint)]

    def run(out: str, *launcher: str) -> subprocess.CompletedProcess[str]:
        # In processes of their own: where tests have put the emulator in place, networks run in another way.
        arguments = [sys.executable, *launcher, *command, *options, "--out", str(tmp_path / out)]
        return subprocess.run(arguments, capture_output=True, text=True, check=False, env=LOOPBACK)

    alone = run("one").stdout
    done = run("two", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout == alone.replace(str(tmp_path / "one"), str(tmp_path / "two"))
    one, two = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two"))
    assert two == one | {"processes": 2}
    results = [(tmp_path / name / "results_annotated_boxes.json").read_bytes() for name in ("one", "two")]
    assert results[0] == results[1]


def test_mpii_is_measured_by_heads(evaluate: Run, shared: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    metadata = CheckpointMetadata("naive_litehrnet_18", "pose", 16, MPII, (64, 64))
    weights = save_checkpoint(create_model(metadata.variant, num_outputs=16), tmp_path / "w.safetensors", metadata)
    people = json.loads((shared / "data" / "mpii" / "test_mpii.json").read_text())
    for person in people:
        person["head_size"] = 30.0
    file = tmp_path / "mpii_val.json"
    file.write_text(json.dumps(people))
    status, output, errors = evaluate(file, weights, "--images", shared / "data" / "mpii")
    assert (status, errors) == (0, [])
    _, head, total, *rows = output.splitlines()
    assert head.split() == ["PCKh@0.5", "PCKh@0.1", "in"]
    assert total.split()[0] == "all"
    assert [row.split()[0] for row in rows] == [*GROUPS, *MPII.names]
    assert all(row.endswith("  annotated boxes") for row in (total, *rows))


def test_size_of_nobody_is_said_in_words(evaluate: Run, annotations: Path, checkpoint: Path, tmp_path: Path) -> None:
    content = json.loads(annotations.read_text())
    for annotation in content["annotations"]:
        annotation["area"] = 20_000  # large to COCO; so nobody is of medium size
    file = tmp_path / "large.json"
    file.write_text(json.dumps(content))
    status, output, _ = evaluate(file, checkpoint, "--images", annotations.parent.parent / "val")
    assert status == 0
    assert "AP (M)       none  annotated boxes" in output


@pytest.mark.parametrize("place", ["val", "images/val", "images", "annotations", "elsewhere"])
def test_images_are_found_where_they_are_kept(
    evaluate: Run, coco_folder: Path, annotations: Path, checkpoint: Path, place: str, tmp_path: Path
) -> None:
    file = tmp_path / "annotations" / annotations.name
    file.parent.mkdir()
    shutil.copy(annotations, file)
    shutil.copytree(coco_folder / "val", tmp_path / place, dirs_exist_ok=True)
    options = ("--images", tmp_path / place) if place == "elsewhere" else ()
    assert evaluate(file, checkpoint, *options)[0] == 0


# ------------------------------------------------------------------------------------------------- boxes and bad images


def test_boxes_are_clipped_as_in_training_or_as_asked_for(
    evaluate: Run, annotations: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = read_metadata(checkpoint)
    assert metadata is not None
    weights = read_checkpoint(checkpoint)
    trained = write_safetensors(weights, tmp_path / "w.safetensors", replace(metadata, box_convention="official"))
    boxes: list[Any] = []

    def remember(estimator: Any, people: CocoKeypoints, *args: Any, **options: Any) -> Any:
        boxes.append((people.box_convention, people.people[0].box.tolist()))
        return real(estimator, people, *args, **options)

    real = engine_evaluate.evaluate_decoders
    monkeypatch.setattr(engine_evaluate, "evaluate_decoders", remember)
    for file, options, expected in (
        (checkpoint, (), "mmpose1"),
        (trained, (), "official"),
        (trained, ("--box-convention", "mmpose1"), "mmpose1"),
        (checkpoint, ("--box-convention", "official"), "official"),
    ):
        status, output, errors = evaluate(annotations, file, *options, "--out", tmp_path / "out")
        assert (status, errors) == (0, [])
        assert f", box convention {expected}, " in output.splitlines()[0]
        assert json.loads((tmp_path / "out" / "metrics.json").read_text())["box_convention"] == expected
        truth = CocoKeypoints(annotations, annotations.parent.parent / "val", box_convention=expected)
        assert boxes.pop() == (expected, truth.people[0].box.tolist())


def test_the_convention_needs_annotated_boxes_in_the_form_of_coco(
    evaluate: Run, annotations: Path, checkpoint: Path, tmp_path: Path
) -> None:
    options = ("--box-convention", "official")
    one_sentence(
        evaluate(annotations, checkpoint, *options, "--detections", tmp_path / "boxes.json"),
        "--box-convention: expected annotated boxes, got --detections",
    )
    mpii = tmp_path / "mpii_val.json"
    mpii.write_text("[]")
    one_sentence(
        evaluate(mpii, checkpoint, *options), "expected annotations in COCO's format, got " + str(mpii) + " in MPII's"
    )


@pytest.fixture
def broken(coco_folder: Path, annotations: Path, tmp_path: Path) -> tuple[Path, list[int], int]:
    """A copy of the images, of which one is damaged and one is missing, their ids, and how many people are left."""
    images = tmp_path / "broken" / "val"
    shutil.copytree(coco_folder / "val", images)
    content = json.loads(annotations.read_text())
    owners = [annotation["image_id"] for annotation in content["annotations"]]
    first, *_, last = dict.fromkeys(owners)
    names = {image["id"]: image["file_name"] for image in content["images"]}
    (images / names[first]).write_bytes(b"broken")
    (images / names[last]).unlink()
    return images, [first, last], sum(owner not in (first, last) for owner in owners)


@pytest.mark.parametrize("decoder", ["quarter", "all"])
def test_skipped_images_are_said_and_do_not_count(
    evaluate: Run,
    annotations: Path,
    checkpoint: Path,
    broken: tuple[Path, list[int], int],
    decoder: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    headings: list[str] = []

    def remember(names: Any, errors: Any, file: Path, *, unit: str, heading: str) -> None:
        headings.append(heading)
        file.touch()

    monkeypatch.setattr(report, "plot_joint_errors", remember)
    images, (first, last), counted = broken
    options = ("--images", images, "--decoder", decoder, "--out", tmp_path / "out")
    one_sentence(evaluate(annotations, checkpoint, *options, "--bad-images", "stop"), "is missing; check the image")
    status, output, errors = evaluate(annotations, checkpoint, *options, "--bad-images", "skip")
    assert status == 0
    damaged, missing = errors
    assert damaged.startswith(f"skipped: {images / f'{first:012}.jpg'}: expected an image that OpenCV can decode")
    assert missing == (
        f"skipped: {images / f'{last:012}.jpg'}: image {last} of {annotations.name} is missing; check the image folder"
    )
    assert output.splitlines()[0].endswith(f", {counted} annotated boxes, skipped images: 2")
    metrics = json.loads(next((tmp_path / "out").rglob("metrics.json")).read_text())
    assert (metrics["skipped_images"], metrics["people"], metrics["box_count"]) == (2, counted, counted)
    assert set(headings) == {f"{counted} of {counted} people, found in annotated boxes"}


def test_boxes_in_other_images_than_the_annotated_ones_are_said(
    evaluate: Run, annotations: Path, checkpoint: Path, broken: tuple[Path, list[int], int], tmp_path: Path
) -> None:
    images, (first, last), _ = broken
    others = sorted({image["id"] for image in json.loads(annotations.read_text())["images"]} - {first, last})
    where = [first, last, others[0], others[0], 901, 902, 902]
    file = tmp_path / "boxes.json"
    file.write_text(json.dumps([{"image_id": one, "bbox": [9, 9, 60, 80], "score": 0.5} for one in where]))
    options = ("--detections", file, "--images", images, "--bad-images", "skip", "--out", tmp_path / "out")
    status, output, errors = evaluate(annotations, checkpoint, *options)
    assert status == 0
    assert errors[0] == (
        f"{file}: 3 of 7 boxes are left out, which are in 2 images that {annotations.name} does not have"
    )
    assert [error.partition(" ")[0] for error in errors[1:]] == ["skipped:", "skipped:"]
    assert output.splitlines()[0].endswith(", 2 boxes detected by boxes.json, skipped images: 2")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["box_count"], metrics["skipped_images"], metrics["box_convention"]) == (2, 2, None)
    one_sentence(
        evaluate(annotations, checkpoint, "--detections", _without(file, lambda one: one < 900)),
        f"expected boxes in the images of {annotations.name}, got 3, all in others, such as image 901",
    )


def _without(file: Path, unwanted: Callable[[int], bool]) -> Path:
    rest = [box for box in json.loads(file.read_text()) if not unwanted(box["image_id"])]
    file.write_text(json.dumps(rest))
    return file


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
        ("[]", "expected annotations with 17 joints as the network has outputs, got 16 (mpii)"),
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
    file = shared / "data" / "mpii" / "test_mpii.json"
    one_sentence(evaluate(file, checkpoint), "expected annotations with 17 joints as the network has outputs, got 16")


def test_a_broken_image(evaluate: Run, coco_folder: Path, annotations: Path, checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(coco_folder / "val", tmp_path / "val")
    (tmp_path / "val" / "000000000003.jpg").write_bytes(b"broken")
    options = ("--images", tmp_path / "val", "--out", tmp_path / "out")
    one_sentence(
        evaluate(annotations, checkpoint, *options), "000000000003.jpg: expected an image that OpenCV can decode"
    )
    assert list((tmp_path / "out").iterdir()) == []


def test_the_command_knows_all_values() -> None:
    assert METRIC_NAMES == METRICS
    assert BOX_CONVENTION_NAMES == BOX_CONVENTIONS
    assert BAD_IMAGES_NAMES == BAD_IMAGES


def test_memory_that_gives_out_is_one_sentence(
    evaluate: Run, annotations: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\nmore")

    monkeypatch.setattr(engine_evaluate, "evaluate_decoders", fail)
    one_sentence(evaluate(annotations, checkpoint), "out of memory: try a smaller --batch-size")


def test_why_it_is_not_pckh_is_said_unless_a_metric_is_asked_for(
    evaluate: Run, annotations: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_evaluate, "why_not_pckh", lambda annotations: "this is why")
    assert evaluate(annotations, checkpoint)[2] == ["this is why"]
    assert evaluate(annotations, checkpoint, "--metric", "pck")[2] == []


def test_detections_need_average_precision(
    evaluate: Run, annotations: Path, checkpoint: Path, shared: Path, tmp_path: Path
) -> None:
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps([{"image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40], "score": 0.5}]))
    options = ("--detections", boxes)
    one_sentence(
        evaluate(annotations, checkpoint, *options, "--metric", "pck"), "expected annotated boxes for the metric"
    )
    mpii = shared / "data" / "mpii" / "test_mpii.json"
    one_sentence(evaluate(mpii, checkpoint, *options), "--detections: expected annotations in COCO's format beside it")


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
    assert max(map(len, lines)) <= int(columns)
