"""ONNX files in the place of checkpoints."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from export_cases import METADATA, SIZE, SMALL, small_network

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.export.onnx_file import export_onnx
from litehrnet_cuda.export.shape import InputShape
from litehrnet_cuda.predictors.onnx_network import OnnxNetwork, is_onnx_file
from litehrnet_cuda.predictors.pose_estimator import PoseEstimator

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

BOXES = [[10, 10, 60, 100], [50, 0, 150, 120], [0, 0, 160, 120]]


def changed(file: Path, target: Path, change: Any) -> Path:
    model = onnx.load(file)
    change(model)
    onnx.save(model, target)
    return target


@pytest.mark.usefixtures("small_variant")
@pytest.mark.parametrize("options", [{}, {"flip_test": True}, {"decoder": "dark", "batch_size": 2}, {"decoder": "udp"}])
def test_an_estimator_finds_the_same_poses(onnx_file: Path, street: np.ndarray, options: dict[str, Any]) -> None:
    expected = PoseEstimator(small_network(), input_size=SIZE, device="cpu", optimize=False, **options)(street, BOXES)
    estimator = PoseEstimator(checkpoint=onnx_file, **options)
    found = estimator(street, BOXES)
    # Heat maps agree to 1e-5, and positions to less than a pixel's hundredth, unless two peaks are that close.
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5 * np.abs(expected.scores).max())
    near = np.abs(found.keypoints - expected.keypoints).max(axis=-1) < 0.01
    assert near.mean() > 0.9
    assert (estimator.input_size, estimator.device.type) == (SIZE, "cpu")
    assert (estimator.model.variant, estimator.model.num_outputs) == (SMALL, 17)


@pytest.mark.usefixtures("small_variant")
def test_nobody_is_found_in_no_box(onnx_file: Path, street: np.ndarray) -> None:
    assert len(PoseEstimator(checkpoint=onnx_file)(street, [])) == 0


def test_a_fixed_number_of_images_is_filled_up(tmp_path: Path) -> None:
    network = small_network()
    file = tmp_path / "four.onnx"
    export_onnx(network, file, METADATA, InputShape(SIZE, batch=4), decoder="quarter")
    images = torch.randn(6, 3, SIZE[1], SIZE[0])
    found = OnnxNetwork(file)(images)
    expected = network(images)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def test_files_are_known_by_their_names() -> None:
    assert is_onnx_file("a/model.ONNX")
    assert not is_onnx_file("model.safetensors")
    assert not is_onnx_file(None)


@pytest.mark.usefixtures("small_variant")
def test_what_cannot_be_combined_is_refused(onnx_file: Path) -> None:
    with pytest.raises(InputError, match=r"small\.onnx: expected no model beside an ONNX file"):
        PoseEstimator("litehrnet_18", checkpoint=onnx_file)
    with pytest.raises(InputError, match="expected its size of 64x96, got 192x256; export the checkpoint for that"):
        PoseEstimator(checkpoint=onnx_file, input_size=(192, 256))
    assert PoseEstimator(checkpoint=onnx_file, input_size=SIZE).input_size == SIZE


def test_files_that_cannot_be_run_are_refused(onnx_file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.onnx: expected an ONNX file, got a path where there is none"):
        OnnxNetwork(tmp_path / "nowhere.onnx")
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(InputError, match=r"text\.onnx: expected an ONNX file that ONNX Runtime can run, got "):
        OnnxNetwork(tmp_path / "text.onnx")

    def forget(model: Any) -> None:
        del model.metadata_props[:]

    with pytest.raises(InputError, match="does not say which network it is"):
        OnnxNetwork(changed(onnx_file, tmp_path / "foreign.onnx", forget))

    def damage(model: Any) -> None:
        forget(model)
        model.metadata_props.add(key="litehrnet_cuda", value="{}")

    with pytest.raises(InputError, match="expected metadata as litehrnet export writes it"):
        OnnxNetwork(changed(onnx_file, tmp_path / "damaged.onnx", damage))
    with pytest.raises(InputError, match="expected a device that the installed onnxruntime runs on, got meta"):
        OnnxNetwork(onnx_file, "meta")


def test_free_sizes_go_in_steps(tmp_path: Path, onnx_file: Path) -> None:
    def free(model: Any) -> None:
        for side, name in zip(model.graph.input[0].type.tensor_type.shape.dim[2:], ("height", "width"), strict=True):
            side.dim_param = name
        del model.graph.value_info[:]
        for side in model.graph.output[0].type.tensor_type.shape.dim[2:]:
            side.dim_param = "some"

    network = OnnxNetwork(changed(onnx_file, tmp_path / "free.onnx", free))
    assert network.size is None
    network.require_size((128, 64))
    with pytest.raises(InputError, match="expected multiples of 32 as size, got 100x64"):
        network.require_size((100, 64))


def test_a_missing_package_is_said(onnx_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"expected the package onnxruntime, .*pip install 'litehrnet_cuda\[export\]'"):
        OnnxNetwork(onnx_file)
