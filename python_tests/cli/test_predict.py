"""`litehrnet predict`: what it leaves, and that bad input leaves one sentence and nothing half-written."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from litehrnet_cuda.cli.main import main
from litehrnet_cuda.data import images as image_files
from litehrnet_cuda.predictors.pose_estimator import PoseEstimator
from litehrnet_cuda.results import KeyPoints

Run = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def photos(coco_folder: Path, tmp_path: Path) -> Path:
    """A folder with three images."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for source, name in zip(sorted((coco_folder / "val").iterdir()), ("a.jpg", "b.jpg", "улица 街.jpg"), strict=False):
        (folder / name).write_bytes(source.read_bytes())
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture
def predict(checkpoint: Path, out: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs the command and returns its status and the lines on standard error."""

    def run(*arguments: str | Path, options: tuple[str, ...] = ()) -> tuple[int, list[str]]:
        given = list(map(str, arguments))
        for name, value in (("--checkpoint", checkpoint), ("--out", out), ("--device", "cpu")):
            if name not in options:
                given += [name, str(value)]
        status = main(["predict", *given, *options])
        return status, capfd.readouterr().err.splitlines()

    return run


def write_turned(path: Path) -> None:
    """An image of 60x40 pixels, to be turned by a quarter."""
    content = cv2.imencode(".jpg", np.zeros((40, 60, 3), np.uint8))[1].tobytes()
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0)  # orientation, a short, one of them
    exif = b"Exif\0\0MM\0\x2a" + struct.pack(">IH", 8, 1) + entry + struct.pack(">I", 0)
    path.write_bytes(content[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + content[2:])


def files(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def poses(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "poses.json").read_text(encoding="utf-8"))
    return content


def write_json(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


# ------------------------------------------------------------------------------------------------------- what it leaves


def test_people_of_whom_nothing_is_drawn_are_counted(
    checkpoint: Path, photos: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = PoseEstimator(checkpoint=checkpoint, device="cpu")(photos / "a.jpg").scores
    arguments = [
        "predict",
        str(photos / "a.jpg"),
        "--checkpoint",
        str(checkpoint),
        "--out",
        str(out),
        "--device",
        "cpu",
    ]
    for limit, remarks in ((float(scores.max()) - 1e-3, 0), (2.5, 1)):
        assert main([*arguments, "--min-score", str(limit)]) == 0
        said = capsys.readouterr().out.splitlines()
        assert len(said) == 1 + remarks
    assert said[-1] == "nothing is drawn of 1 of the people, of whom no joint has a score of 2.5 (--min-score)"


def test_a_picture_per_image_and_one_json(predict: Run, photos: Path, out: Path) -> None:
    assert predict(photos) == (0, [])
    assert files(out) == ["a_poses.jpg", "b_poses.jpg", "poses.json", "улица 街_poses.jpg"]
    found = poses(out)
    assert list(found) == [str(photos / name) for name in ("a.jpg", "b.jpg", "улица 街.jpg")]
    for path, result in found.items():
        restored = KeyPoints.from_json(json.dumps(result))
        height, width = image_files.read_image(path).shape[:2]
        np.testing.assert_array_equal(restored.boxes, [[0, 0, width, height]])
    assert image_files.read_image(out / "a_poses.jpg").shape == image_files.read_image(photos / "a.jpg").shape


def test_the_results_are_those_of_the_estimator(predict: Run, photos: Path, checkpoint: Path, out: Path) -> None:
    boxes = [[10, 10, 60, 100], [20, 15, 150, 110]]
    file = write_json(photos.parent / "boxes.json", {"a.jpg": boxes})
    options = ("--boxes", str(file), "--decoder", "dark", "--flip-test", "--size", "64x64", "--batch-size", "1")
    assert predict(photos / "a.jpg", options=options) == (0, [])
    expected = PoseEstimator(
        checkpoint=checkpoint, decoder="dark", flip_test=True, input_size=(64, 64), batch_size=1, device="cpu"
    )(photos / "a.jpg", boxes)
    found = KeyPoints.from_json(json.dumps(poses(out)[str(photos / "a.jpg")]))
    for name in ("keypoints", "scores", "boxes", "box_scores"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_scores_of_detections_are_kept(predict: Run, photos: Path, out: Path) -> None:
    detections = [{"file_name": "a.jpg", "bbox": [10, 10, 50, 90], "score": 0.25}]
    assert (
        predict(photos / "a.jpg", options=("--boxes", str(write_json(photos.parent / "boxes.json", detections))))[0]
        == 0
    )
    (person,) = poses(out)[str(photos / "a.jpg")]["people"]
    assert (person["box"], person["box_score"]) == ([10, 10, 60, 100], 0.25)


def test_annotated_boxes_are_of_images_that_nobody_has_turned(predict: Run, tmp_path: Path, out: Path) -> None:
    turned = tmp_path / "turned.jpg"
    write_turned(turned)
    for content, shape in (
        ({"turned.jpg": [[5, 5, 30, 50]]}, (60, 40, 3)),
        (
            {
                "images": [{"id": 1, "file_name": "turned.jpg"}],
                "annotations": [{"id": 1, "image_id": 1, "bbox": [5, 5, 50, 30], "category_id": 1}],
            },
            (40, 60, 3),
        ),
    ):
        assert predict(turned, options=("--boxes", str(write_json(tmp_path / "boxes.json", content)))) == (0, [])
        assert image_files.read_image(out / "turned_poses.jpg").shape == shape


def test_images_without_boxes_have_nobody(
    checkpoint: Path, photos: Path, out: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    boxes = write_json(photos.parent / "boxes.json", {"a.jpg": [[1, 1, 50, 50]], "b.jpg": []})
    arguments = [str(photos), "--boxes", str(boxes), "--checkpoint", str(checkpoint), "--out", str(out)]
    assert main(["predict", *arguments]) == 0
    assert [len(result["people"]) for result in poses(out).values()] == [1, 0, 0]
    printed = capfd.readouterr()
    assert f"images and videos that are not named in {boxes}: 1" in printed.out
    assert "images: 3, people: 1" in printed.out


def test_real_weights_find_people_in_annotated_boxes(predict: Run, shared: Path, out: Path) -> None:
    folder = shared / "data" / "coco"
    weights = shared / "weights" / "tinypose_256x192.safetensors"
    image = folder / "000000000785.jpg"
    options = ("--boxes", str(folder / "test_coco.json"), "--checkpoint", str(weights))
    assert predict(image, options=options) == (0, [])
    (person,) = poses(out)[str(image)]["people"]
    assert person["score"] > 0.5
    # The skier is drawn: the picture differs from the photograph by more than JPEG's noise.
    difference = cv2.absdiff(image_files.read_image(out / "000000000785_poses.jpg"), image_files.read_image(image))
    assert difference.max() > 100


@pytest.mark.parametrize(
    "image",
    [
        np.full((20, 30), 99, np.uint8),
        np.full((20, 30, 4), 99, np.uint8),
        np.full((20, 30, 3), 9999, np.uint16),
        np.full((1, 1, 3), 99, np.uint8),
        np.full((2, 5000, 3), 99, np.uint8),
    ],
    ids=["grey", "transparent", "16 bit", "one pixel", "wide"],
)
def test_images_of_every_kind(predict: Run, image: Any, tmp_path: Path, out: Path) -> None:
    file = tmp_path / "odd.png"
    cv2.imwrite(str(file), image)
    assert predict(file) == (0, [])
    assert image_files.read_image(out / "odd_poses.jpg").shape == (*image.shape[:2], 3)


def test_equal_names_in_two_folders_are_kept_apart(predict: Run, photos: Path, out: Path) -> None:
    other = photos.parent / "other"
    other.mkdir()
    (other / "a.jpg").write_bytes((photos / "b.jpg").read_bytes())
    (photos / "a.png").write_bytes((photos / "a.jpg").read_bytes())
    boxes = {"photos/a.jpg": [[1, 1, 50, 50]], "other/a.jpg": [[2, 2, 40, 40], [3, 3, 60, 60]]}
    status, _ = predict(photos, other, options=("--boxes", str(write_json(photos.parent / "boxes.json", boxes))))
    assert status == 0
    expected = ["a_2_poses.jpg", "a_3_poses.jpg", "a_poses.jpg", "b_poses.jpg", "poses.json", "улица 街_poses.jpg"]
    assert files(out) == expected
    found = poses(out)
    assert len(found[str(photos / "a.jpg")]["people"]) == 1
    assert len(found[str(other / "a.jpg")]["people"]) == 2


def test_a_picture_never_takes_the_place_of_an_image(predict: Run, photos: Path) -> None:
    (photos / "a_poses.jpg").write_bytes((photos / "b.jpg").read_bytes())
    before = {name: (photos / name).read_bytes() for name in files(photos)}
    assert predict(photos, options=("--out", str(photos))) == (0, [])
    assert {name: (photos / name).read_bytes() for name in before} == before
    assert "a_2_poses.jpg" in files(photos)


def test_a_second_run_replaces_the_first(predict: Run, photos: Path, out: Path) -> None:
    predict(photos / "a.jpg")
    (out / "a_poses.jpg").write_bytes(b"old")
    assert predict(photos / "a.jpg") == (0, [])
    assert image_files.read_image(out / "a_poses.jpg").size


# ------------------------------------------------------------------------------------------------ what cannot be done


def one_sentence(outcome: tuple[int, list[str]], message: str) -> None:
    status, lines = outcome
    assert status == 2
    assert len(lines) == 1, lines
    assert lines[0].startswith("litehrnet predict: ")
    assert message in lines[0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.jpg", b"", "empty.jpg: expected an image, got an empty file"),
        ("text.jpg", b"hello\n", "text.jpg: expected an image that OpenCV can decode"),
        ("half.png", None, "half.png: expected an image that OpenCV can decode"),
    ],
)
def test_a_broken_image(
    predict: Run, out: Path, tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    (tmp_path / name).write_bytes(content if content is not None else cv2.imencode(".png", noise)[1].tobytes()[:60])
    one_sentence(predict(tmp_path / name), message)
    assert not out.exists()
    one_sentence(predict(tmp_path / name, options=("--out", str(tmp_path / "one" / "two"))), message)
    assert not (tmp_path / "one").exists()
    out.mkdir()  # a folder of the user's stays
    one_sentence(predict(tmp_path / name), message)
    assert files(out) == []


def test_a_broken_image_among_others(predict: Run, photos: Path, out: Path) -> None:
    (photos / "b.jpg").write_bytes(b"broken")
    one_sentence(predict(photos), f"{photos / 'b.jpg'}: expected an image that OpenCV can decode")
    assert files(out) == ["a_poses.jpg", "poses.json", "улица 街_poses.jpg"]
    assert list(poses(out)) == [str(photos / name) for name in ("a.jpg", "улица 街.jpg")]


def test_an_image_too_wide_for_jpeg_among_others(predict: Run, photos: Path, out: Path) -> None:
    cv2.imwrite(str(photos / "wide.png"), np.zeros((2, 70_000, 3), np.uint8))
    one_sentence(predict(photos), "wide.png: an image of 70000x2 pixels cannot be written as .jpg")
    assert len(poses(out)) == 3


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ({"a.jpg": [[500, 10, 600, 100]]}, "a.jpg: boxes: expected boxes that overlap the image of 160x120 pixels"),
        (
            '{"a.jpg": [[NaN, 10, 60, 100]]}',
            "a.jpg: box 0: expected a box of four finite numbers, got [nan, 10, 60, 100]",
        ),
        ({"a.jpg": [[10, 10, 60]]}, "a.jpg: box 0: expected a box of four finite numbers, got [10, 10, 60]"),
        ({"a.jpg": [10, 10, 60, 100]}, "a.jpg: box 0: expected a box of four finite numbers, got 10"),
        ({"a.jpg": [[60, 10, 10, 100]]}, "a.jpg: box 0: expected a box with left < right"),
        (
            {"c.jpg": [[10, 10, 60, 100]]},
            "boxes.json: expected boxes for the images, but it names none of them, such as a.jpg",
        ),
        ("{'a.jpg'", "boxes.json: not valid JSON"),
        ("", "boxes.json: not valid JSON"),
        ({"images": [{"id": 1}], "annotations": []}, "boxes.json: images[0]: expected an id and a file_name"),
        ({"images": 1, "annotations": []}, "boxes.json: images: expected a list of objects"),
    ],
)
def test_unusable_boxes(predict: Run, photos: Path, out: Path, boxes: Any, message: str) -> None:
    file = write_json(photos.parent / "boxes.json", boxes)
    one_sentence(predict(photos / "a.jpg", options=("--boxes", str(file))), message)
    assert files(out) == [] if out.exists() else True


def test_boxes_outside_of_one_image_among_others(predict: Run, photos: Path, out: Path) -> None:
    boxes = write_json(photos.parent / "boxes.json", {"a.jpg": [[500, 1, 600, 9]], "b.jpg": [[1, 1, 90, 90]]})
    outcome = predict(photos / "a.jpg", photos / "b.jpg", options=("--boxes", str(boxes)))
    one_sentence(outcome, f"{photos / 'a.jpg'}: boxes: expected boxes that overlap")
    assert list(poses(out)) == [str(photos / "b.jpg")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--boxes", "/nowhere/boxes.json"), "/nowhere/boxes.json: "),
        (("--checkpoint", "/nowhere/model.pth"), "checkpoint: expected a file or one of"),
        (("--checkpoint", "litehrnet_18_coco_256x129"), "did you mean litehrnet_18_coco_256x192"),
        (("--model", "naive_litehrnet18"), "did you mean 'naive_litehrnet_18'"),
        (("--device", "gpu"), "device: expected one that can be used here"),
        (("--device", "cuda:99"), "device: expected one that can be used here"),
        (("--size", "16x16"), "input_size: expected (width, height) of 32 to"),
        (("--size", "99999x99999"), "input_size: expected (width, height) of 32 to"),
    ],
)
def test_unusable_options(predict: Run, photos: Path, out: Path, options: tuple[str, ...], message: str) -> None:
    one_sentence(predict(photos, options=options), message)
    assert not out.exists()


def test_a_checkpoint_that_does_not_fit(predict: Run, photos: Path, out: Path) -> None:
    status, lines = predict(photos, options=("--model", "litehrnet_30"))
    assert status == 2
    # A difference, which takes a few lines: how many are missing, left over and misshapen, and what to do.
    assert lines[0].startswith("litehrnet predict: ")
    assert "that do not fit" in lines[0]
    assert "the checkpoint is of naive_litehrnet_18, the model is litehrnet_30" in lines[-1]
    assert len(lines) < 10
    assert not out.exists()


def test_a_checkpoint_that_is_none(predict: Run, photos: Path, tmp_path: Path, out: Path) -> None:
    (tmp_path / "model.safetensors").write_text("not a checkpoint")
    (tmp_path / "model.pth").write_bytes(b"")
    for name in ("model.safetensors", "model.pth"):
        one_sentence(predict(photos, options=("--checkpoint", str(tmp_path / name))), f"{name}: expected a")
    assert not out.exists()


def test_paths_without_images(predict: Run, photos: Path, out: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    one_sentence(predict(tmp_path / "empty"), "empty: expected images (.jpg, ")
    one_sentence(predict(photos / "a.jpg", photos / "missing.jpg"), "missing.jpg: there is no such file or folder")
    assert not out.exists()


def test_a_folder_that_cannot_be_written(predict: Run, photos: Path) -> None:
    # Below a file, which stops the administrator too.
    below = photos / "a.jpg" / "results"
    one_sentence(predict(photos, options=("--out", str(below))), f"{below}: cannot be written")


def test_an_interrupt_leaves_whole_files_only(
    predict: Run, photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Path.write_bytes
    drafts: list[str] = []

    def interrupted(self: Path, data: bytes) -> int:
        drafts.append(self.name)
        count = written(self, data[: len(data) // 2] if len(drafts) == 2 else data)
        if len(drafts) == 2:
            raise KeyboardInterrupt
        return count

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    assert predict(photos) == (130, ["litehrnet predict: interrupted"])
    assert files(out) == ["a_poses.jpg", "poses.json"]
    assert list(poses(out)) == [str(photos / "a.jpg")]
    assert image_files.read_image(out / "a_poses.jpg").size


def test_a_full_disk_is_said_and_stops_the_run(
    predict: Run, photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "write_bytes", full)
    one_sentence(predict(photos), "a_poses.jpg: cannot be written (No space left on device)")
    assert files(out) == []


@pytest.mark.parametrize("columns", ["80", "100"])
def test_help_fits_a_screen(columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    with pytest.raises(SystemExit) as stop:
        main(["predict", "--help"])
    assert stop.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100
