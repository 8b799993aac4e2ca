"""The benchmarks of whole networks: cases, files, tables, plots and command line, with fakes in place of contenders."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))  # behind an installed package

from benchmarks import tables  # noqa: E402
from benchmarks.networks import cases, check, command, forward, plots, report, results, training  # noqa: E402
from benchmarks.networks import training_step as step_program  # noqa: E402
from benchmarks.networks.cases import Case  # noqa: E402
from benchmarks.networks.hrnet import HRNet  # noqa: E402
from benchmarks.networks.mobilenet import MobileNetPose  # noqa: E402
from litehrnet_cuda.benchmarking.contenders import CONTENDERS, Contender, Prepared  # noqa: E402
from litehrnet_cuda.benchmarking.runtimes import Unavailable  # noqa: E402
from litehrnet_cuda.benchmarking.timing import Effort  # noqa: E402

CPU = torch.device("cpu")
SHORT = Effort(warm_up=0, least_rounds=2, seconds=0)


# Other networks


def test_other_networks_have_the_published_numbers_of_parameters() -> None:
    # 28.5 M (table 1 of HRNet's paper) and 9.6 M (mmpose's table of MobileNetV2), which they round to.
    assert sum(p.numel() for p in HRNet().parameters()) == 28_536_113
    assert sum(p.numel() for p in MobileNetPose().parameters()) == 9_569_809


@pytest.mark.parametrize("network", [HRNet, MobileNetPose])
def test_other_networks_give_heat_maps(network: type[nn.Module]) -> None:
    assert network().eval()(torch.randn(1, 3, 64, 96)).shape == (1, 17, 16, 24)


# Cases


def test_cases_cover_what_has_to_be_measured() -> None:
    found = cases.inference_cases("cpu")
    assert len({case.name for case in found}) == len(found)
    assert {case.network for case in found} == set(cases.NETWORKS) - {"hrnet_w32", "mobilenetv2"}
    assert {case.threads for case in found} == {1, 2}
    assert {case.batch for case in found} >= {1, 8}
    assert {case.threads for case in found if "compile" in case.contenders} == {1}
    uneven = {(case.height, case.width) for case in found if case.height % 32 or case.width % 32}
    assert uneven == {(250, 180), (333, 217)}
    on_gpu = cases.inference_cases("cuda")
    assert {case.dtype for case in on_gpu} == {"float32", "float16"}
    assert {case.threads for case in on_gpu} == {1}
    every = [*found, *on_gpu, *cases.growth_cases("cpu"), *cases.quick_cases("cpu")]
    assert {name for case in every for name in case.contenders} <= set(CONTENDERS)
    assert {name.split("/")[0] for case in every for name in case.others} == {"hrnet_w32", "mobilenetv2"}


def test_growth_is_in_batches_and_in_pixels() -> None:
    found = cases.growth_cases("cpu")
    assert [case.batch for case in found if (case.height, case.width) == cases.SIZE] == list(cases.BATCHES)
    assert {(case.height, case.width) for case in found if case.batch == 1} == set(cases.SIZES)


def test_cases_are_chosen() -> None:
    found = cases.chosen(
        cases.inference_cases("cpu"), network=["litehrnet_18"], batch=None, threads=[2], contenders=["ours", "eager"]
    )
    assert {(case.network, case.threads) for case in found} == {("litehrnet_18", 2)}
    assert {case.contenders for case in found} == {("eager", "ours")}
    assert found[0].others == ("hrnet_w32/eager", "mobilenetv2/eager")


def test_networks_and_images_are_the_same_each_time() -> None:
    case = Case("naive_litehrnet_18", 40, 32, batch=2)
    network = cases.network(case.network, torch.float32, CPU)
    assert network is cases.network(case.network, torch.float32, CPU)  # so that exports are kept
    assert not network.training
    images = cases.images(case, CPU)
    assert images.shape == (2, 3, 40, 32)
    assert torch.equal(images, cases.images(case, CPU))
    assert images.std() == pytest.approx(1, abs=0.1)


# Measuring


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Contender]:
    """Contenders of a network that does nothing; the last one is not there."""
    monkeypatch.setattr(forward, "network", lambda name, dtype, device: nn.Identity())

    def absent(network: nn.Module, images: Tensor, threads: int) -> Prepared:
        raise Unavailable("not installed")

    def present(network: nn.Module, images: Tensor, threads: int) -> Prepared:
        return Prepared(network, f"threads {threads}")

    prepare = {"ours": present, "eager": present, "onnxruntime": absent}
    return {name: replace(CONTENDERS[name], prepare=call) for name, call in prepare.items()}


CASES = [
    Case("litehrnet_18", 256, 192, contenders=("ours", "eager", "onnxruntime"), others=("hrnet_w32/eager",)),
    Case("litehrnet_30", 256, 192, batch=8, threads=2, contenders=("ours", "eager")),
]


@pytest.fixture
def measured(
    fakes: dict[str, Contender], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Path:
    """A file of results of fakes."""
    monkeypatch.setattr(forward, "SPINNING", 0.0)
    before = torch.get_num_threads()
    try:
        path, interrupted = forward.measure("inference", CASES, SHORT, tmp_path, CPU, fakes)
    finally:
        torch.set_num_threads(before)
    assert not interrupted
    assert capsys.readouterr().err.count("not measured: onnxruntime: not installed") == 1
    return path


def test_results_are_written(measured: Path) -> None:
    document = json.loads(measured.read_text(encoding="utf-8"))
    assert document["kind"] == "inference"
    assert document["settings"]["inter_op_threads"] == 1
    assert set(document["load"]) == {"begin", "end", "cores_busy_with_others"}
    first, second = document["cases"]
    assert first["case"] == {
        **{"network": "litehrnet_18", "height": 256, "width": 192},
        **{"batch": 1, "threads": 1, "dtype": "float32"},
    }
    assert list(first["contenders"]) == ["ours", "eager", "hrnet_w32/eager"]
    assert first["missing"] == {"onnxruntime": "not installed"}
    assert first["rounds"] == 2
    assert second["contenders"]["eager"]["details"] == "threads 2"
    rows = tables.read_csv(measured.with_suffix(".csv"))
    assert [(row["network"], row["contender"]) for row in rows] == [
        ("litehrnet_18", "ours"),
        ("litehrnet_18", "eager"),
        ("litehrnet_18", "hrnet_w32/eager"),
        ("litehrnet_30", "ours"),
        ("litehrnet_30", "eager"),
    ]
    assert float(rows[1]["ratio"]) == first["contenders"]["eager"]["ratio"]


def test_an_interruption_keeps_complete_cases(
    fakes: dict[str, Contender], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare = forward.compare

    def stops(entries: Any, images: Tensor, *others: Any, **options: Any) -> Any:
        if len(images) == 8:
            raise KeyboardInterrupt
        return compare(entries, images, *others, **options)

    monkeypatch.setattr(forward, "compare", stops)
    path, interrupted = forward.measure("growth", CASES, SHORT, tmp_path, CPU, fakes)
    assert interrupted
    assert len(json.loads(path.read_text(encoding="utf-8"))["cases"]) == 1


def test_names_of_machines() -> None:
    machine = {"cpu": "Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz", "instruction_sets": ["avx", "avx2"], "cores": 4}
    assert results.machine_name({**machine, "gpus": []}, "cpu") == "intel-xeon-e5-2680-v4-avx2-4-cores"
    assert results.machine_name({**machine, "gpus": ["NVIDIA A/B 9"]}, "cuda") == "nvidia-a-b-9"


# Training


def test_training_steps_are_served() -> None:
    case = {"network": "litehrnet_18", "height": 32, "width": 32, "batch": 2, "threads": torch.get_num_threads()}
    answers = io.StringIO()
    step_program.serve({**case, "backend": "reference"}, io.StringIO("\n\n"), answers)
    start, first, second, end = map(json.loads, answers.getvalue().splitlines())
    assert start["blocks"] == "plain PyTorch"
    assert first["loss"] != second["loss"]  # Adam moved the weights
    assert start["before_mb"] is None or end["peak_mb"] >= start["before_mb"] > 0


def test_peak_of_memory_is_read(tmp_path: Path) -> None:
    path = tmp_path / "status"
    path.write_text("Name:\tpython\nVmHWM:\t  2000 kB\nVmRSS:\t 1000 kB\n")
    assert step_program.peak_megabytes(path=path) == 2.048
    assert step_program.peak_megabytes(path=tmp_path / "none") is None


def test_training_in_turns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Processes that do nothing take turns; their answers become rows."""
    program = tmp_path / "step.py"
    program.write_text(
        "import json, sys\n"
        "case = json.loads(sys.argv[1])\n"
        "print(json.dumps({'blocks': case['backend'], 'before_mb': 100.0}), flush=True)\n"
        "for n, _ in enumerate(sys.stdin):\n"
        "    print(json.dumps({'loss': 2.0 if case['backend'] == 'reference' else 2.5}), flush=True)\n"
        "print(json.dumps({'peak_mb': 140.0}), flush=True)\n"
    )
    monkeypatch.setattr(training, "PROGRAM", program)
    monkeypatch.setattr(training, "SPINNING", 0.0)
    path, interrupted = training.measure([training.TrainingCase()], SHORT, tmp_path, CPU)
    assert not interrupted
    (case,) = json.loads(path.read_text(encoding="utf-8"))["cases"]
    assert case["rounds"] == 2
    assert {name: row["details"] for name, row in case["contenders"].items()} == {"ours": "auto", "eager": "reference"}
    assert {row["memory_mb"] for row in case["contenders"].values()} == {40.0}
    assert case["contenders"]["ours"]["loss_error"] == 0.25
    assert "PyTorch, eager (blocks: reference)" in report.training_tables(results.all_results("training", tmp_path))


