"""Figures of nothing, such as the AP of large people where there are none: -1, as COCO's tools have it."""

from __future__ import annotations

from collections.abc import Mapping


def with_nulls(figures: Mapping[str, float]) -> dict[str, float | None]:
    """Figures as files have them: None, which becomes JSON's null, for what there was nothing to measure in."""
    return {name: None if value < 0 else value for name, value in figures.items()}
