"""Curves and bars, by matplotlib, which is imported when it is used."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.visualize.canvas import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BLUE, _ORANGE, _GREEN = "#0072b2", "#d55e00", "#009e73"  # Okabe and Ito's


def plot_training_curve(
    history: Sequence[Mapping[str, float]], path: str | os.PathLike[str], score: str = "AP"
) -> Path:
    """Writes a picture of the loss, the score and the learning rate over the steps of a training run.

    Args:
        history: rows such as ``{"step": 100, "loss": 0.8}``; some may carry the score (0 to 1) or ``"learning_rate"``,
            with or without a loss. What no row has is not drawn.
        path: of the picture; its ending (``.png``, ``.svg``, ``.pdf``) tells the format.
        score: the key of the score in the rows, such as ``"AP"`` or ``"PCKh@0.5"``, which is also its label.

    Raises:
        InputError: when no row holds a step and any of these.
    """
    curves = {
        name: np.array([(row["step"], row[name]) for row in history if "step" in row and name in row])
        for name in ("loss", score, "learning_rate")
    }
    curves = {name: points for name, points in curves.items() if len(points)}
    if not curves:
        raise InputError(
            f"history: expected rows with 'step' and 'loss', {score!r} or 'learning_rate', got {len(history)} rows "
            f"without them"
        )
    figure = _figure(8, 1.2 + 2.4 * len(curves))
    panels = figure.subplots(len(curves), sharex=True, squeeze=False)[:, 0]
    for axes, (name, points) in zip(panels, curves.items(), strict=True):
        _plain_axes(axes)
        axes.set_ylabel(name.replace("_", " "))
        if name == "loss":
            smooth = _running_mean(points[:, 1], max(1, len(points) // 25))
            axes.plot(points[:, 0], points[:, 1], color=_BLUE, alpha=0.25, linewidth=1)
            axes.plot(points[:, 0], smooth, color=_BLUE, linewidth=2)
            if (points[:, 1] > 0).all():
                axes.set_yscale("log")
        elif name == score:
            axes.plot(points[:, 0], points[:, 1], color=_ORANGE, marker="o", markersize=4, linewidth=2)
            axes.set_ylim(0, 1)
            best, last = points[points[:, 1].argmax()], points[-1]
            axes.plot(*best, color=_ORANGE, marker="o", markersize=8)
            text = f"best {best[1]:.3f} at step {best[0]:.0f}, last {last[1]:.3f}"
            axes.set_title(text, fontsize=9, loc="right", color=_ORANGE)
        else:
            axes.plot(points[:, 0], points[:, 1], color=_GREEN, linewidth=2)
            axes.set_ylim(bottom=0)
    panels[-1].set_xlabel("step")
    panels[-1].xaxis.get_major_locator().set_params(integer=True)
    figure.align_ylabels(panels)
    figure.savefig(path)
    return Path(path)


def plot_joint_errors(
    names: Sequence[str],
    errors: Sequence[Array],
    path: str | os.PathLike[str],
    *,
    unit: str = "pixels",
    heading: str = "",
) -> Path:
    """Writes a chart of how far each joint is from the truth: a bar to the median, a line to the 90th percentile.

    Args:
        names: of the K joints.
        errors: K arrays of distances; one may be empty, and has no bar.
        path: of the picture; its ending tells the format.
        unit: of the distances.
        heading: above the chart.

    Raises:
        InputError: when the numbers of names and of arrays differ, or there are none.
    """
    if not names or len(names) != len(errors):
        raise InputError(f"errors: expected {len(names) or 'some'}, one array per name, got {len(errors)}")
    figure = _figure(8, 1.4 + 0.27 * len(names))
    axes = figure.add_subplot()
    _plain_axes(axes)
    axes.grid(visible=False, axis="y")
    middle, most = (
        np.array([np.percentile(error, percent) if len(error) else 0.0 for error in errors]) for percent in (50, 90)
    )
    rows = np.arange(len(names))
    axes.hlines(rows, middle, most, color=_ORANGE, linewidth=2, label="90th percentile")
    axes.plot(most, rows, "|", color=_ORANGE, markersize=8)
    axes.barh(rows, middle, color=_BLUE, height=0.65, label="median")
    for row, error in enumerate(errors):
        text = f"{middle[row]:.1f} – {most[row]:.1f}" if len(error) else "not annotated"
        axes.annotate(text, (most[row], row), (6, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(rows, [name.replace("_", " ") for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)  # the first joint on top
    axes.set_xlim(0, 1.15 * max(float(most.max()), 1e-3))  # with room for the last numbers
    axes.set_xlabel(f"distance from the truth, {unit}")
    figure.legend(loc="outside lower right", ncols=2, frameon=False)
    if heading:
        axes.set_title(heading, fontsize=10, loc="left")
    figure.savefig(path)
    return Path(path)


def _figure(width: float, height: float) -> Figure:
    """A figure of its own with the Agg canvas: the caller's matplotlib backend and state are not touched."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _plain_axes(axes: Any) -> None:
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _running_mean(values: Array, window: int) -> Array:
    """Mean of the last ``window`` values at every place (of fewer at the start)."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return np.asarray((sums[ends] - sums[starts]) / (ends - starts))