def test_a_process_that_ends_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "step.py"
    program.write_text("import sys\nsys.exit(3)\n")
    monkeypatch.setattr(training, "PROGRAM", program)
    with pytest.raises(RuntimeError, match="the training process ended with status 3"):
        training.Worker(training.TrainingCase(), "auto", "cpu")


# Bounds


@pytest.mark.parametrize(
    ("ratios", "kept", "tries"), [([9.0], True, 1), ([1.0, 2.0, 6.0], True, 3), ([1.0, 2.0, 3.0], False, 3)]
)
def test_bounds(monkeypatch: pytest.MonkeyPatch, ratios: list[float], kept: bool, tries: int) -> None:
    monkeypatch.setattr(check, "_can_be_checked", lambda: None)
    left, said = list(ratios), []
    bound = check.Bound(Case("litehrnet_18", 256, 192), 5)
    assert check.check([bound], lambda bound: left.pop(0), said.append) is kept
    assert len(ratios) - len(left) == tries
    (line,) = said
    assert line.endswith("at least 5: ok" if kept else "at least 5: TOO SLOW")


def test_nothing_is_checked_without_plans(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from litehrnet_cuda.backends import use_backend

    with use_backend("reference"):
        assert command.main(["check"]) == 2
    assert capsys.readouterr().err.startswith("benchmarks: nothing to check: ")


@pytest.mark.slow
def test_networks_are_as_many_times_faster_as_they_have_to_be() -> None:
    try:
        assert check.check()
    except check.NothingToCheck as reason:
        pytest.skip(str(reason))


# Tables and plots


def test_committed_tables_are_those_of_the_results() -> None:
    for path, text in report.texts().items():
        assert path.read_text(encoding="utf-8") == text, "run `python -m benchmarks networks report`"


def test_committed_plots_are_of_the_results() -> None:
    image = pytest.importorskip("PIL.Image")
    for path, kind in report.PLOTS.items():
        documents = results.all_results(kind)
        if documents:
            assert image.open(path).text["Source"] == report.digest(documents[0]), "run `... networks report`"
        else:
            assert not path.exists()


def test_tables_of_results(measured: Path) -> None:
    documents = results.all_results("inference", measured.parents[1])
    ours, eager = (documents[0]["cases"][0]["contenders"][name] for name in ("ours", "eager"))
    ours["median_ms"], eager["median_ms"], eager["ratio"] = 4.0, 61.0, 15.04
    text = report.headline(documents)
    assert text.startswith("![")
    head, _, row, other, empty, below, *_ = text.splitlines()[2:]
    assert head == "| ms, one image of 192x256 | threads | ours | PyTorch, eager |"
    assert row == "| `litehrnet_18` | 1 | **4.00** | 61.0 (15.0) |"
    assert other.startswith("| HRNet-W32 | 1 |  | ")
    assert not empty
    assert below.startswith("Medians of 2 to 2 rounds in turns;")
    text = report.inference_tables(documents)
    assert "| `litehrnet_18` | 192x256 | 1 | 1 | float32 | **4.00** | 61.0 (15.0) |" in text
    assert "| `litehrnet_30` | 192x256 | 8 | 2 | float32 |" in text
    assert "| HRNet-W32, PyTorch, eager | 192x256 | 1 | 1 | float32 |" in text
    assert "- ONNX Runtime: not installed" in text
    eager["median_ms"] = 0.5
    assert "| 192x256 | 8 | " in report.growth_tables(documents)
    assert report.headline([]) == report.growth_tables([]) == report.training_tables([]) == report.NOTHING


def test_times_of_a_batch_are_shared_by_its_images() -> None:
    case = {"case": {"batch": 8}, "contenders": {"ours": {"median_ms": 40.0, "ratio": 1.0}}}
    assert report.per_image(case, "ours") == {"median_ms": 5.0, "ratio": 1.0}
    assert report.per_image(case, "eager") is None


def test_milliseconds_have_three_digits() -> None:
    assert [report.milliseconds(value) for value in (0.123, 9.994, 9.996, 99.94, 99.96, 1234.5)] == [
        *("0.12", "9.99", "10.0", "99.9", "100", "1,234")
    ]


@pytest.mark.parametrize("plot", [plots.plot_times, plots.plot_growth])
def test_plots_carry_their_source(measured: Path, tmp_path: Path, plot: Any) -> None:
    image = pytest.importorskip("PIL.Image")
    document = json.loads(measured.read_text(encoding="utf-8"))
    path = tmp_path / "docs" / "plot.png"
    plot(document, path, {"Source": report.digest(document)})
    opened = image.open(path)
    assert opened.text["Source"] == report.digest(document)
    assert opened.convert("RGBA").getpixel((0, 0)) == (0xFB, 0xFB, 0xFA, 255)  # a ground of its own, not transparent
    document["cases"][0]["rounds"] += 1
    assert opened.text["Source"] != report.digest(document)


def test_report_writes_readmes_and_plots(measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("<!-- speed -->\nold\n<!-- /speed -->\n", encoding="utf-8")
    monkeypatch.setattr(report, "SECTIONS", {readme: {"speed": ("inference", report.headline)}})
    monkeypatch.setattr(report, "PLOTS", {tmp_path / "a.png": "inference", tmp_path / "b.png": "growth"})
    assert report.write(measured.parents[1]) == [readme, tmp_path / "a.png"]
    assert "| `litehrnet_18` | 1 |" in readme.read_text(encoding="utf-8")
    assert (tmp_path / "a.png").is_file()
    assert not (tmp_path / "b.png").exists()


# The command line


def program(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "80", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(ROOT / "benchmarks"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_help_fits_a_screen() -> None:
    done = program("networks", "--help")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) <= 50
    assert all(f"  {word} " in done.stdout for word in command.WORDS)


def test_cases_are_listed() -> None:
    done = program("networks", "inference", "--list", "--device", "cpu", "--threads", "1", "--contender", "ours")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "inference: litehrnet_18 217x333, batch 1, 1 thread, float32: ours" in lines
    assert not any("2 threads" in line for line in lines)


def test_bad_words_and_devices_are_refused() -> None:
    done = program("networks", "speed")
    assert done.returncode == 2
    assert "invalid choice: 'speed'" in done.stderr
    done = program("networks", "inference", "--device", "tpu")
    assert done.returncode == 2
    assert done.stderr.startswith("benchmarks: device: expected one that can be used here")


@pytest.mark.parametrize(("interrupted", "status"), [(False, 0), (True, command.INTERRUPTED)])
def test_words_choose_what_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, interrupted: bool, status: int
) -> None:
    asked: list[Any] = []

    def measure(kind: str, found: Any, effort: Effort, folder: Path, device: torch.device) -> tuple[Path, bool]:
        asked.append((kind, [case.name for case in found], effort.seconds, folder, device.type))
        return tmp_path / f"{kind}.json", interrupted

    def train(found: Any, effort: Effort, folder: Path, device: torch.device) -> tuple[Path, bool]:
        return measure("training", found, effort, folder, device)

    monkeypatch.setattr(forward, "measure", measure)
    monkeypatch.setattr(training, "measure", train)
    assert command.main(["all", "--quick", "--device", "cpu", "--out", str(tmp_path)]) == status
    assert [kind for kind, *_ in asked] == (["inference"] if interrupted else ["inference", "growth", "training"])
    assert asked[0] == ("inference", ["litehrnet_18 192x256, batch 1, 1 thread, float32"], 1.0, tmp_path, "cpu")
