"""docs/deployment.md: what it tells to run, runs."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from export_cases import METADATA, SMALL, small_network

from litehrnet_cuda.cli.commands.export import add_arguments
from litehrnet_cuda.cli.main import main
from litehrnet_cuda.export.program import export_program
from litehrnet_cuda.export.shape import InputShape
from litehrnet_cuda.models.checkpoints import save_checkpoint
from litehrnet_cuda.models.litehrnet import VARIANTS

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "deployment.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
SIZE = (192, 256)  # that the page takes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, coco_folder: Path) -> Iterator[Path]:
    """What the page assumes: a checkpoint, an image and a data set. What it has written stays for its next block."""
    for package in ("onnxruntime", "onnxscript", "openvino"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("deployment")
    save_checkpoint(small_network(), folder / "model.safetensors", replace(METADATA, input_size=SIZE))
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    cv2.imwrite(str(folder / "street.jpg"), image)
    shutil.copytree(coco_folder, folder / "coco")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(VARIANTS, SMALL.name, SMALL)
        patch.chdir(folder)
        yield folder


def test_all_blocks_run_in_their_order(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    commands = 0
    for language, code in BLOCKS:
        if language == "python":
            exec(compile(code, "deployment.md", "exec"), {})
        elif language == "sh":
            for line in code.splitlines():
                if "--compile" not in line:  # below
                    program, *arguments = shlex.split(line)
                    assert program == "litehrnet"
                    assert main(arguments) == 0, capfd.readouterr().err
                    commands += 1
    assert commands >= 4
    assert sorted(file.name for file in folder.glob("*.onnx")) == ["int8.onnx", "keypoints.onnx", "model.onnx"]


def test_all_options_are_told() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    add_arguments(parser)
    options = [name for action in parser._actions for name in action.option_strings]
    assert len(options) > 8
    assert [name for name in options if f"{name} " not in PAGE and f"{name}`" not in PAGE] == ["--model"]


@pytest.mark.slow
@pytest.mark.compile
def test_the_program_in_c_plus_plus_runs(tmp_path: Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    (source,) = (code for language, code in BLOCKS if language == "cpp")
    (tmp_path / "serve.cpp").write_text(source)
    (command,) = re.findall(r"^    (g\+\+ .*?\n +.*)$", PAGE, re.MULTILINE)
    arguments = command.replace("\\\n", " ").replace("$TORCH", torch.__path__[0])
    subprocess.run(shlex.split(arguments), cwd=tmp_path, check=True)
    export_program(small_network(), tmp_path / "compiled.pt2", METADATA, InputShape(SIZE, 1), compiled=True)
    run: Any = subprocess.run(["./serve", "compiled.pt2"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert run.stdout == "[1, 17, 64, 48]\n"
