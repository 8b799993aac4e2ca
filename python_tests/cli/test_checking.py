"""What is told of any data that are checked."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from litehrnet_cuda.cli.checking import print_problems, progress_on, verdict
from litehrnet_cuda.data.annotations import Problem


def report(errors: int, warnings: int) -> Any:
    problems = [Problem("an error", f"error {i}") for i in range(errors)]
    problems += [Problem("a warning", f"warning {i}", is_error=False) for i in range(warnings)]
    return SimpleNamespace(problems=problems, errors=errors)


@pytest.mark.parametrize(
    ("reports", "line", "status"),
    [
        ([report(0, 0)], "no errors, no warnings", 0),
        ([report(0, 1), report(0, 0)], "no errors, 1 warning", 0),
        ([report(1, 2), report(1, 0)], "2 errors, 2 warnings", 1),
    ],
)
def test_the_verdict_is_of_all_parts(
    reports: list[Any], line: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verdict(reports) == status
    assert capsys.readouterr().out == f"{line}\n"


def test_problems_of_a_kind_stand_together(capsys: pytest.CaptureFixture[str]) -> None:
    print_problems(report(3, 1), 2)
    assert capsys.readouterr().out.splitlines() == [
        "  error: an error (3)",
        "    error 0",
        "    error 1",
        "    ... and 1 more",
        "  warning: a warning (1)",
        "    warning 0",
    ]


def test_each_part_has_a_bar_of_its_own() -> None:
    calls: list[tuple[Any, ...]] = []
    bar = SimpleNamespace(
        reset=lambda count: calls.append(("reset", count)),
        set_description=lambda text: calls.append(("says", text)),
        update=lambda: calls.append(("update",)),
    )
    progress = progress_on(bar)
    progress("train", 2)
    progress("train", 0)
    assert calls == [("reset", 2), ("says", "check train"), ("update",)]
