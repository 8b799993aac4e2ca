"""`litehrnet predict` with videos, cameras and detectors."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from video_files import FakeCapture, read_video, write_video

import litehrnet_cuda
from litehrnet_cuda.classes import PERSON
from litehrnet_cuda.cli.main import main
from litehrnet_cuda.models.checkpoints import CheckpointMetadata, save_checkpoint
from litehrnet_cuda.models.registry import create_model
from litehrnet_cuda.predictors.pose_estimator import PoseEstimator
from litehrnet_cuda.predictors.segmenter import Segmenter
from litehrnet_cuda.video import frames as frames_module

Run = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "street.mp4", 6, size=(160, 120))


@pytest.fixture
def predict(checkpoint: Path, out: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs the command and returns its status and the lines that it printed, of results and of errors."""

    def run(*arguments: str | Path) -> tuple[int, list[str], list[str]]:
        given = [*map(str, arguments), "--checkpoint", str(checkpoint), "--out", str(out), "--device", "cpu"]
        status = main(["predict", *given])
        printed = capfd.readouterr()
        return status, printed.out.splitlines(), printed.err.splitlines()

    return run


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def write_json(file: Path, content: Any) -> Path:
    file.write_text(json.dumps(content))
    return file


def test_a_video_an_image_and_a_folder(predict: Run, video: Path, coco_folder: Path, out: Path) -> None:
    image = sorted((coco_folder / "val").iterdir())[0]
    status, printed, errors = predict(image, video.parent)
    assert (status, errors) == (0, [])
    assert sorted(file.name for file in out.iterdir()) == sorted(
        [f"{image.stem}_poses.jpg", "poses.json", "street_poses.jsonl", "street_poses.mp4"]
    )
    assert len(read_video(out / "street_poses.mp4")) == 6
    found = lines(out / "street_poses.jsonl")
    assert [(line["frame"], line["time"]) for line in found] == [(i, pytest.approx(i / 10)) for i in range(6)]
    assert all(len(line["people"]) == 1 and "identity" not in line["people"][0] for line in found)
    assert printed[0].startswith("images: 1, people: 1")
    assert f"{video}: 6 frames, " in printed[1]
    assert "1.0 people in each" in printed[1]


def test_boxes_of_frames_from_a_file(predict: Run, video: Path, out: Path, checkpoint: Path) -> None:
    first, other = [10, 10, 60, 100], [20, 15, 150, 110]
    boxes = write_json(video.parent / "boxes.json", {"street.mp4": {"0": [first], "2": [first, other]}})
    assert predict(video, "--boxes", boxes)[0] == 0
    found = lines(out / "street_poses.jsonl")
    assert [[person["box"] for person in line["people"]] for line in found] == [[first], [], [first, other], [], [], []]
    estimator = PoseEstimator(checkpoint=checkpoint, device="cpu")
    expected = estimator(read_video(video)[2], [first, other])
    joints = [list(person["keypoints"].values()) for person in found[2]["people"]]
    np.testing.assert_allclose(np.array(joints)[..., :2], expected.keypoints, rtol=1e-6)


def test_the_same_boxes_in_all_frames_and_detections(predict: Run, video: Path, out: Path) -> None:
    predict(video, "--boxes", write_json(video.parent / "boxes.json", {"street.mp4": [[10, 10, 60, 100]]}))
    assert [len(line["people"]) for line in lines(out / "street_poses.jsonl")] == [1] * 6
    detections = [{"file_name": "street.mp4", "frame": 3, "bbox": [10, 10, 50, 90], "score": 0.5}]
    predict(video, "--boxes", write_json(video.parent / "boxes.json", detections))
    found = lines(out / "street_poses.jsonl")
    assert [len(line["people"]) for line in found] == [0, 0, 0, 1, 0, 0]
    assert found[3]["people"][0]["box_score"] == 0.5


