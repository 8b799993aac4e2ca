"""Plots of results, on a light ground of their own, which can be read on white and on dark pages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # draws without a screen

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from benchmarks.networks.report import HEADLINE, ORDER, milliseconds, per_image, title

GROUND, INK, FAINT = "#fbfbfa", "#1f2328", "#d5d8dc"
# Okabe and Ito's colours, which people with any colour vision tell apart.
COLOURS = {
    "ours": "#0072B2",
    "onnxruntime": "#E69F00",
    "openvino": "#009E73",
    "tensorrt": "#56B4E9",
    "compile": "#CC79A7",
    "eager": "#8a8f98",
}
MARKERS = {"ours": "o", "onnxruntime": "s", "openvino": "^", "tensorrt": "D", "compile": "v", "eager": "x"}
NETWORKS = {"litehrnet_18": "Lite-HRNet-18", "litehrnet_30": "Lite-HRNet-30"}


def plot_times(document: dict[str, Any], path: Path, metadata: Mapping[str, str]) -> None:
    """Bars of milliseconds for one image, and how many times longer than ours; a panel for each network."""
    cases = {
        case["case"]["network"]: case
        for case in document["cases"]
        if {**HEADLINE, "threads": 1}.items() <= case["case"].items() and case["case"]["network"] in NETWORKS
    }
    bars = [sum(name in case["contenders"] for name in ORDER) for case in cases.values()]
    figure = _figure(8, 0.9 + 0.3 * sum(bars) + 0.7 * len(bars))
    panels = figure.subplots(len(cases), 1, squeeze=False, height_ratios=bars) if cases else []
    for (network, case), (axes,) in zip(cases.items(), panels, strict=True):
        names = [name for name in ORDER if name in case["contenders"]]
        rows = [case["contenders"][name] for name in names]
        times = [row["median_ms"] for row in rows]
        axes.barh(range(len(names)), times, color=[COLOURS[name] for name in names], height=0.68)
        for y, (name, row) in enumerate(zip(names, rows, strict=True)):
            behind = "" if name == "ours" or row["ratio"] is None else f"   {row['ratio']:.1f}x"
            axes.text(
                row["median_ms"] + 0.012 * max(times),
                y,
                f"{milliseconds(row['median_ms'])} ms{behind}",
                va="center",
                color=INK,
                bbox={"facecolor": GROUND, "edgecolor": "none", "pad": 1.5},
                fontweight="bold" if name == "ours" else "normal",
            )
        axes.set_yticks(range(len(names)), [title(name) for name in names])
        axes.invert_yaxis()
        axes.set_xlim(0, 1.22 * max(times))
        axes.set_title(f"{NETWORKS[network]}, one image of 192x256, one thread", loc="left", fontsize=11, color=INK)
        _style(axes, grid="x")
    if cases:
        figure.axes[-1].set_xlabel("milliseconds, less is better", color=INK)
    _caption(figure, document)
    _save(figure, path, metadata)


def plot_growth(document: dict[str, Any], path: Path, metadata: Mapping[str, str]) -> None:
    """Milliseconds for each image against the number of images, and against their pixels, both axes logarithmic."""
    of_batch = [case for case in document["cases"] if (case["case"]["height"], case["case"]["width"]) == (256, 192)]
    of_size = sorted((case for case in document["cases"] if case["case"]["batch"] == 1), key=_pixels)
    figure = _figure(9, 4.2)
    left, right = figure.subplots(1, 2, sharey=False)
    for axes, cases, x in ((left, of_batch, _batch), (right, of_size, _pixels)):
        for name in ORDER:
            points = [(x(case), row["median_ms"]) for case in cases if (row := per_image(case, name)) is not None]
            if points:
                axes.plot(
                    *zip(*points, strict=True),
                    label=title(name),
                    color=COLOURS[name],
                    marker=MARKERS[name],
                    linewidth=2.4 if name == "ours" else 1.6,
                )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
        low, high = axes.get_ylim()
        axes.set_ylim(low / 1.5, high * 1.5)  # room, where times per image hardly differ
        _style(axes, grid="both")
    ticks = [_batch(case) for case in of_batch]
    left.set_xticks(ticks, [str(tick) for tick in ticks])
    left.set_xlabel("images of 192x256 at once", color=INK)
    left.set_ylabel("milliseconds per image", color=INK)
    sizes = [(_pixels(case), f"{case['case']['width']}x{case['case']['height']}") for case in of_size]
    right.set_xticks([pixels for pixels, _ in sizes], [text for _, text in sizes], rotation=35, ha="right")
    right.set_xlabel("size of one image", color=INK)
    for axes in (left, right):
        axes.xaxis.set_minor_locator(NullLocator())
    left.legend(frameon=False, labelcolor=INK)
    left.set_title("Lite-HRNet-18, one thread", loc="left", fontsize=11, color=INK)
    _caption(figure, document)
    _save(figure, path, metadata)


def _batch(case: dict[str, Any]) -> int:
    return int(case["case"]["batch"])


def _pixels(case: dict[str, Any]) -> int:
    return int(case["case"]["height"]) * int(case["case"]["width"])


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), facecolor=GROUND, layout="constrained")


def _style(axes: Axes, grid: Any) -> None:
    axes.set_facecolor(GROUND)
    axes.grid(axis=grid, color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, which="both", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)


def _caption(figure: Figure, document: dict[str, Any]) -> None:
    machine = document["machine"]
    device = (
        machine["gpus"][0]
        if document["device"] == "cuda"
        else f"{machine['cpu']} ({(machine['capability'] or machine['torch_capability']).upper()})"
    )
    versions = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "tensorrt": "TensorRT", "torch": "PyTorch"}
    known = [f"{text} {machine['versions'][name]}" for name, text in versions.items() if name in machine["versions"]]
    figure.supxlabel(f"{device}; {', '.join(known)}; medians, float32", fontsize=8, color="#57606a")


def _save(figure: Figure, path: Path, metadata: Mapping[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=160, facecolor=GROUND, metadata=dict(metadata))
