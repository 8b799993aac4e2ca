"""Which backends can run here, and for those that cannot, why."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Availability(NamedTuple):
    """Whether a backend can run on this machine, and one clause that says why or why not."""

    ok: bool
    reason: str


def can_run_reference() -> Availability:
    """The plain PyTorch definitions run wherever torch does."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return Availability(False, f"torch cannot be imported: {error}")
    return Availability(True, f"plain PyTorch {torch.__version__}, on every device that it supports")


_PREDICATES: dict[str, Callable[[], Availability]] = {"reference": can_run_reference}


def backends() -> dict[str, Availability]:
    """Every backend by name with its availability on this machine."""
    return {name: predicate() for name, predicate in _PREDICATES.items()}