def test_a_detector_of_ones_own(predict: Run, video: Path, coco_folder: Path, out: Path) -> None:
    module = video.parent / "mine.py"
    module.write_text("def people(image):\n    return [[10, 10, 60, 100], [500, 0, 600, 9]], [0.5, 0.9]\n")
    image = sorted((coco_folder / "val").iterdir())[0]
    assert predict(video, image, "--detector", f"{module}:people", "--smooth")[0] == 0
    for line in lines(out / "street_poses.jsonl"):
        (person,) = line["people"]
        assert (person["identity"], person["box"], person["box_score"]) == (1, [10, 10, 60, 100], 0.5)
    (found,) = json.loads((out / "poses.json").read_text()).values()
    assert [person["box_score"] for person in found["people"]] == [0.5]


def test_people_are_followed_from_boxes_of_the_first_frame(
    predict: Run, shared: Path, out: Path, tmp_path: Path
) -> None:
    boxes = {
        "demo.mp4": {"0": [[450, 163, 497, 292], [493, 160, 560, 332], [590, 168, 665, 342], [760, 180, 905, 540]]}
    }
    arguments = ["--boxes", str(write_json(tmp_path / "boxes.json", boxes)), "--track", "--out", str(out)]
    weights = shared / "weights" / "tinypose_256x192.safetensors"
    status = main(["predict", str(shared / "data" / "demo" / "demo.mp4"), "--checkpoint", str(weights), *arguments])
    assert status == 0
    found = lines(out / "demo_poses.jsonl")
    assert [[person["identity"] for person in line["people"]] for line in found] == [[1, 2, 3, 4]] * 5
    # The camera goes along, so that in a fifth of a second nobody moves by more than a fifth of the height.
    for before, after in itertools.pairwise(found):
        for old, new in zip(before["people"], after["people"], strict=True):
            assert new["score"] > 0.4  # twice what a joint needs to be drawn
            moved = np.subtract(new["keypoints"]["right_hip"][:2], old["keypoints"]["right_hip"][:2])
            assert np.abs(moved).max() < 0.2 * (old["box"][3] - old["box"][1])
    pictures = read_video(out / "demo_poses.mp4")
    assert len(pictures) == 5
    assert pictures[0].shape == (540, 960, 3)
    original = read_video(shared / "data" / "demo" / "demo.mp4")
    for drawn, plain in zip(pictures, original, strict=True):
        assert cv2.absdiff(drawn, plain)[160:300, 450:500].max() > 100


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeCapture], None]:
    """Puts a camera that is none in the place of all that OpenCV opens by number."""
    real = cv2.VideoCapture

    def put(capture: FakeCapture) -> None:
        def choose(source: Any) -> Any:
            return capture if isinstance(source, int) else real(source)

        monkeypatch.setattr(frames_module.cv2, "VideoCapture", choose)

    return put


class Endless(FakeCapture):
    """A camera of 50 pictures a second."""

    def __init__(self) -> None:
        super().__init__(10_000, rate=50)

    def read(self) -> Any:
        time.sleep(0.02)
        return super().read()


def test_a_webcam_for_some_frames(predict: Run, camera: Callable[[FakeCapture], None], out: Path) -> None:
    camera(Endless())
    status, printed, errors = predict("--webcam", "0", "--frames", "2")
    assert (status, errors) == (0, [])
    assert printed[0].startswith("webcam:0: 2 frames")
    assert len(lines(out / "webcam0_poses.jsonl")) == 2
    assert len(read_video(out / "webcam0_poses.mp4")) >= 2


def test_ctrl_c_is_how_a_webcam_ends(predict: Run, camera: Callable[[FakeCapture], None], out: Path) -> None:
    class Stopped(Endless):
        def read(self) -> Any:
            if self.next == 50:
                os.kill(os.getpid(), signal.SIGINT)
            return super().read()

    camera(Stopped())
    status, printed, errors = predict("webcam:0")
    assert (status, errors) == (0, [])
    assert "webcam:0: " in printed[0]
    count = len(lines(out / "webcam0_poses.jsonl"))
    assert f" {count} frames" in printed[0]
    assert len(read_video(out / "webcam0_poses.mp4")) >= count


