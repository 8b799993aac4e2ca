"""The commands on networks for segmentation."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mask_cases import write_part

from litehrnet_cuda.cli.main import main
from litehrnet_cuda.cli.segmentation import MODE_NAMES
from litehrnet_cuda.data.mask_datasets import locate_mask_splits
from litehrnet_cuda.engine.evaluate_segmentation import evaluate_segmentation
from litehrnet_cuda.models.checkpoints import read_checkpoint, read_metadata
from litehrnet_cuda.predictors.segmenter import MODES, Segmenter


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a training on the drawn people, by the command."""
    folder = tmp_path_factory.mktemp("train") / "out"
    options = "--model naive_litehrnet_18 --size 64x48 --batch-size 2 --epochs 1 --images 4 --device cpu"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("litehrnet_cuda.data.datasets.generate_splits", _draw_few)
        assert main(["train", "generated_segmentation", "--out", str(folder), *options.split()]) == 0
    return folder


def _draw_few(folder: Path, *, train_images: int, val_images: int, seed: int, replace: bool) -> None:
    from litehrnet_cuda.data.generated.coco_folder import write_coco

    assert (train_images, val_images, replace) == (4, 20, True)
    for split, count in (("train", 4), ("val", 2)):
        write_coco(folder, count, seed=seed, split=split, size=(96, 80))


def test_training_leaves_a_network_for_segmentation(out: Path) -> None:
    metadata = read_metadata(out / "model.safetensors")
    assert metadata is not None
    assert (metadata.variant, metadata.task, metadata.num_outputs) == ("naive_litehrnet_18", "segmentation", 2)
    assert metadata.input_size == (64, 48)
    assert json.loads((out / "recipe.json").read_text())["task"] == "segmentation"


