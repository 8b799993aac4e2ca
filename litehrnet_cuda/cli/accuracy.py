"""Figures of evaluations as lines of text, each of which says which boxes they were measured with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from litehrnet_cuda.codecs.heatmap import Decoder
    from litehrnet_cuda.engine.evaluate import Evaluation


def accuracy_lines(evaluation: Evaluation, boxes: str) -> list[str]:
    """All figures of an evaluation.

    Args:
        evaluation: what to tell.
        boxes: in words, such as ``"annotated boxes"``.
    """
    if evaluation.metric == "coco":
        return [f"{name:8} {_figure(value):>8}  {boxes}" for name, value in evaluation.metrics.items()]
    # PCK@0.2, AUC, EPE, then PCK@0.2 nose, EPE nose, ...: a row per joint, a column per figure.
    table: dict[str, dict[str, float]] = {}
    for key, value in evaluation.metrics.items():
        figure, _, subject = key.partition(" ")
        table.setdefault(subject or "all", {})[figure] = value
    return _table("", table, list(table["all"]), boxes)


def decoder_lines(evaluations: Mapping[Decoder, Evaluation], boxes: str) -> list[str]:
    """The most telling figures, decoder by decoder.

    Args:
        evaluations: by decoder, all of one metric.
        boxes: in words, such as ``"annotated boxes"``.
    """
    first = next(iter(evaluations.values()))
    names = list(first.metrics)
    chosen = names[:6] if first.metric == "coco" else [name for name in names if " " not in name]
    return _table("decoder", {name: evaluation.metrics for name, evaluation in evaluations.items()}, chosen, boxes)


def _table(corner: str, rows: Mapping[str, Mapping[str, float]], columns: Sequence[str], boxes: str) -> list[str]:
    first = max(len(name) for name in (corner, *rows))
    widths = [max(len(column), 7) for column in columns]
    head = [f"{corner:{first}}", *(f"{column:>{width}}" for column, width in zip(columns, widths, strict=True))]
    lines = ["  ".join([*head, "in"])]
    for name, row in rows.items():
        cells = [
            f"{_figure(row[column], column) if column in row else '':>{width}}"
            for column, width in zip(columns, widths, strict=True)
        ]
        lines.append("  ".join([f"{name:{first}}", *cells, boxes]))
    return lines


def _figure(value: float, name: str = "") -> str:
    if value < 0:
        return "none"  # is annotated
    return f"{value:.2f}" if name == "EPE" else f"{value:.4f}"  # pixels, or a share
