"""The benchmarks as far as a CPU can tell: their cases, arithmetic, tables and command line; no time is taken."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))  # behind an installed package

from benchmarks import cases, emulated, gpus, prediction, runner, tables  # noqa: E402
from benchmarks.ops import benchmarks  # noqa: E402
from litehrnet_cuda import functional  # noqa: E402
from litehrnet_cuda.plan.gpus import Gpu  # noqa: E402

BENCHMARKS = benchmarks()
SMALL = cases.Case(cases.STAGES["stage2"], 1, torch.float32)
NAMES = pytest.mark.parametrize("name", BENCHMARKS)


def program(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "80", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(ROOT / "benchmarks"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_every_public_op_has_a_benchmark_under_its_name() -> None:
    of_cpus = {"separable_conv_batch_norm", "weighted_sum"}  # which are timed in whole training steps
    assert sorted(BENCHMARKS) == sorted(set(functional.__all__) - of_cpus)
    assert {path.name for path in (ROOT / "benchmarks/ops").glob("bench_*.py")} == {f"bench_{n}.py" for n in BENCHMARKS}


@NAMES
def test_arguments_have_the_dtypes_of_a_case_and_are_the_same_each_time(name: str) -> None:
    benchmark = BENCHMARKS[name]
    assert set(benchmark.modes) <= set(cases.MODES)
    dtype = benchmark.dtypes[-1]
    case = cases.Case(cases.STAGES["stage3"], 2, dtype)
    args = benchmark.inputs(case)
    assert {t.dtype for t in cases.tensors(args[0])} == {dtype}
    expected = torch.float32 if benchmark.fp32_parameters else dtype
    assert {t.dtype for t in cases.tensors(args[1:]) if t.is_floating_point()} == {expected}
    for a, b in zip(cases.tensors(args), cases.tensors(benchmark.inputs(case)), strict=True):
        assert torch.equal(a, b)


def test_stages_are_those_of_the_networks() -> None:
    from litehrnet_cuda.models.litehrnet import VARIANTS

    stage = cases.STAGES["stage4"]
    assert stage.channels == VARIANTS["litehrnet_18"].channels
    assert stage.hidden == 37
    assert stage.gate_hidden == [5, 10, 20, 40]


def test_compulsory_bytes_count_each_element_once() -> None:
    # depthwise_conv on stage2: maps of 20 channels of 64x48 and 40 of 32x24, nine weights and a bias for each channel.
    call, size = runner.call_of(
        BENCHMARKS["depthwise_conv"].reference, BENCHMARKS["depthwise_conv"].inputs(SMALL), "forward"
    )
    maps = 20 * 64 * 48 + 40 * 32 * 24
    assert size == (2 * maps + 10 * 60) * 4
    assert SMALL.map_bytes == maps * 4
    assert cases.bytes_of(call()) == maps * 4


def test_bytes_of_a_backward_pass() -> None:
    x, weight, unused = torch.randn(3, 4), torch.randn(4), torch.randn(7)

    def function(x: torch.Tensor, weight: list[torch.Tensor], unused: torch.Tensor, flag: bool) -> torch.Tensor:
        return x * weight[0]

    call, size = runner.call_of(function, [x, [weight], unused, True], "backward")
    # Gradient of the result, all arguments, and the two gradients; what has none is no result.
    assert size == (12 + (12 + 4 + 7) + (12 + 4)) * 4
    assert [g.shape for g in call()] == [x.shape, weight.shape]
    full, more = runner.call_of(function, [x, [weight], unused, True], "full")
    assert more == size + (12 + 4 + 7 + 12) * 4
    assert len(full()) == 2


def test_row_of_a_fake_timer() -> None:
    calls = []

    def timer(call: runner.Call) -> runner.Timing:
        calls.append(call())
        return runner.Timing(1e-3, 0.9e-3, 1.2e-3, None, 5e-6)

    benchmark = BENCHMARKS["spatial_weighting"]
    row = runner.measure(benchmark, SMALL, "forward", "reference", timer, "cpu", 2.0)
    assert len(calls) == 1
    assert (row["median_us"], row["p20_us"], row["p80_us"], row["graph_us"]) == ("1000.00", "900.00", "1200.00", "")
    assert row["case"] == "stage2_b1_float32"
    rate = int(str(row["compulsory_bytes"])) / 1e-3 / 1e9
    assert row["gb_per_s"] == f"{rate:.1f}"
    assert row["percent_of_peak"] == f"{50 * rate:.1f}"
    assert runner.measure(benchmark, SMALL, "forward", "reference", timer, "cpu", None)["percent_of_peak"] == ""


def test_combinations_are_those_that_an_op_has() -> None:
    benchmark = BENCHMARKS["cross_resolution_weighting"]
    found = list(runner.combinations(benchmark, [SMALL], cases.MODES, ["ours", "reference"]))
    assert found == [(SMALL, "forward", "ours"), (SMALL, "forward", "reference")]


def test_triton_has_rows_where_it_has_the_op() -> None:
    found = {
        name
        for name, benchmark in BENCHMARKS.items()
        for _, _, provider in runner.combinations(benchmark, [SMALL], ["forward"], runner.PROVIDERS)
        if provider == "triton"
    }
    assert found == {"conditional_channel_weighting", "cross_resolution_weighting"}


def test_triton_is_left_out_where_it_cannot_run_unless_it_is_asked_for() -> None:
    options = ("--dry-run", "--op", "cross_resolution_weighting", "--stage", "stage2", "--batch", "1")
    asked_for = program(*options, "--provider", "triton")
    assert (asked_for.returncode, asked_for.stdout) == (2, "")
    assert asked_for.stderr.startswith("benchmarks: Triton's kernels cannot run here: torch ")


def test_run_writes_rows_and_goes_on_after_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_arguments: object) -> None:
        raise RuntimeError("no such kernel\nand a long trace")

    class Timer:
        stream = None

        def __call__(self, call: runner.Call) -> runner.Timing:
            call()
            return runner.Timing(1e-3, 1e-3, 1e-3, 1e-4, 1e-5)

    here = {"gpu": "NVIDIA A/B 9", "driver": "1", "torch": "2", "cuda": "13", "commit": "abc", "peak_gb_per_s": "100"}
    monkeypatch.setattr(runner, "machine", lambda: here)
    monkeypatch.setattr(runner, "CudaTimer", Timer)
    monkeypatch.setattr(torch.cuda, "stream", lambda _stream: torch.no_grad())
    measure = runner.measure
    monkeypatch.setattr(runner, "measure", lambda *args: measure(*args[:5], "cpu", args[6]))
    good = BENCHMARKS["depthwise_conv"]
    bad = cases.Benchmark("bad", fails, good.reference, good.arguments)
    assert runner.run([bad, good], [SMALL], ["forward"], ["ours", "reference"], tmp_path) >= 1
    out = capsys.readouterr().out
    assert re.search(r"bad +stage2_b1_float32 +forward +ours +FAILED: no such kernel\n", out)
    rows = tables.read_csv(tmp_path / "nvidia_a_b_9" / "depthwise_conv.csv")
    assert rows[-1]["provider"] == "reference"
    assert rows[-1]["commit"] == "abc"
    text = tables.measured_tables(tmp_path)
    assert "### depthwise_conv, NVIDIA A/B 9 (driver 1, torch 2, commit abc)" in text
    assert "| stage2_b1_float32 | reference | forward | 1000.00 | 1000.00 - 1000.00 | 100.00 | 10.00 |" in text


def test_peak_bandwidth() -> None:
    # An A100 with 40 GB: 1215 MHz, 5120 bits.
    a100 = SimpleNamespace(memory_clock_rate=1_215_000, memory_bus_width=5120)
    assert gpus.peak_gigabytes_per_second(a100) == pytest.approx(1555.2)
    assert gpus.peak_gigabytes_per_second(SimpleNamespace()) is None


def test_quantiles() -> None:
    samples = [float(i) for i in range(100, 0, -1)]
    assert [runner.quantile(samples, share) for share in (0.2, 0.5, 0.8, 1.0)] == [21, 51, 81, 100]


def test_prediction() -> None:
    gpu = Gpu("test", "8.0", "8.0", 100, 1000, teraflops=10, l2_megabytes=10, gigahertz=1)
    one = prediction.LaunchCounts(blocks=200, boundary_bytes=850_000, sector_bytes=4_000_000)
    # 1 and 10 us at these rates, and the launch itself.
    assert prediction.predict([one], gpu) == pytest.approx((3e-6, 15e-6))
    # Half of the multiprocessors idle, in the worst case without what they would have fetched.
    few = one._replace(blocks=50)
    assert prediction.predict([one, few], gpu) == pytest.approx((6e-6, 40e-6))
    assert str(prediction.Range(3.21e-6, 41.7e-6)) == "3.2 - 42"


def test_tables_of_a_small_file(tmp_path: Path) -> None:
    row: dict[str, object] = {"op": "op", "mode": "forward", "stage": "stage4", "batch": 1, "dtype": "float16"}
    row |= {"kernel": "depthwise_conv_forward_kernel<half>"}
    row |= {"op_read": 60_000, "op_written": 40_000, "threads": 64, "shared_bytes": 16}
    first = {"launch": 1, "blocks": 7, "boundary_read": 60_000, "boundary_written": 10_000, "sector_read": 90_000}
    second = {"launch": 2, "blocks": 9, "boundary_read": 10_000, "boundary_written": 40_000, "sector_read": 70_000}
    last = {"sector_written": 20_000, "touched_read": 40_000, "touched_written": 26_000}
    tables.write_csv(tmp_path / "op.csv", [{**row, **part, **last} for part in (first, second)])
    text = tables.emulated_tables(tmp_path)
    assert "| forward stage4 b1 float16 | 2 | 100 | 120 (1.20) | 132 (1.10) | 200 (2.00) | 7 |" in text
    # The first launch of a kernel; a T4's multiprocessor has 32 warps, and room for 16 blocks.
    found = re.search(r"\| depthwise_conv_forward_kernel<half> \| 7 \| 64 \| 16 \| (\d+), (\d+)% \|", text)
    assert found is not None
    machine_code = json.loads((ROOT / "python_tests/cuda/machine_code.json").read_text(encoding="utf-8"))
    registers = machine_code["kernels"]["depthwise_conv_forward_kernel<half>"]["7.5"]["registers"]
    assert int(found[1]) == registers
    assert 0 < int(found[2]) <= 100
    row["kernel"] = "new_kernel"
    tables.write_csv(tmp_path / "op.csv", [{**row, **first, **last}])
    assert "| new_kernel | 7 | 64 | 16 |  |" in tables.emulated_tables(tmp_path)


def test_sections_are_replaced_and_found_missing() -> None:
    text = "a\n<!-- x -->\nold\n<!-- /x -->\nb\n"
    new = tables.with_tables(text, {"x": "new"})
    assert new == "a\n<!-- x -->\n\nnew\n\n<!-- /x -->\nb\n"
    assert tables.with_tables(new, {"x": "new"}) == new
    with pytest.raises(ValueError, match="expected <!-- y --> and after it <!-- /y -->"):
        tables.with_tables(text, {"y": ""})


def test_readme_has_the_tables_of_the_csv_files() -> None:
    text = tables.README.read_text(encoding="utf-8")
    sections = {name: table() for name, table in tables.SECTIONS.items()}
    assert tables.with_tables(text, sections) == text, "run `python -m benchmarks --tables`"
    assert "Nothing in this section was measured on a GPU" in text


@NAMES
def test_counts_are_there_for_every_op_and_make_sense(name: str) -> None:
    path = tables.EMULATED / f"{name}.csv"
    assert path.is_file(), f"run `python -m benchmarks --emulated --op {name}`"
    rows = tables.read_csv(path)
    for _, launches in groupby(rows, key=tables.case_of):
        of_case = list(launches)
        assert [int(row["launch"]) for row in of_case] == list(range(1, len(of_case) + 1))
        for row in of_case:
            assert int(row["sector_read"]) >= int(row["touched_read"]), row
            assert int(row["sector_written"]) >= int(row["touched_written"]), row
            if row["boundary_read"]:
                # Nothing that has to be read or written can be touched less than once.
                assert int(row["touched_read"]) >= int(row["boundary_read"]), row
                assert int(row["touched_written"]) >= int(row["boundary_written"]), row


def test_counts_are_those_of_the_kernels() -> None:
    """What is committed was counted on the kernels as they are, in the smallest case of each op."""
    script = (
        "import sys, json; sys.path.append(sys.argv[1])\n"
        "from benchmarks import cases, emulated\n"
        "from benchmarks.ops import benchmarks\n"
        "case = cases.cases(['stage2'], [1], ['float16'])[0]\n"
        "library = emulated.load_emulator()\n"
        "print(json.dumps([row for op in benchmarks().values() for row in emulated.rows(library, op, case)]))\n"
    )
    # A process can load the emulated ops once, and here it is the build that counts.
    result = subprocess.run(
        [sys.executable, "-c", script, str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT / "build_support",
    )
    if "needs the native library" in result.stderr:
        pytest.skip("needs the native library, which has the ops' schemas")
    assert result.returncode == 0, result.stderr
    committed = [
        row
        for name in BENCHMARKS
        for row in tables.read_csv(tables.EMULATED / f"{name}.csv")
        if (row["stage"], row["batch"], row["dtype"]) == ("stage2", "1", "float16")
    ]
    counted = [{key: str(value) for key, value in row.items()} for row in json.loads(result.stdout)]
    for now, then in zip(counted, committed, strict=True):
        assert now == then, f"run `python -m benchmarks --emulated --op {now['op']}`"


def test_launches_of_a_benchmark_must_be_all_that_are_seen() -> None:
    case = SMALL
    traffic = cases.Traffic(1, 1)
    with pytest.raises(ValueError, match="op, forward: expected 1 launches in its benchmark, got 2"):
        list(emulated._rows("op", "forward", case, traffic, [{}], [traffic, traffic]))


def test_help_fits_a_screen() -> None:
    result = program("--help")
    assert result.returncode == 0
    assert len(result.stdout.splitlines()) <= 40


def test_the_loader_is_told_stage_by_stage() -> None:
    run = program("loader", "--size", "48x64", "--people", "6")
    assert (run.returncode, run.stderr) == (0, "")
    lines = run.stdout.splitlines()
    assert re.fullmatch(r"\d+ people in 16 images, crops of 48x64 pixels", lines[0])
    shares = [int(line.split()[-1].rstrip("%")) for line in lines[1:5]]
    assert 97 <= sum(shares) <= 103  # rounded one by one
    for line, name in zip(lines[5:], ("from files", "from memory"), strict=True):
        assert re.fullmatch(rf"{name} +\d+ images/s in one worker, \d+ us each", line)


def test_without_a_gpu_nothing_is_timed() -> None:
    result = program("--op", "depthwise_conv")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("benchmarks: torch finds no CUDA device")
    assert len(result.stderr.splitlines()) == 1


def test_list_and_dry_run() -> None:
    options = ("--op", "depthwise_conv", "--stage", "stage2", "--batch", "1", "--dtype", "float32")
    listed = program("--list", *options).stdout.splitlines()
    assert [line.split() for line in listed] == [
        ["depthwise_conv", "stage2_b1_float32", "forward", provider] for provider in ("ours", "reference", "compiled")
    ]
    dry = program("--dry-run", *options, "--provider", "reference")
    assert dry.returncode == 0, dry.stderr
    assert dry.stdout.strip().endswith("reference, 739,680 compulsory bytes")


def test_unknown_ops_are_refused() -> None:
    result = program("--op", "softmax")
    assert result.returncode == 2
    assert "invalid choice: 'softmax'" in result.stderr