def test_a_camera_that_is_stopped_before_its_first_picture_leaves_nothing(
    predict: Run, camera: Callable[[FakeCapture], None], out: Path
) -> None:
    class Stopped(Endless):
        sent = False

        def read(self) -> Any:
            if not self.sent:
                os.kill(os.getpid(), signal.SIGINT)
            self.sent = True
            time.sleep(0.2)
            return False, None

    camera(Stopped())
    status, printed, errors = predict("webcam:0")
    assert (status, errors) == (0, [])
    assert printed[0].endswith("; nothing is written")
    assert not out.exists()


def test_a_termination_ends_all_cameras(predict: Run, camera: Callable[[FakeCapture], None], out: Path) -> None:
    class Stopped(Endless):
        def read(self) -> Any:
            if self.next == 50:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().read()

    camera(Stopped())
    status, printed, errors = predict("webcam:0", "webcam:1")
    assert (status, errors) == (0, [])
    assert [line.split(": ")[0] for line in printed] == ["webcam:0"]
    assert not (out / "webcam1_poses.jsonl").exists()


def test_a_webcam_that_is_not_there(predict: Run) -> None:
    status, _, errors = predict("--webcam", "77")
    assert status == 2
    assert errors == [
        "litehrnet predict: webcam:77: no camera of this number can be opened; see that it is connected, that no other "
        "program uses it, and that you may use it"
    ]


def test_broken_frames_are_said(predict: Run, tmp_path: Path, out: Path) -> None:
    whole = write_video(tmp_path / "whole.avi", 40, codec="MJPG").read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) // 2])
    status, printed, errors = predict(tmp_path / "cut.avi")
    count = len(lines(out / "cut_poses.jsonl"))
    assert status == 0
    assert f" {count} frames" in printed[0]
    assert len(errors) == 1
    assert f"cut.avi: skipped {40 - count} of 40 frames that cannot be read, after frame {count - 1}" in errors[0]


