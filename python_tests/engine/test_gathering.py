"""Work that two processes share."""

from __future__ import annotations

from pathlib import Path

import gathering_cases
import pytest
from processes import run_together

from litehrnet_cuda.engine.gathering import gathered, joined_processes, rank, share_of_batches, world_size
from litehrnet_cuda.errors import InputError


def test_one_process_does_all() -> None:
    with joined_processes():  # torchrun did not start this one
        assert (rank(), world_size()) == (0, 1)
        assert share_of_batches(range(5), 2) == range(5)
        assert gathered(lambda: 7) == [7]
        with pytest.raises(InputError, match=r"^no$"):
            gathered(_refuse)


def _refuse() -> None:
    raise InputError("no")


def test_two_processes_share_and_exchange(tmp_path: Path) -> None:
    first, second = run_together(tmp_path, gathering_cases.exchange)
    assert (first["number"], second["number"]) == ((0, 2), (1, 2))
    # Whole batches in sequence; fewer batches than processes leave one without.
    assert first["shares"] == [[0, 1, 2], [0, 1, 2, 3], []]
    assert second["shares"] == [[3, 4, 5, 6], [4, 5, 6], [0, 1, 2, 3, 4, 5, 6]]
    assert first["found"] == second["found"] == [{"rank": 0}, {"rank": 1}]
    said = ["nothing", "InputError: no luck in 1"]
    assert first["errors"] == [*said, "InputError: no luck in 0", "RuntimeError: process 1 failed: 'no luck in 1'"]
    assert second["errors"] == [*said, "InputError: no luck in 1", "KeyError: 'no luck in 1'"]
