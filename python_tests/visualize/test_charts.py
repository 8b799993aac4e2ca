"""Curves and bars."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from pixel_colors import colored, has

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.visualize import (
    plot_joint_errors,
    plot_training_curve,
)


def test_training_curve_has_a_panel_for_each_figure(tmp_path: Path) -> None:
    losses = [{"step": i, "loss": 1.0 / (i + 1)} for i in range(30)]
    scores = [{"step": 15, "PCKh@0.5": 0.4}, {"step": 29, "PCKh@0.5": 0.7}]
    rates = [{"step": i, "learning_rate": 0.1 * i} for i in range(30)]
    blue, orange, green = (178, 114, 0), (0, 94, 213), (115, 158, 0)
    heights = []
    for name, history, drawn in (
        ("loss", losses, {blue}),
        ("score", scores, {orange}),
        ("both", losses + scores, {blue, orange}),
        ("all", losses + scores + rates, {blue, orange, green}),
        ("rows", [a | b for a, b in zip(losses, rates, strict=True)], {blue, green}),
    ):
        path = plot_training_curve(history, tmp_path / f"{name}.png", "PCKh@0.5")
        assert {color for color in (blue, orange, green) if colored(path, *color) > 100} == drawn, name
        heights.append(cv2.imread(str(path)).shape[0])
    assert heights[0] == heights[1] < heights[2] == heights[4] < heights[3]


def test_training_curve_of_nothing_is_said(tmp_path: Path) -> None:
    for history in ([{"epoch": 1}], [{"loss": 1.0}], [{"step": 1, "PCK": 0.5}], []):
        with pytest.raises(InputError, match=f"history: expected rows with 'step' .* got {len(history)} rows without"):
            plot_training_curve(history, tmp_path / "none.png")


def test_joint_errors_are_bars_as_long_as_they_are(tmp_path: Path) -> None:
    errors = [np.full(9, 4.0), np.array([1.0] * 9 + [8.0] * 2), np.empty(0)]
    path = plot_joint_errors(("nose", "left_eye", "tail"), errors, tmp_path / "errors.png", heading="three")
    picture = cv2.imread(str(path))
    blue = has(picture, (178, 114, 0))
    rows = np.flatnonzero(blue.sum(axis=1) > 20)
    bars = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
    legend = bars.pop()  # below the chart
    assert len(bars) == 2
    assert legend[0] > bars[-1][-1]
    first, second = (blue[bar[len(bar) // 2]].sum() for bar in bars)
    assert first / second == pytest.approx(4, rel=0.05)  # medians 4 and 1; an edge is a pixel or two
    for names, message in (((), "expected some"), (("a", "b"), "expected 2, one array per name, got 3")):
        with pytest.raises(InputError, match=f"errors: {message}"):
            plot_joint_errors(names, errors, path)


def test_import_does_not_load_matplotlib() -> None:
    code = "import sys, litehrnet_cuda.visualize; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
