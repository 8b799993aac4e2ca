"""Pictures of results: poses and masks on images, sheets of images, curves and charts.

Images are ``[H, W, 3]`` uint8 BGR. Every function returns a new image and leaves its input as it is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from litehrnet_cuda.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from litehrnet_cuda.keypoints import KeypointSet
    from litehrnet_cuda.results import KeyPoints

Array = np.ndarray[Any, Any]
Color = tuple[int, int, int]

# Blue, orange and green that people with any colour vision tell apart (Okabe and Ito), somewhat brighter. BGR.
LEFT: Color = (255, 160, 40)
RIGHT: Color = (30, 120, 255)
CENTER: Color = (150, 220, 60)
_DARK: Color = (30, 24, 20)
_PAPER, _INK = (250, 250, 250), (60, 52, 46)
_PALETTE: tuple[Color, ...] = (
    *((178, 114, 0), (0, 159, 230), (115, 158, 0), (66, 228, 240), (233, 180, 86), (167, 121, 204)),
    *((0, 94, 213), (160, 160, 160), (90, 60, 130), (40, 110, 60), (200, 200, 120), (120, 90, 240)),
)
_SUBPIXEL_BITS = 4
_BLUE, _ORANGE, _GREEN = "#0072b2", "#d55e00", "#009e73"  # of curves: Okabe and Ito's, too


def draw_poses(
    image: Array,
    result: KeyPoints,
    min_score: float = 0.2,
    boxes: bool = False,
    labels: Sequence[str] | None = None,
) -> Array:
    """Draws bones and joints of every person: the person's left blue, right orange, the middle green.

    Lines grow with the person. Joints with a score below ``min_score`` and their bones are left out.

    Args:
        image: ``[H, W, 3]`` uint8 BGR, or ``[H, W]`` grey.
        result: positions in pixels of the image.
        min_score: least score of a joint to be drawn.
        boxes: whether to draw the boxes with the person scores.
        labels: a short text for each person, above the joints; with ``boxes`` in place of the scores.

    Raises:
        InputError: when ``image`` is not a uint8 image, or there are not as many labels as people.
    """
    canvas = _copy(image)
    if labels is not None and len(labels) != len(result):
        raise InputError(f"labels: expected {len(result)}, one for each person, got {len(labels)}")
    joint_set = result.keypoint_set
    # Smaller people, who are usually farther away, first.
    extents = np.sqrt(np.prod(result.boxes[:, 2:] - result.boxes[:, :2], axis=1))
    for i in np.argsort(extents, kind="stable"):
        width = float(np.clip(extents[i] / 45, 1, 14))
        if boxes:
            _box(canvas, result.boxes[i], labels[i] if labels else f"{result.person_scores[i]:.2f}", width)
        shown = result.scores[i] >= min_score
        bones = [(a, b) for a, b in joint_set.links if shown[a] and shown[b]]
        points = [_fixed(point) for point in result.keypoints[i]]
        for thickness, outline in ((width + 2, True), (width, False)):
            for a, b in bones:
                color = _DARK if outline else _bone_color(joint_set, a, b)
                _line(canvas, points[a], points[b], color, thickness)
        for k in np.flatnonzero(shown):
            for radius, color in ((0.95 * width + 1.2, _DARK), (0.95 * width + 0.3, (255, 255, 255))):
                _dot(canvas, points[k], color, radius)
            _dot(canvas, points[k], _joint_color(joint_set, int(k)), max(0.95 * width - 0.6, 0.6))
        if labels and not boxes and shown.any():
            joints = result.keypoints[i][shown]
            _tag(canvas, labels[i], (float(joints[:, 0].mean()), float(joints[:, 1].min()) - 2 * width), width)
    return canvas


def draw_masks(
    image: Array,
    index_mask: Array,
    opacity: float = 0.55,
    background: int | None = 0,
    colors: Array | None = None,
) -> Array:
    """Tints every class of a mask and outlines its regions.

    Args:
        image: ``[H, W, 3]`` uint8 BGR, or ``[H, W]`` grey.
        index_mask: ``[H, W]`` class indices, 0 to 255.
        opacity: of the tint, 0 to 1.
        background: the index that stays as it is, or None to tint all.
        colors: ``[C, 3]`` BGR, of classes 0 to C - 1, beyond which pixels stay as they are; by default some that
            differ, again and again.

    Raises:
        InputError: for a mask that does not fit the image, or an opacity out of range.
    """
    canvas = _copy(image)
    mask = np.asarray(index_mask)
    fits = mask.shape == canvas.shape[:2] and np.issubdtype(mask.dtype, np.integer)
    if not fits or mask.min() < 0 or mask.max() > 255:
        values = f", {mask.min()} to {mask.max()}" if mask.size else ""
        raise InputError(
            f"index_mask: expected whole numbers 0 to 255 of shape {list(canvas.shape[:2])}, as the image, "
            f"got {mask.dtype} of shape {list(mask.shape)}{values}"
        )
    if not 0 <= opacity <= 1:
        raise InputError(f"opacity: expected 0 to 1, got {opacity}")
    mask = np.ascontiguousarray(mask, np.uint8)
    if colors is None:
        colors = np.array([_PALETTE[(index - (background == 0)) % len(_PALETTE)] for index in range(256)], np.uint8)
    shown = [i for i in np.flatnonzero(np.bincount(mask.ravel())) if i != background and i < len(colors)]
    tints, is_tinted = np.zeros((256, 1, 3), np.uint8), np.zeros(256, np.uint8)
    tints[shown, 0], is_tinted[shown] = colors[shown], 1
    blended = cv2.addWeighted(canvas, 1 - opacity, cv2.LUT(cv2.merge([mask] * 3), tints), opacity, 0)
    cv2.copyTo(blended, cv2.LUT(mask, is_tinted), canvas)
    for index in shown:
        region = cv2.inRange(mask, int(index), int(index))
        contours, _ = cv2.findContours(region, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, contours, -1, [int(value * 0.55) for value in colors[index]], 1)
    return canvas


def add_legend(image: Array, names: Sequence[str], colors: Array) -> Array:
    """The image with a strip below it: a patch of each colour with its name, in as many rows as it takes.

    Args:
        image: ``[H, W, 3]`` uint8 BGR.
        names: of the entries; without any the image comes back as it is.
        colors: ``[len(names), 3]`` BGR.

    Raises:
        InputError: when the numbers of names and colours differ.
    """
    canvas = _copy(image)
    if len(names) != len(colors):
        raise InputError(f"colors: expected {len(names)}, one per name, got {len(colors)}")
    if not names:
        return canvas
    width = canvas.shape[1]
    size = float(np.clip(width / 900, 0.36, 0.9))
    patch, line, gap = round(22 * size), round(40 * size), round(18 * size)
    places: list[tuple[int, int]] = []
    x, y = gap, 0
    for name in names:
        (text, _), _ = cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
        needed = patch + gap * 2 // 3 + text + gap
        if x > gap and x + needed > width:
            x, y = gap, y + line
        places.append((x, y))
        x += needed
    strip = np.full((y + line + gap // 2, width, 3), _PAPER, np.uint8)
    for name, color, (x, y) in zip(names, colors, places, strict=True):
        top = y + (line - patch) // 2 + gap // 4
        cv2.rectangle(strip, (x, top), (x + patch, top + patch), [int(value) for value in color], -1)
        start = x + patch + gap * 2 // 3
        _text(strip, name, (start, top + patch - patch // 6), size, width - start)
    return np.concatenate([canvas, strip])


def contact_sheet(
    images: Sequence[Array],
    titles: Sequence[str] | None = None,
    columns: int = 4,
    cell: tuple[int, int] | None = None,
    heading: str | None = None,
) -> Array:
    """A grid of images with a line of text below each.

    Args:
        images: at least one, of any sizes; each is fitted into its cell with its proportions kept.
        titles: as many as images.
        columns: number of columns, 1 or more.
        cell: (width, height) of the space for an image; by default the largest image's.
        heading: one line above the grid.

    Raises:
        InputError: without images, or when the number of titles differs.
    """
    if not images:
        raise InputError("images: expected at least one, got none")
    if titles is not None and len(titles) != len(images):
        raise InputError(f"titles: expected {len(images)}, one per image, got {len(titles)}")
    if columns < 1:
        raise InputError(f"columns: expected 1 or more, got {columns}")
    pictures = [_copy(image) for image in images]
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    width, height = cell or (max(p.shape[1] for p in pictures), max(p.shape[0] for p in pictures))
    gap = max(8, width // 40)
    size = float(np.clip(width / 620, 0.36, 0.9))
    caption = round(38 * size) + 4 if titles is not None else 0
    top = round(52 * size) + 14 if heading else 0
    sheet = np.full((top + gap + rows * (height + caption + gap), gap + columns * (width + gap), 3), _PAPER, np.uint8)
    if heading:
        _text(sheet, heading, (gap, top - int(12 * size)), size * 1.35, sheet.shape[1] - 2 * gap)
    for i, picture in enumerate(pictures):
        x = gap + i % columns * (width + gap)
        y = top + gap + i // columns * (height + caption + gap)
        fitted = _fit(picture, width, height)
        h, w = fitted.shape[:2]
        left, up = x + (width - w) // 2, y + (height - h) // 2
        sheet[up : up + h, left : left + w] = fitted
        if titles is not None:
            _text(sheet, titles[i], (x, y + height + caption - int(10 * size)), size, width)
    return sheet


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


def _copy(image: Array) -> Array:
    array = np.asarray(image)
    if (
        array.dtype != np.uint8
        or array.ndim not in (2, 3)
        or (array.ndim == 3 and array.shape[2] != 3)
        or not array.size
    ):
        raise InputError(
            f"image: expected uint8 of shape [H, W, 3] (BGR) or [H, W], got {array.dtype} of shape {list(array.shape)}"
        )
    return cv2.cvtColor(array, cv2.COLOR_GRAY2BGR) if array.ndim == 2 else np.ascontiguousarray(array).copy()


def _side(name: str) -> str:
    return name.split("_", 1)[0]


def _joint_color(joints: KeypointSet, k: int) -> Color:
    return {"left": LEFT, "right": RIGHT}.get(_side(joints.names[k]), CENTER)


def _bone_color(joints: KeypointSet, a: int, b: int) -> Color:
    """A bone between the sides is central; one from the middle to a side belongs to the side."""
    sides = {_side(joints.names[k]) for k in (a, b)} & {"left", "right"}
    if len(sides) != 1:
        return CENTER
    return LEFT if "left" in sides else RIGHT


def _fixed(point: Array) -> tuple[int, int]:
    # Far outside of any image OpenCV's fixed-point numbers would overflow.
    x, y = np.rint(np.clip(point, -30000, 30000) * (1 << _SUBPIXEL_BITS)).astype(int)
    return int(x), int(y)


def _line(canvas: Array, a: tuple[int, int], b: tuple[int, int], color: Color, thickness: float) -> None:
    cv2.line(canvas, a, b, color, max(1, round(thickness)), cv2.LINE_AA, _SUBPIXEL_BITS)


def _dot(canvas: Array, center: tuple[int, int], color: Color, radius: float) -> None:
    cv2.circle(canvas, center, round(radius * (1 << _SUBPIXEL_BITS)), color, -1, cv2.LINE_AA, _SUBPIXEL_BITS)


def _box(canvas: Array, box: Array, text: str, width: float) -> None:
    first, second = _fixed(box[:2]), _fixed(box[2:])
    cv2.rectangle(canvas, first, second, (235, 235, 235), max(1, round(width / 2)), cv2.LINE_AA, _SUBPIXEL_BITS)
    x, y = (int(v) for v in np.clip(np.rint(box[:2]), 0, 30000))
    _plate(canvas, text, (x, y), width)


def _tag(canvas: Array, text: str, middle: tuple[float, float], width: float) -> None:
    """A text whose lower edge is centred on a place, moved into the image where it would leave it."""
    w, h = _plate_size(text, width)
    x, y = middle[0] - w / 2, middle[1] - h
    _plate(
        canvas, text, (round(min(max(x, 0), canvas.shape[1] - w)), round(min(max(y, 0), canvas.shape[0] - h))), width
    )


def _plate_size(text: str, width: float) -> tuple[int, int]:
    (w, h), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, float(np.clip(width / 8, 0.35, 1)), 1)
    return w + 4, h + 6


def _plate(canvas: Array, text: str, corner: tuple[int, int], width: float) -> None:
    """A text on a light plate, whose size follows the person's."""
    (x, y), (w, h) = corner, _plate_size(text, width)
    size = float(np.clip(width / 8, 0.35, 1))
    cv2.rectangle(canvas, (x, y), (x + w, y + h), (235, 235, 235), -1)
    cv2.putText(canvas, text, (x + 2, y + h - 4), cv2.FONT_HERSHEY_SIMPLEX, size, _INK, 1, cv2.LINE_AA)


def _text(sheet: Array, text: str, origin: tuple[int, int], size: float, room: int) -> None:
    """One line, shortened with dots to ``room`` pixels."""
    font, weight = cv2.FONT_HERSHEY_SIMPLEX, 1 if size < 0.8 else 2
    shown = text
    while len(shown) > 4 and cv2.getTextSize(shown, font, size, weight)[0][0] > room:
        shown = shown.rstrip(".")[:-1] + "..."
    cv2.putText(sheet, shown, origin, font, size, _INK, weight, cv2.LINE_AA)


def _fit(picture: Array, width: int, height: int) -> Array:
    scale = min(width / picture.shape[1], height / picture.shape[0])
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    if size == (picture.shape[1], picture.shape[0]):
        return picture
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
