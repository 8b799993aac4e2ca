from __future__ import annotations

import json
import re
from typing import Any

import emulated_ops
import pytest
import torch

from litehrnet_cuda import backends
from litehrnet_cuda.cli.commands import benchmark
from litehrnet_cuda.cli.main import main
from litehrnet_cuda.models.litehrnet import LiteHRNet, PoseNetwork, Variant
from litehrnet_cuda.plan import build_plan
from litehrnet_cuda.plan.gpus import GPUS
from litehrnet_cuda.plan.latency import WAYS, assumptions


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "SECONDS", 0.0)
    monkeypatch.setattr(benchmark, "LEAST_RUNS", 3)


def test_names_written_out_are_those_of_the_model() -> None:
    assert tuple(gpu.name for gpu in GPUS) == benchmark.GPU_NAMES
    assert all(isinstance(getattr(torch, name), torch.dtype) for name in benchmark.DTYPE_NAMES)


def test_predicted_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "litehrnet_18", "--predict", "--gpu", "h100", "T4", "--batch", "1", "64"]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert max(map(len, lines)) <= 120
    assert "litehrnet_18, input 192x256, float32, a plan of 65 launches: predicted, not measured;" in lines
    rows = [re.split(r"  +", line) for line in lines if line.startswith(("H100", "T4"))]
    assert [row[:2] for row in rows] == [["H100 SXM", "1"], ["H100 SXM", "64"], ["T4", "1"], ["T4", "64"]]
    # Programmatic dependent launches need compute capability 9.0.
    assert [row[4] == "-" for row in rows] == [False, False, True, True]
    for row in rows:
        for cell in (*row[2:4], row[5]):
            shortest, longest = map(float, cell.split(" - "))
            assert 0 < shortest < longest
    printed = " ".join(out.split())
    for paragraph in assumptions():
        assert paragraph in printed
    assert printed.count("measured") == printed.count("not measured") == 1


def test_predicted_json(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["litehrnet_18", "naive_litehrnet_18", "--size", "71x50", "--dtype", "float16", "--gpu", "a100"]
    assert main(["benchmark", "--predict", "--json", *arguments]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["assumptions"] == assumptions()
    results = printed["predicted"]
    assert [result["network"] for result in results] == ["litehrnet_18", "naive_litehrnet_18"]
    (first, _) = results
    assert {key: first[key] for key in first if key not in ("network", "ms")} == {
        "width": 71,
        "height": 50,
        "dtype": "float16",
        "gpu": "A100 40 GB",
        "batch": 1,
        "launches": 65,
    }
    assert list(first["ms"]) == [way.name for way in WAYS]
    assert first["ms"]["graph+pdl"] is None
    shortest, longest = first["ms"]["stream"]
    assert 65 * 2e-3 < shortest < longest < 65 * 0.1


def test_all_networks_and_gpus_are_predicted_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "--predict", "--size", "32x32", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)["predicted"]
    assert len({result["network"] for result in results}) == 4
    assert {result["gpu"] for result in results} == {gpu.name for gpu in GPUS}


@pytest.mark.usefixtures("fast")
def test_measured_on_the_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--device", "cpu", "--size", "32x64", "--batch", "1", "2"]
    assert main(["benchmark", "litehrnet_18", *options]) == 0
    title, head, *rows = capsys.readouterr().out.splitlines()
    assert title.startswith("input 32x64, float32, on cpu (")
    assert head.split() == ["batch", "runs", "eager"]
    assert [row.split()[:3] for row in rows] == [["litehrnet_18", "1", "3"], ["litehrnet_18", "2", "3"]]
    assert main(["benchmark", "litehrnet_18", *options, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["device"], printed["torch"]) == ("cpu", torch.__version__)
    assert [result["batch"] for result in printed["measured"]] == [1, 2]
    for result in printed["measured"]:
        assert result["ms"]["eager"] > 0
        assert result["times_faster"]["eager"] == 1
        assert (result["width"], result["height"], result["runs"]) == (32, 64, 3)


def test_times_faster_are_ratios_of_medians(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    times = {"eager": [0.09, 0.02, 0.03], "fused blocks": [0.01, 0.5, 0.012]}
    monkeypatch.setattr(benchmark, "measure", lambda calls, images: times)
    assert main(["benchmark", "litehrnet_18", "--device", "cpu"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == ["litehrnet_18", "1", "3", "30", "12", "(2.5)"]


@pytest.mark.usefixtures("fast")
def test_calls_take_turns_after_a_warm_up() -> None:
    calls: list[str] = []

    def call(name: str) -> Any:
        def record(images: torch.Tensor) -> None:
            assert images.shape == (2, 3, 4, 5)
            assert torch.is_inference_mode_enabled()
            calls.append(name)

        return record

    times = benchmark.measure({name: call(name) for name in "ab"}, torch.zeros(2, 3, 4, 5))
    warm_up = benchmark.WARM_UP
    assert calls == ["a"] * warm_up + ["b"] * warm_up + ["a", "b"] * 3
    assert {name: len(samples) for name, samples in times.items()} == {"a": 3, "b": 3}
    assert all(seconds > 0 for samples in times.values() for seconds in samples)


def test_measuring_goes_on_until_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "SECONDS", 0.05)
    (samples,) = benchmark.measure({"a": lambda images: None}, torch.zeros(1, 3, 1, 1)).values()
    assert len(samples) > benchmark.LEAST_RUNS
    assert sum(samples) <= 0.1


def test_contenders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(backends.VARIABLE, raising=False)
    model, images = small_network(), torch.randn(1, 3, 32, 32)
    found = benchmark.contenders(model, images)
    assert list(found) == ["eager"]
    emulator = emulated_ops.load()
    emulator.configure(seed=0)
    with backends.use_backend("emulated"):
        found = benchmark.contenders(model, images)
        assert list(found) == ["eager", "fused blocks", "plan"]
        launches = []
        for call in found.values():
            emulator.reset()
            with torch.inference_mode():
                call(images)
            launches.append(len(emulator.launches()))
    assert launches == [0, 3 * 4, len(build_plan(model, 32, 32).steps)]


def small_network() -> PoseNetwork:
    """Of two stages with a module of two blocks each."""
    return PoseNetwork(LiteHRNet(Variant("small", (1, 1), (8, 16, 32))), 17).eval()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--predict", "--gpu", "v100"], "unknown GPU 'v100', expected one of T4,"),
        (["--predict", "--gpu", "100"], "ambiguous GPU '100'"),
        (["--predict", "--device", "cpu"], "--device: nothing runs with --predict"),
        (["--gpu", "t4"], "--gpu: only together with --predict"),
        (["--predict", "litehrnet_19"], "did you mean 'litehrnet_18'?"),
        (["litehrnet_19"], "did you mean 'litehrnet_18'?"),
        (["litehrnet_18", "--device", "tpu"], "device: expected one that can be used here"),
        (["litehrnet_18", "--predict", "--size", "16x16"], "at least 32"),
        (["--batch", "0"], "whole number of at least 1"),
        (["--dtype", "float64"], "invalid choice: 'float64'"),
    ],
)
def test_bad_input(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = main(["benchmark", *arguments])
    except SystemExit as exit_:
        status = exit_.code  # type: ignore[assignment]
    assert status == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
