"""The network of a predictor; most of all an ONNX file of one for segmentation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from export_cases import SIZE, SMALL
from mask_cases import write_part
from official_reference import load_recipe

from litehrnet_cuda.classes import PERSON
from litehrnet_cuda.cli.main import main
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.export.onnx_file import export_onnx
from litehrnet_cuda.export.shape import InputShape
from litehrnet_cuda.models.checkpoints import CheckpointMetadata, save_checkpoint
from litehrnet_cuda.models.litehrnet import VARIANTS
from litehrnet_cuda.models.registry import create_model
from litehrnet_cuda.predictors.networks import task_of
from litehrnet_cuda.predictors.pose_estimator import PoseEstimator
from litehrnet_cuda.predictors.segmenter import Segmenter

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

Array = np.ndarray[Any, Any]
METADATA = CheckpointMetadata(SMALL.name, "segmentation", 2, class_set=PERSON, head="fcn", input_size=SIZE)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, an ONNX file for one size, and one for every size."""
    folder = tmp_path_factory.mktemp("files")
    network = load_recipe(create_model(SMALL, "segmentation", num_outputs=2), "w0").float().eval()
    save_checkpoint(network, folder / "model.safetensors", METADATA)
    export_onnx(network, folder / "fixed.onnx", METADATA, InputShape(SIZE))
    export_onnx(network, folder / "free.onnx", METADATA, InputShape(SIZE, free_size=True))
    return folder


@pytest.fixture(autouse=True)
def small_variant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VARIANTS, SMALL.name, SMALL)


def picture(width: int, height: int) -> Array:
    small = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC))


def assert_finds_the_same(found: Segmenter, expected: Segmenter, image: Array) -> None:
    """Probabilities, which are worth 0 to 1, as exactly as an export has to be."""
    ours, theirs = found.predict_probabilities(image), expected.predict_probabilities(image)
    assert theirs.std() > 0.01
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    apart = np.abs(theirs[0] - theirs[1]) > 1e-3
    labels = [segmenter(image).labels for segmenter in (found, expected)]
    assert (labels[0] == labels[1])[apart].all()


@pytest.mark.parametrize("flip_test", [False, True])
@pytest.mark.parametrize(
    ("name", "size", "options"),
    [
        ("fixed", SIZE, {}),
        ("free", (160, 128), {}),
        ("free", (150, 120), {"mode": "slide", "window": (96, 64)}),
        ("fixed", (150, 120), {"mode": "slide"}),
        ("fixed", (300, 240), {"mode": "slide", "size": (150, 150), "stride": (20, 30)}),
    ],
)
def test_a_segmenter_finds_the_same(
    files: Path, name: str, size: tuple[int, int], options: dict[str, Any], flip_test: bool
) -> None:
    found = Segmenter(checkpoint=files / f"{name}.onnx", flip_test=flip_test, **options)
    expected = Segmenter(
        checkpoint=files / "model.safetensors", flip_test=flip_test, device="cpu", optimize=False, **options
    )
    assert_finds_the_same(found, expected, picture(*size))
    assert (found.class_set, found.device.type) == (PERSON, "cpu")
    assert (found.model.variant, found.model.num_outputs, found.model.head) == (SMALL, 2, "fcn")


@pytest.mark.parametrize(
    ("name", "resized", "words"),
    [("fixed", SIZE, "resized to 64x96"), ("free", (160, 128), "resized to multiples of 32")],
)
def test_whole_images_are_resized_to_what_the_file_takes(
    files: Path, name: str, resized: tuple[int, int], words: str
) -> None:
    segmenter = Segmenter(checkpoint=files / f"{name}.onnx")
    image = picture(150, 121)
    assert segmenter.resizing == words
    expected = Segmenter(checkpoint=files / "model.safetensors", device="cpu", optimize=False)
    logits = expected._logits(np.asarray(cv2.resize(image, resized, interpolation=cv2.INTER_LINEAR)))
    (found,) = segmenter._logits(image)
    torch.testing.assert_close(found, logits[0], rtol=0, atol=1e-4 * float(logits[0].abs().max()))
    assert segmenter(image).labels.shape == (121, 150)


def test_windows_have_to_be_what_the_file_takes(files: Path) -> None:
    with pytest.raises(InputError, match="expected its size of 64x96, got 96x64; export the checkpoint for that"):
        Segmenter(checkpoint=files / "fixed.onnx", mode="slide", window=(96, 64))
    with pytest.raises(InputError, match="expected multiples of 32 as size, got 100x64"):
        Segmenter(checkpoint=files / "free.onnx", mode="slide", window=(100, 64))


@pytest.mark.parametrize("name", ["fixed", "free"])
def test_images_smaller_than_a_file_s_window_are_enlarged_to_it(name: str, files: Path) -> None:
    segmenter = Segmenter(checkpoint=files / f"{name}.onnx", mode="slide", window=(64, 96))
    image = picture(60, 90)
    expected = Segmenter(checkpoint=files / "model.safetensors", device="cpu", optimize=False)
    logits = expected._logits(np.asarray(cv2.resize(image, (64, 96), interpolation=cv2.INTER_LINEAR)))
    (found,) = segmenter._logits(image)
    # At the window's size, where the network's are at a quarter of it.
    resized = torch.nn.functional.interpolate(logits[0], size=found.shape[2:], mode="bilinear")
    torch.testing.assert_close(found, resized, rtol=0, atol=1e-4 * float(logits[0].abs().max()))
    assert segmenter(image).labels.shape == (90, 60)


def test_files_of_the_other_task_are_refused(files: Path) -> None:
    with pytest.raises(InputError, match=r"free\.onnx: expected a network for poses, got one for segmentation"):
        PoseEstimator(checkpoint=files / "free.onnx")
    assert [task_of(files / name) for name in ("free.onnx", "model.safetensors")] == ["segmentation"] * 2


def test_evaluation_gives_the_same_figures(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_part(tmp_path, "", 3, size=(96, 64), classes=2)
    lines = {}
    for name in ("model.safetensors", "free.onnx", "fixed.onnx"):
        out = tmp_path / name
        arguments = ["--checkpoint", str(files / name), "--data", str(tmp_path), "--out", str(out), "--device", "cpu"]
        assert main(["evaluate", *arguments]) == 0
        lines[name] = capsys.readouterr().out.splitlines()
        assert json.loads((out / "metrics.json").read_text())["checkpoint"] == str(files / name)
    assert lines["free.onnx"][0] == "small, fcn head, whole images resized to multiples of 32, flip test off, 3 images"
    assert "whole images resized to 64x96" in lines["fixed.onnx"][0]
    # Four digits of shares of 18 thousand pixels, of which rounding can move single ones.
    figures = [[float(line.split()[-1]) for line in lines[name][1:6]] for name in ("model.safetensors", "free.onnx")]
    np.testing.assert_allclose(*figures, atol=1.5e-4)


def test_prediction(files: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "street.png"), picture(96, 64))
    out = tmp_path / "out"
    assert (
        main(["predict", str(tmp_path / "street.png"), "--checkpoint", str(files / "free.onnx"), "--out", str(out)])
        == 0
    )
    assert any(path.suffix in (".png", ".jpg") for path in out.rglob("*"))
