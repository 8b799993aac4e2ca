"""What `litehrnet check-data` tells of any data, of people or of masks: how far it is, problems, and the verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from litehrnet_cuda.data.check import SplitReport
    from litehrnet_cuda.data.mask_check import MaskReport


def progress_on(bar: Any) -> Callable[[str, int], None]:
    """What checks call: with a part and the number of its images when it begins, with 0 after each image."""

    def progress(name: str, count: int) -> None:
        if count:
            bar.reset(count)
            bar.set_description(f"check {name}")
        else:
            bar.update()

    return progress


def print_problems(report: SplitReport | MaskReport, first: int) -> None:
    """The problems of one part, those of a kind together."""
    from litehrnet_cuda.data.check import by_kind

    for (kind, is_error), problems in by_kind(report.problems).items():
        print(f"  {'error' if is_error else 'warning'}: {kind} ({len(problems)})")
        for problem in problems[:first]:
            print(f"    {problem.message}")
        if len(problems) > first:
            print(f"    ... and {len(problems) - first} more")


def verdict(reports: Iterable[SplitReport | MaskReport]) -> int:
    """Prints how many errors and warnings there are in all, and returns the exit status."""
    found = list(reports)
    errors = sum(report.errors for report in found)
    warnings = sum(len(report.problems) for report in found) - errors
    print(f"{errors or 'no'} error{'s' * (errors != 1)}, {warnings or 'no'} warning{'s' * (warnings != 1)}")
    return 1 if errors else 0
