"""`litehrnet env` tells what a bug report needs, also where something is broken."""

from __future__ import annotations

import json
import platform
import sys

import pytest
import torch

import litehrnet_cuda
from litehrnet_cuda import _extension
from litehrnet_cuda.cli.commands import env
from litehrnet_cuda.cli.main import main


def test_json_is_complete(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["litehrnet_cuda"] == litehrnet_cuda.__version__
    assert report["python"] == platform.python_version()
    assert report["torch"]["version"] == torch.__version__
    assert report["torch"]["cuda"] == torch.version.cuda
    assert len(report["torch"]["devices"]) == torch.cuda.device_count()
    assert report["backends"]["reference"]["available"] is True
    library = report["native_library"]
    assert library["loaded"] is _extension.load().ok
    assert library["build"] == _extension.build_info()
    assert (library["reason"] is None) is library["loaded"]


def test_text_has_one_line_for_each_fact(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["env"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for label in ("litehrnet_cuda", "python", "torch", "cuda", "native library", "backend reference"):
        assert sum(line.startswith(f"{label} ") for line in lines) == 1


def test_text_shows_the_build_and_the_devices() -> None:
    report = env.describe()
    report["torch"].update(version="2.10.0", cuda="13.0", devices=["Some GPU", "Other GPU"])
    report["native_library"] = {
        "loaded": True,
        "path": "somewhere/_C.so",
        "reason": None,
        "build": {
            "version": "1.2.3",
            "compiler": "g++ 12",
            "cxx_standard": 201703,
            "debug": True,
            "cuda_architectures": ["9.0"],
        },
    }
    text = env.as_text(report)
    assert "13.0, devices: Some GPU, Other GPU" in text
    assert "somewhere/_C.so" in text
    assert "version 1.2.3, g++ 12, C++ 201703, debug, CUDA architectures: 9.0" in text


def test_text_gives_the_reason_of_a_missing_library() -> None:
    report = env.describe()
    report["native_library"] = {
        "loaded": False,
        "path": "somewhere/_C.so",
        "reason": "not built: because",
        "build": None,
    }
    assert "native library     not built: because" in env.as_text(report)


def test_report_comes_without_torch(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # makes `import torch` raise ImportError
    monkeypatch.setattr(_extension, "load", lambda: _extension.Loaded(_extension.LIBRARY, "no torch"))
    assert main(["env"]) == 0
    printed = capsys.readouterr().out
    assert "torch              ModuleNotFoundError" in printed
    assert "cuda               unknown without torch" in printed
    assert "backend reference  no: torch cannot be imported" in printed
