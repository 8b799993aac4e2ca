from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

import litehrnet_cuda
from litehrnet_cuda.benchmarking import machine
from litehrnet_cuda.benchmarking.machine import Load, describe_machine, installed, usable_cores


def test_a_description_is_json_and_has_the_versions() -> None:
    described = json.loads(json.dumps(describe_machine()))
    assert described["cpu"]
    assert described["cores"] == usable_cores() >= 1
    assert described["versions"]["torch"] == torch.__version__
    assert described["versions"]["litehrnet_cuda"] == litehrnet_cuda.__version__
    assert set(described["instruction_sets"]) <= set(machine.INSTRUCTION_SETS)


def test_only_what_is_installed_has_a_version() -> None:
    assert list(installed(["no-such-package-at-all", "numpy"])) == ["numpy"]


def test_the_first_processor_is_read(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text("processor\t: 0\nmodel name\t: A: B\nflags\t\t: fpu avx2 fma\n\nprocessor\t: 1\nmodel name\t: C\n")
    found = machine._cpu_info(path)
    assert found["model name"] == "A: B"
    assert machine._flags(found) == {"fpu", "avx2", "fma"}
    assert machine._flags({"Features": "fp asimd"}) == {"fp", "asimd"}
    assert machine._cpu_info(tmp_path / "none") == {}


def test_load_counts_what_others_do(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([100.0, 104.0])
    busy = iter([50.0, 56.0])
    monkeypatch.setattr(machine.time, "perf_counter", lambda: next(seconds))
    monkeypatch.setattr(Load, "_others", lambda self: next(busy))
    monkeypatch.setattr(os, "getloadavg", lambda: (0.126, 1.0, 2.0), raising=False)
    assert Load().end() == {"begin": 0.13, "end": 0.13, "cores_busy_with_others": 1.5}


def test_load_is_unknown_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Load, "_others", lambda self: None)
    monkeypatch.delattr(os, "getloadavg", raising=False)
    assert Load().end() == {"begin": None, "end": None, "cores_busy_with_others": None}


def test_own_work_is_not_that_of_others() -> None:
    load = Load()
    others = load._others()
    if others is None:
        pytest.skip("the system does not tell")
    while sum(os.times()[:2]) == sum(os.times()[:2]):  # until a tick of the clock
        pass
    assert load._others() == pytest.approx(others, abs=5)
