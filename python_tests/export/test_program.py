"""Programs that are written, loaded again and run."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from export_cases import METADATA, SIZE, small_network

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.export import program as program_module
from litehrnet_cuda.export.parity import LIMIT, ParityError
from litehrnet_cuda.export.program import export_program
from litehrnet_cuda.export.shape import InputShape
from litehrnet_cuda.models.checkpoints import CheckpointMetadata


def normalised(count: int) -> torch.Tensor:
    return torch.randn(count, 3, SIZE[1], SIZE[0], generator=torch.Generator().manual_seed(count))


def test_a_program_is_loaded_and_computes_the_network(tmp_path: Path) -> None:
    file, network = tmp_path / "model.pt2", small_network()
    parity = export_program(network, file, METADATA, InputShape(SIZE), decoder="quarter")
    assert parity.difference < LIMIT
    assert parity.keypoints == 0
    extra: dict[str, Any] = {"litehrnet_cuda": "", "decoder": ""}
    loaded = torch.export.load(file, extra_files=extra)
    assert CheckpointMetadata.from_json(extra["litehrnet_cuda"]) == METADATA
    assert extra["decoder"] == "quarter"
    names = {str(node.target) for node in loaded.graph.nodes if node.op == "call_function"}
    assert all(name.startswith(("aten.", "<built-in", "_operator")) for name in names)  # no op of ours
    images = normalised(3)
    keypoints, heatmaps = loaded.module()(images)
    assert keypoints.shape == (3, 17, 3)
    expected = network(images)
    torch.testing.assert_close(heatmaps, expected, rtol=0, atol=LIMIT * float(expected.abs().max()))


def test_a_size_is_free_where_the_smallest_is_asked_for(tmp_path: Path) -> None:
    shape = InputShape((32, 32), free_size=True)
    parity = export_program(small_network(), tmp_path / "model.pt2", METADATA, shape)
    assert {sample[2:] for sample in parity.shapes} > {(32, 32)}


@pytest.mark.parametrize("compiled", [False, True])
def test_a_place_that_cannot_be_written_to_is_said(
    compiled: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(program_module, "_compiled", lambda *_: b"package")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    file = tmp_path / "model.pt2"
    with pytest.raises(InputError, match=r"model\.pt2: cannot be written \(No space left on device\); make room or"):
        export_program(small_network(), file, METADATA, InputShape(SIZE), compiled=compiled)


def test_what_differs_is_not_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = small_network()
    torch.nn.init.normal_(other.keypoint_head.final_layer.bias)
    monkeypatch.setattr(program_module, "ExportedNetwork", lambda network, *_, **__: other)
    with pytest.raises(ParityError, match=r"model\.pt2 is not what PyTorch computes"):
        export_program(small_network(), tmp_path / "model.pt2", METADATA, InputShape(SIZE))
    assert list(tmp_path.iterdir()) == []


def test_a_compiler_that_fails_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("g++: no such file\nand a lot more")

    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", fails)
    expected = r"--compile: expected a C\+\+ compiler .*, got RuntimeError: g\+\+: no such file; leave it out"
    with pytest.raises(InputError, match=expected):
        export_program(small_network(), tmp_path / "model.pt2", METADATA, InputShape(SIZE), compiled=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.compile
def test_a_package_is_compiled_loaded_and_computes_the_network(tmp_path: Path) -> None:
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("needs a C++ compiler")
    file, network = tmp_path / "model.pt2", small_network()
    parity = export_program(network, file, METADATA, InputShape(SIZE), compiled=True)
    assert parity.difference < LIMIT
    package = torch._inductor.aoti_load_package(str(file))
    assert CheckpointMetadata.from_json(package.get_metadata()["litehrnet_cuda"]) == METADATA
    images = normalised(4)
    expected = network(images)
    torch.testing.assert_close(package(images), expected, rtol=0, atol=LIMIT * float(expected.abs().max()))
