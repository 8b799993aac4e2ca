from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from litehrnet_cuda.benchmarking.comparison import Comparison, Entry, Preparation, compare, relative_error
from litehrnet_cuda.benchmarking.contenders import Contender, Prepared
from litehrnet_cuda.benchmarking.runtimes import Unavailable
from litehrnet_cuda.benchmarking.timing import Effort, Rounds

IMAGES = torch.randn(2, 3, 8, 8)
SHORT = Effort(warm_up=1, least_rounds=2, seconds=0)


def contender(name: str, factor: float = 1.0, reason: str = "") -> Contender:
    """One that multiplies what the network computes."""

    def prepare(network: nn.Module, images: Tensor, threads: int) -> Prepared:
        if reason:
            raise Unavailable(reason)

        def call(images: Tensor) -> Any:
            assert torch.is_inference_mode_enabled()
            return factor * network(images)

        return Prepared(call, f"{threads} threads")

    return Contender(name, name, prepare)


def test_entries_are_checked_and_timed() -> None:
    entries = {
        "exact": Entry(contender("a"), nn.Identity()),
        "near": Entry(contender("b", 1.25), nn.Identity()),
        "other": Entry(contender("c"), nn.Tanh()),
        "wrong": Entry(contender("d", 3), nn.Identity()),
        "broken": Entry(contender("e", math.nan), nn.Identity()),
        "absent": Entry(contender("f", reason="not installed"), nn.Identity()),
    }
    said: list[str] = []
    before = torch.get_num_threads()
    try:
        done = compare(entries, IMAGES, 1, SHORT, said.append)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    assert list(done.prepared) == list(done.rounds.seconds) == ["exact", "near", "other"]
    assert [done.prepared[name].error for name in done.prepared] == [0, pytest.approx(0.25), 0]
    assert done.prepared["exact"].details == "1 threads"
    assert done.missing["absent"] == "not installed"
    assert done.missing["wrong"] == "its output differs from PyTorch's by 2 of the largest value"
    assert "by nan" in done.missing["broken"]
    assert len(done.rounds) == 2
    assert said == [*(f"preparing {name}" for name in entries), "round 1", "round 2"]


def test_a_row_has_times_ratios_and_what_was_known_before() -> None:
    rounds = Rounds({"ours": [1e-3, 2e-3, 3e-3], "other": [3e-3, 4.00004e-3, 12e-3]})
    prepared = {"ours": Preparation(0.5, 0.0, "planned"), "other": Preparation(12.345, 1.234e-6, "")}
    done = Comparison(rounds, prepared, {})
    row = done.row("other", to="ours")
    assert (row["median_ms"], row["ratio"], row["ratio_p20"], row["ratio_p80"]) == (4.0, 3.0, 2.4, 3.6)
    assert (row["error"], row["setup_s"], row["details"]) == (1.2e-6, 12.0, "")
    assert json.loads(json.dumps(row)) == row
    assert done.row("ours", to="ours")["ratio"] == 1
    assert done.row("ours", to="missing")["ratio"] is None


def test_errors_are_relative_to_the_largest_value() -> None:
    expected = torch.tensor([1.0, -8.0])
    assert relative_error(torch.tensor([2.0, -8.0], dtype=torch.float16), expected) == 0.125
    assert math.isnan(relative_error(torch.tensor([math.nan, 0]), expected))
    assert relative_error(torch.zeros(3), expected) == math.inf
    assert relative_error(torch.zeros(2), torch.zeros(2)) == 0