def test_the_same_command_has_nothing_left_to_do(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = read_checkpoint(out / "model.safetensors")
    assert main(["train", str(out / "recipe.json"), "--data", str(out / "data"), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert re.fullmatch(rf"mIoU \d\.\d{{3}} \(whole images\) on 2 images; see {out}\n", printed)
    assert all(torch.equal(value, before[name]) for name, value in read_checkpoint(out / "model.safetensors").items())


def test_settings_of_poses_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "generated_segmentation", "--out", str(tmp_path), "--sigma", "2"]) == 2
    assert "generated_segmentation: there is no setting 'sigma'" in capsys.readouterr().err
    assert main(["train", "cityscapes_512x1024", "--out", str(tmp_path)]) == 2
    assert "cityscapes_512x1024: is for Cityscapes' images, which are not embedded" in capsys.readouterr().err


@pytest.mark.parametrize("mode", MODES)
def test_evaluation_prints_all_figures(
    out: Path, mode: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = str(out / "model.safetensors")
    options = ["--mode", mode, "--device", "cpu", "--out", str(tmp_path / "report")]
    if mode == "slide":
        options += ["--window", "48x40", "--stride", "30x20"]
    assert main(["evaluate", "--checkpoint", checkpoint, "--data", str(out / "data"), *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    sliding = {"window": (48, 40), "stride": (30, 20)} if mode == "slide" else {}
    segmenter = Segmenter(checkpoint=checkpoint, mode=mode, device="cpu", **sliding)
    found = evaluate_segmentation(segmenter, locate_mask_splits(out / "data")["val"].read(), progress=False)
    how = "whole images" if mode == "whole" else "sliding windows of 48x40"
    assert lines[0] == f"naive_litehrnet_18, fcn head, {how}, flip test off, 2 images"
    names = ("mIoU", "pixel accuracy", "mean accuracy", "IoU background", "IoU person")
    assert [line.rsplit(maxsplit=1) for line in lines[1:6]] == [
        [name, "none" if found.metrics[name] < 0 else f"{found.metrics[name]:.4f}"] for name in names
    ]
    metrics = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert metrics["mIoU"] == found.score
    assert (metrics["mode"], metrics["window"]) == (mode, [48, 40] if sliding else None)
    assert (metrics["images"], metrics["skipped_images"]) == (2, 0)
    with (tmp_path / "report" / "confusion.csv").open(newline="") as file:
        rows = [row[1:] for row in csv.reader(file)][1:]
    assert [[int(cell) for cell in row] for row in rows] == found.matrix.tolist()


def test_data_with_other_classes_are_refused(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_part(tmp_path, "", 1, classes=4)
    arguments = ["evaluate", "--checkpoint", str(out / "model.safetensors"), "--device", "cpu", "--data"]
    assert main([*arguments, str(tmp_path)]) == 2
    assert "0.png: expected the numbers 0 to 1, 255, got 2, 3 too" in capsys.readouterr().err
    file = tmp_path / "mine.toml"
    file.write_text('name = "m"\nclasses = ["a", "b", "c", "d"]\n[val]\nimages = "images"\nmasks = "masks"\n')
    assert main([*arguments, str(file)]) == 2
    assert "expected masks of 2 classes as the network has outputs (person), got 4 (m)" in capsys.readouterr().err
    file.write_text(file.read_text().replace("[val]", "[train]"))
    assert main([*arguments, str(file)]) == 2
    assert "expected a part to validate with (val), got train" in capsys.readouterr().err


def test_a_folder_of_images_and_masks_is_enough(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_part(tmp_path, "", 2, classes=2)
    arguments = ["--checkpoint", str(out / "model.safetensors"), "--device", "cpu", "--data", str(tmp_path)]
    assert main(["evaluate", *arguments]) == 0
    assert "IoU person" in capsys.readouterr().out, "classes are called as in the checkpoint"


@pytest.mark.parametrize("part", ["images", "masks"])
def test_skipped_images_are_said_and_do_not_count(
    out: Path, part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_part(tmp_path, "", 3, classes=2)
    arguments = ["evaluate", "--checkpoint", str(out / "model.safetensors"), "--data", str(tmp_path), "--device", "cpu"]
    arguments += ["--out", str(tmp_path / "report")]
    broken = tmp_path / part / "1.png"
    broken.write_bytes(b"broken")
    assert main(arguments) == 2
    assert str(broken) in capsys.readouterr().err
    assert main([*arguments, "--bad-images", "skip"]) == 0
    printed = capsys.readouterr()
    (said,) = printed.err.splitlines()
    assert said.startswith(f"skipped: {broken}: expected ")
    assert printed.out.splitlines()[0].endswith(", 2 images, skipped images: 1")
    metrics = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert (metrics["images"], metrics["skipped_images"]) == (2, 1)


@pytest.mark.parametrize("option", ["--images", "--detections", "--metric", "--box-convention"])
def test_options_of_poses_are_refused(out: Path, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    value = {"--metric": "coco", "--box-convention": "official"}.get(option, "file")
    arguments = ["--checkpoint", str(out / "model.safetensors"), "--data", str(out / "data"), option, value]
    assert main(["evaluate", *arguments]) == 2
    assert f"{option}: is for poses" in capsys.readouterr().err


def test_modes_are_those_of_the_segmenter() -> None:
    assert MODE_NAMES == MODES


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--decoder", "dark"], "--decoder: is for poses"),
        (["--window", "64x64"], "--window: expected --mode slide beside it"),
        (["--stride", "64x64", "--mode", "whole"], "--stride: expected --mode slide beside it"),
    ],
)
def test_options_that_do_not_apply_are_refused(
    out: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = str(out / "model.safetensors")
    assert main(["evaluate", "--checkpoint", checkpoint, "--data", str(out / "data"), *options, "--device", "cpu"]) == 2
    assert message in capsys.readouterr().err


def test_windows_are_refused_beside_poses(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(tmp_path / "street.png"), np.zeros((64, 64, 3), np.uint8))
    source = ["predict", str(tmp_path / "street.png"), "--out", str(tmp_path / "out")]
    for command in (source, ["evaluate", "--annotations", str(tmp_path / "none.json")]):
        assert main([*command, "--checkpoint", str(checkpoint), "--mode", "slide", "--device", "cpu"]) == 2
        assert "--mode: is for segmentation, and " in capsys.readouterr().err


def test_prediction_in_windows(out: Path, tmp_path: Path) -> None:
    image = str(next((out / "data" / "val").iterdir()))
    options = ["--mode", "slide", "--window", "48x40", "--device", "cpu", "--out", str(tmp_path)]
    assert main(["predict", image, "--checkpoint", str(out / "model.safetensors"), *options]) == 0
    (file,) = tmp_path.glob("*_classes.png")
    segmenter = Segmenter(checkpoint=out / "model.safetensors", mode="slide", window=(48, 40), device="cpu")
    np.testing.assert_array_equal(cv2.imread(str(file), cv2.IMREAD_UNCHANGED), segmenter(image).labels)
