from __future__ import annotations

import json
import re
from typing import Any

import pytest
import torch

from litehrnet_cuda.benchmarking import comparison as comparing
from litehrnet_cuda.benchmarking import runtimes
from litehrnet_cuda.benchmarking.comparison import Comparison, Preparation
from litehrnet_cuda.benchmarking.contenders import CONTENDERS
from litehrnet_cuda.benchmarking.timing import Effort, Rounds
from litehrnet_cuda.cli.commands import benchmark
from litehrnet_cuda.cli.main import main
from litehrnet_cuda.plan.gpus import GPUS
from litehrnet_cuda.plan.latency import WAYS, assumptions


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three runs, and none of the runtimes that may or may not be installed."""
    monkeypatch.setattr(benchmark, "SECONDS", 0.0)
    monkeypatch.setattr(benchmark, "LEAST_RUNS", 3)
    monkeypatch.setattr(runtimes, "module", not_installed)


def not_installed(name: str) -> Any:
    raise runtimes.Unavailable("not installed")


def test_names_written_out_are_those_of_the_model() -> None:
    assert tuple(gpu.name for gpu in GPUS) == benchmark.GPU_NAMES
    assert all(isinstance(getattr(torch, name), torch.dtype) for name in benchmark.DTYPE_NAMES)
    assert tuple(CONTENDERS) == benchmark.CONTENDER_NAMES


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
    options = ["--device", "cpu", "--size", "32x64", "--batch", "1", "2", "--threads", "1"]
    assert main(["benchmark", "litehrnet_18", *options]) == 0
    title, how, head, *rows = capsys.readouterr().out.splitlines()
    assert title.startswith("input 32x64, float32, on cpu (")
    assert title.endswith(f", 1 thread, torch {torch.__version__}:")
    assert how == "medians in ms of runs that take turns; in brackets how many times faster than eager"
    assert head.split() == ["batch", "runs", "PyTorch,", "eager", "ours", "fused", "blocks"]
    assert [row.split()[:3] for row in rows[:2]] == [["litehrnet_18", "1", "3"], ["litehrnet_18", "2", "3"]]
    assert rows[2].startswith("ours: ")
    assert "not installed: onnxruntime, openvino; pip install 'litehrnet_cuda[benchmark]'" in rows
    assert main(["benchmark", "litehrnet_18", *options, "--contender", "ours", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["device"], printed["torch"]) == ("cpu", torch.__version__)
    assert printed["machine"]["cpu"]
    assert printed["missing"] == {}
    assert [result["batch"] for result in printed["measured"]] == [1, 2]
    for result in printed["measured"]:
        assert list(result["ms"]) == ["eager", "ours"]
        assert result["ms"]["eager"] > 0
        assert result["times_faster"]["eager"] == 1
        # Sums in another order than PyTorch's, over all layers.
        assert result["contenders"]["ours"]["error"] < 1e-4
        assert (result["width"], result["height"], result["runs"], result["threads"]) == (32, 64, 3, 1)


def comparison(*, interrupted: bool = False) -> Comparison:
    """Of rounds in which ours is 2, 3 and 8 times faster, while the machine slows down."""
    rounds = Rounds({"eager": [0.02, 0.03, 0.8], "ours": [0.01, 0.01, 0.1]}, interrupted=interrupted)
    prepared = {name: Preparation(1.0, 0.0, "planned" if name == "ours" else "") for name in rounds.seconds}
    return Comparison(rounds, prepared, {"openvino": "it crashed"})


def test_times_faster_are_medians_over_rounds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(comparing, "compare", lambda *args, **options: comparison())
    assert main(["benchmark", "litehrnet_18", "--device", "cpu", "--size", "32x32"]) == 0
    *_, row, ours, missing = capsys.readouterr().out.splitlines()
    assert row.split() == ["litehrnet_18", "1", "3", "30", "10", "(3.0)"]
    assert ours == "ours: planned"
    assert missing == "not measured: openvino: it crashed"


def test_an_interruption_keeps_what_there_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["benchmark", "litehrnet_18", "--device", "cpu", "--size", "32x32", "--batch", "1", "2", "3"]
    monkeypatch.setattr(comparing, "compare", lambda *args, **options: comparison(interrupted=True))
    assert main(options) == 0
    out = capsys.readouterr().out
    assert out.count("litehrnet_18") == 1
    assert out.splitlines()[-1] == "interrupted: fewer runs, and not all networks and batches"

    calls: list[int] = []

    def stopped(*args: Any, **options: Any) -> Comparison:
        calls.append(1)
        if len(calls) == 2:  # while the second batch is prepared
            raise KeyboardInterrupt
        return comparison()

    monkeypatch.setattr(comparing, "compare", stopped)
    assert main(options) == 0
    assert capsys.readouterr().out.count("litehrnet_18") == 1


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ([], ["eager", "ours", "blocks", "onnxruntime", "openvino"]),
        (["--contender", "ours-float16", "openvino"], ["eager", "ours-float16", "openvino"]),
        (
            ["--contender", "all"],
            ["eager", "ours", "ours-bfloat16", "ours-float16", "blocks", "compile", "onnxruntime", "openvino"],
        ),
    ],
)
def test_contenders_are_chosen(monkeypatch: pytest.MonkeyPatch, given: list[str], names: list[str]) -> None:
    chosen: list[str] = []

    def compare(entries: Any, images: torch.Tensor, threads: int, effort: Effort, say: Any) -> Comparison:
        chosen.extend(entries)
        assert images.shape == (1, 3, 32, 40)
        assert (threads, effort.pause > 0) == (2, True)
        return comparison()

    monkeypatch.setattr(comparing, "compare", compare)
    options = ["--device", "cpu", "--size", "40x32", "--threads", "2"]
    assert main(["benchmark", "litehrnet_18", *options, *given]) == 0
    assert chosen == names


def test_contenders_for_other_devices_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(comparing, "compare", lambda *args, **options: comparison())
    options = ["litehrnet_18", "--device", "cpu", "--size", "32x32", "--contender", "ours", "tensorrt"]
    assert main(["benchmark", *options]) == 0
    assert "not measured: tensorrt: not for cpu" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--predict", "--gpu", "v100"], "unknown GPU 'v100', expected one of T4,"),
        (["--predict", "--gpu", "100"], "ambiguous GPU '100'"),
        (["--predict", "--device", "cpu"], "--device: nothing runs with --predict"),
        (["--predict", "--threads", "1"], "--threads: nothing runs with --predict"),
        (["--predict", "--contender", "ours"], "--contender: nothing runs with --predict"),
        (["--contender", "theirs"], "invalid choice: 'theirs'"),
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