def test_one_video_that_is_none_among_others(predict: Run, video: Path, tmp_path: Path, out: Path) -> None:
    (tmp_path / "text.mp4").write_text("hello\n" * 100)
    status, printed, errors = predict(tmp_path / "text.mp4", video)
    assert status == 2
    assert errors == [
        f"litehrnet predict: {tmp_path / 'text.mp4'}: expected a video that OpenCV can decode; the file is damaged or "
        "of another kind"
    ]
    assert len(printed) == 1
    assert sorted(file.name for file in out.iterdir()) == ["street_poses.jsonl", "street_poses.mp4"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "expected images, videos, folders or a camera to look at, got none"),
        (["{video}", "--detector", "nowhere.py:people"], "nowhere.py: expected a Python file with a detector"),
        (
            ["{video}", "--detector", "people"],
            "detector: expected my_module:function, my_file.py:function or model.onnx",
        ),
        (
            ["{video}", "--boxes", "{boxes}", "--detector", "a.py:b"],
            "--boxes, --detector: expected one of them, got both",
        ),
        (["{video}", "--boxes", "{boxes}"], "it names none of them, such as street.mp4"),
        (["{video}", "--detect-every", "3"], "--detect-every: expected --track with it"),
        (["{image}", "--track"], "--track: is for videos, and there is none"),
        (["{image}", "--frames", "3"], "--frames: is for videos, and there is none"),
        (["x" * 300], "cannot be read: File name too long"),
        (["{video}", "--detector", "x" * 300 + ".py:people"], "expected a Python file with a detector"),
        (["missing.mp4"], "missing.mp4: there is no such file or folder"),
    ],
)
def test_options_that_cannot_be_used(predict: Run, video: Path, out: Path, options: list[str], message: str) -> None:
    boxes = write_json(video.parent / "boxes.json", {"other.mp4": [[1, 2, 30, 40]]})
    image = video.parent / "a.png"
    cv2.imwrite(str(image), np.zeros((40, 40, 3), np.uint8))
    status, _, errors = predict(*(option.format(video=video, image=image, boxes=boxes) for option in options))
    assert status == 2
    assert len(errors) == 1
    assert message in errors[0]
    assert not out.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_from_outside_leaves_a_whole_video(checkpoint: Path, tmp_path: Path, out: Path, number: int) -> None:
    video = write_video(tmp_path / "long.mp4", 255)
    slow = tmp_path / "slow.py"
    slow.write_text("import time\ndef people(image):\n    time.sleep(0.05)\n    return [[0, 0, 60, 40]]\n")
    arguments = ["predict", video, "--checkpoint", checkpoint, "--out", out, "--detector", f"{slow}:people"]
    process = subprocess.Popen(
        [sys.executable, "-m", "litehrnet_cuda", *map(str, arguments), "--device", "cpu"],
        env=os.environ | {"PYTHONPATH": str(Path(litehrnet_cuda.__file__).parents[1])},
        stderr=subprocess.PIPE,
        text=True,
    )
    kept = out / "long_poses.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (kept.exists() and kept.read_bytes().count(b"\n") >= 5):
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    found = lines(kept)
    assert process.returncode == 130
    assert 5 <= len(found) < 255
    assert [line["frame"] for line in found] == list(range(len(found)))
    assert len(read_video(out / "long_poses.mp4")) == len(found)
    assert sorted(file.name for file in out.iterdir()) == ["long_poses.jsonl", "long_poses.mp4"]
    assert f"interrupted; {out / 'long_poses.mp4'} and .jsonl have the first {len(found)} frames" in errors


@pytest.fixture(scope="module")
def segmentation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network that tells people from the background."""
    torch.manual_seed(0)
    network = create_model("naive_litehrnet_18", "segmentation", num_outputs=2)
    metadata = CheckpointMetadata("naive_litehrnet_18", "segmentation", 2, class_set=PERSON, input_size=(64, 64))
    return save_checkpoint(network, tmp_path_factory.mktemp("segmentation") / "model.safetensors", metadata)


def test_classes_of_pixels(
    predict: Run, segmentation: Path, video: Path, coco_folder: Path, out: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    image = sorted((coco_folder / "val").iterdir())[0]
    arguments = ["predict", str(image), str(video), "--checkpoint", str(segmentation), "--out", str(out)]
    assert main([*arguments, "--device", "cpu"]) == 0
    of_image, of_video = [".jpg", ".png"], [".jsonl", ".mp4"]
    names = [*(f"{image.stem}_classes{end}" for end in of_image), *(f"street_classes{end}" for end in of_video)]
    assert sorted(file.name for file in out.iterdir()) == sorted([*names, "classes.json"])
    expected = Segmenter(checkpoint=segmentation, device="cpu")(image)
    labels = cv2.imread(str(out / f"{image.stem}_classes.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(labels, expected.labels)
    (found,) = json.loads((out / "classes.json").read_text()).values()
    assert found["class_set"] == "person"
    assert sum(found["coverage"].values()) == pytest.approx(1, abs=1e-5)
    records = lines(out / "street_classes.jsonl")
    assert [list(record) for record in records] == [["frame", "time", "class_set", "coverage"]] * 6
    assert [picture.shape for picture in read_video(out / "street_classes.mp4")] == [(120, 160, 3)] * 6
    assert "people" not in capfd.readouterr().out
    for options in (["--smooth"], ["--min-score", "0.3"]):
        assert main([*arguments, *options]) == 2
        assert f"{options[0]}: expected a checkpoint of poses with it" in capfd.readouterr().err
