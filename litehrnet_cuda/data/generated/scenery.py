"""Backgrounds and objects of the drawn scenes. Colours are BGR, 0 to 255."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from litehrnet_cuda.data.generated.canvas import Canvas, Shader, capsule, ellipse, flat, gradient, hull
from litehrnet_cuda.data.generated.clothes import sample_color

Array = np.ndarray[Any, Any]


def soft_noise(rng: np.random.Generator, width: int, height: int, cells: int) -> Array:
    """``[height, width]`` float32 noise of about -1 to 1 with about ``cells`` hills across."""
    grid = rng.standard_normal((max(cells * height // width, 2), max(cells, 2)), dtype=np.float32)
    return cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)


def draw_background(rng: np.random.Generator, width: int, height: int, horizon: float) -> Canvas:
    """A room, a landscape or a street as a new canvas; the ground begins at row ``horizon``."""
    kind = rng.random()
    if kind < 0.4:
        return _room(rng, width, height, horizon)
    if kind < 0.8:
        return _outdoors(rng, width, height, horizon)
    return _abstract(rng, width, height)


def _blank(width: int, height: int) -> Canvas:
    return Canvas(np.zeros((height, width, 3), np.float32))


def _rectangle(x1: float, y1: float, x2: float, y2: float) -> Array:
    return np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], np.float64)


def _pale(rng: np.random.Generator, share: float = 0.5) -> Array:
    return np.asarray(sample_color(rng) * (1 - share) + rng.uniform(120, 225) * share, np.float32)


def _grain(rng: np.random.Generator, canvas: Canvas, y1: int, y2: int, cells: int, strength: float) -> None:
    """Roughens the rows y1 to y2."""
    height, width = canvas.labels.shape
    y1, y2 = max(y1, 0), min(y2, height)
    if y2 - y1 > 2:
        canvas.image[y1:y2] += strength * soft_noise(rng, width, y2 - y1, cells)[..., None]


def _ground(rng: np.random.Generator, canvas: Canvas, horizon: float, color: Array) -> None:
    height, width = canvas.labels.shape
    area = _rectangle(-2, horizon, width + 2, height + 2)
    canvas.paint([area], gradient(color * np.float32(0.85), color * np.float32(1.1), horizon, height), 0)
    _grain(rng, canvas, int(horizon), height, int(rng.integers(12, 70)), rng.uniform(2, 9))


def _room(rng: np.random.Generator, width: int, height: int, horizon: float) -> Canvas:
    canvas = _blank(width, height)
    wall, second = _pale(rng), _pale(rng, 0.7)
    edge = horizon + rng.uniform(10, 45)
    canvas.paint([_rectangle(-2, -2, width + 2, edge)], gradient(wall, wall * np.float32(0.88), 0, edge), 0)
    style = rng.random()
    step = rng.uniform(14, 44)
    if style < 0.25:  # wallpaper
        stripes = [_rectangle(x, -2, x + step / 2, edge) for x in np.arange(0, width, step)]
        canvas.paint(stripes, flat(wall * np.float32(0.93)), 0, opacity=0.8)
    elif style < 0.45:  # tiles
        lines = [_rectangle(x, -2, x + 1, edge) for x in np.arange(0, width, step)]
        lines += [_rectangle(-2, y, width + 2, y + 1) for y in np.arange(0, edge, step)]
        canvas.paint(lines, flat(second), 0, opacity=0.6)
    _grain(rng, canvas, 0, int(edge), 9, 4)
    for _ in range(rng.integers(0, 4)):  # windows, pictures, doors
        w, h = rng.uniform(22, 80), rng.uniform(24, 90)
        x, y = rng.uniform(-20, width), rng.uniform(2, max(edge - h, 3))
        y = edge - h if rng.random() < 0.2 else y
        canvas.paint([_rectangle(x - 4, y - 4, x + w + 4, y + h + 4)], flat(second * np.float32(0.75)), 0)
        canvas.paint([_rectangle(x, y, x + w, y + h)], gradient(sample_color(rng), sample_color(rng), y, y + h), 0)
        if rng.random() < 0.4:
            bars = [
                _rectangle(x + w / 2 - 1, y, x + w / 2 + 1, y + h),
                _rectangle(x, y + h / 2 - 1, x + w, y + h / 2 + 1),
            ]
            canvas.paint(bars, flat(second * np.float32(0.75)), 0, opacity=0.99)
    _ground(rng, canvas, edge, _pale(rng, 0.3) * np.float32(0.75))
    if rng.random() < 0.5:  # boards that run to a vanishing point
        center = rng.uniform(0.2, 0.8) * width
        boards = [
            np.array([(center + d * 0.35, edge), (center + d * 2.2, height + 2), (center + d * 2.2 + 2, height + 2)])
            for d in np.arange(-width, width, rng.uniform(18, 50))
        ]
        canvas.paint(boards, flat(np.array([30, 36, 44], np.float32)), 0, opacity=0.35)
    canvas.paint([_rectangle(-2, edge - 4, width + 2, edge)], flat(second * np.float32(0.9)), 0)
    return canvas


def _outdoors(rng: np.random.Generator, width: int, height: int, horizon: float) -> Canvas:
    canvas = _blank(width, height)
    blue = np.array([rng.uniform(190, 250), rng.uniform(150, 215), rng.uniform(90, 200)], np.float32)
    haze = (blue * 0.4 + np.array([150, 145, 140])).astype(np.float32)
    canvas.paint([_rectangle(-2, -2, width + 2, height + 2)], gradient(blue, haze, 0, horizon), 0)
    _grain(rng, canvas, 0, int(horizon), int(rng.integers(3, 9)), rng.uniform(2, 14))
    if rng.random() < 0.5:
        _houses(rng, canvas, horizon)
    else:
        _hills(rng, canvas, horizon)
    meadow = rng.random() < 0.5
    grass = np.array([rng.uniform(45, 90), rng.uniform(110, 165), rng.uniform(70, 130)], np.float32)
    _ground(rng, canvas, horizon, grass if meadow else _pale(rng, 0.8) * np.float32(0.8))
    for _ in range(rng.integers(0, 4)):
        _tree(rng, canvas, horizon)
    return canvas


def _houses(rng: np.random.Generator, canvas: Canvas, horizon: float) -> None:
    width = canvas.labels.shape[1]
    x = -rng.uniform(0, 30)
    while x < width:
        w, h = rng.uniform(28, 80), rng.uniform(0.3, 1.05) * horizon
        color = _pale(rng) * np.float32(0.85)
        canvas.paint(
            [_rectangle(x, horizon - h, x + w, horizon + 1)], gradient(color, color * np.float32(0.8), 0, horizon), 0
        )
        step = rng.uniform(9, 16)
        windows = [
            _rectangle(i, j, i + step * 0.5, j + step * 0.6)
            for i in np.arange(x + 4, x + w - step * 0.6, step)
            for j in np.arange(horizon - h + 5, horizon - step, step * 1.25)
        ]
        if windows:
            canvas.paint(windows, flat(sample_color(rng)), 0, opacity=0.7)
        x += w + (rng.uniform(0, 30) if rng.random() < 0.4 else 0)


def _hills(rng: np.random.Generator, canvas: Canvas, horizon: float) -> None:
    height, width = canvas.labels.shape
    for level in (0.5, 0.2):
        xs = np.linspace(-2, width + 2, 24)
        ys = horizon * (1 - level * 0.6) - 12 * soft_noise(rng, 24, 2, 6)[0]
        color = np.array([rng.uniform(70, 130), rng.uniform(90, 150), rng.uniform(60, 120)], np.float32) * (0.7 + level)
        outline = np.concatenate([np.stack([xs, ys], axis=1), [(width + 2, height), (-2, height)]])
        canvas.paint([outline], flat(color.astype(np.float32)), 0)


def _tree(rng: np.random.Generator, canvas: Canvas, horizon: float) -> None:
    height, width = canvas.labels.shape
    foot = np.array([rng.uniform(0, width), horizon + rng.uniform(0, 0.25) * (height - horizon)])
    size = rng.uniform(40, 110)
    top = foot - (rng.normal(0, 4), size)
    canvas.paint([capsule(foot, top, size * 0.06, size * 0.035)], flat(_pale(rng, 0.2) * np.float32(0.4)), 0)
    leaf = np.array([rng.uniform(30, 80), rng.uniform(80, 150), rng.uniform(40, 120)], np.float32)
    blobs = [ellipse(top + rng.normal(0, size * 0.16, 2), *(size * rng.uniform(0.14, 0.28, 2))) for _ in range(6)]
    canvas.paint(
        blobs, gradient(leaf * np.float32(1.15), leaf * np.float32(0.7), top[1] - size * 0.4, top[1] + size * 0.3), 0
    )


def _abstract(rng: np.random.Generator, width: int, height: int) -> Canvas:
    canvas = _blank(width, height)
    a, b, c = _pale(rng), _pale(rng), sample_color(rng)
    canvas.paint([_rectangle(-2, -2, width + 2, height + 2)], gradient(a, b, 0, height), 0)
    cloud = soft_noise(rng, width, height, int(rng.integers(2, 7)))[..., None]
    canvas.image += np.clip(cloud * 0.35, 0, 0.6) * (c - canvas.image)
    for _ in range(rng.integers(2, 9)):
        color, center = sample_color(rng), rng.uniform(0, 1, 2) * (width, height)
        if rng.random() < 0.5:
            shape = hull(center + rng.normal(0, 28, (6, 2)))
        elif rng.random() < 0.5:
            shape = capsule(center, center + rng.normal(0, 60, 2), rng.uniform(2, 12), rng.uniform(2, 12))
        else:
            shape = ellipse(center, *rng.uniform(6, 34, 2))
        canvas.paint(
            [shape], gradient(color, color * np.float32(0.75), *sorted(center[1] + rng.uniform(-30, 30, 2))), 0
        )
    return canvas


def _lit(color: Array, left: float, right: float) -> Shader:
    """Brighter towards the left side of a thing that spans the columns."""

    def shade(x: Array, y: Array) -> tuple[Array, int]:
        t = np.clip((x - left) / max(right - left, 1), 0, 1) + 0 * y
        return np.asarray(color * (1.1 - 0.45 * t)[..., None], np.float32), 0

    return shade


def draw_object(rng: np.random.Generator, canvas: Canvas, foot: Array, scale: float) -> None:
    """Paints a thing that stands on the ground at pixel ``foot``, where a person would be ``scale`` pixels high."""
    kind = rng.integers(5)
    color = sample_color(rng)
    x, y = float(foot[0]), float(foot[1])
    if kind == 0:  # crate
        w, h, d = scale * rng.uniform(0.14, 0.3), scale * rng.uniform(0.14, 0.34), scale * 0.05
        canvas.paint([_rectangle(x - w / 2, y - h, x + w / 2, y)], _lit(color, x - w / 2, x + w / 2), 0)
        lid = np.array([(x - w / 2, y - h), (x + w / 2, y - h), (x + w / 2 + d, y - h - d), (x - w / 2 + d, y - h - d)])
        canvas.paint([lid], flat(np.minimum(color * np.float32(1.25), 255)), 0)
        side = np.array([(x + w / 2, y - h), (x + w / 2 + d, y - h - d), (x + w / 2 + d, y - d), (x + w / 2, y)])
        canvas.paint([side], flat(color * np.float32(0.5)), 0)
    elif kind == 1:  # ball
        r = scale * rng.uniform(0.05, 0.12)
        canvas.paint([ellipse(np.array([x, y - r]), r, r)], _lit(color, x - r, x + r), 0)
        canvas.paint([ellipse(np.array([x - r * 0.35, y - r * 1.4]), r * 0.25, r * 0.2)], flat(color * 0 + 245), 0, 0.6)
    elif kind == 2:  # post with a sign or a lamp
        r, h = scale * rng.uniform(0.012, 0.022), scale * rng.uniform(0.7, 1.3)
        top = np.array([x, y - h])
        canvas.paint([capsule(foot, top, r, r)], _lit(color * np.float32(0.6), x - r, x + r), 0)
        if rng.random() < 0.6:
            canvas.paint([ellipse(top, *(scale * rng.uniform(0.04, 0.1, 2)))], flat(sample_color(rng)), 0)
    elif kind == 3:  # plant in a pot
        w, h = scale * rng.uniform(0.06, 0.1), scale * rng.uniform(0.1, 0.18)
        pot = np.array([(x - w, y - h), (x + w, y - h), (x + w * 0.7, y), (x - w * 0.7, y)])
        leaf = np.array([rng.uniform(30, 90), rng.uniform(90, 170), rng.uniform(40, 110)], np.float32)
        for _ in range(8):
            tip = np.array([x + rng.normal(0, w * 1.3), y - h - abs(rng.normal(h * 1.2, h * 0.4))])
            blade = capsule(np.array([x, y - h]), tip, scale * 0.012, scale * 0.004)
            canvas.paint([blade], flat(leaf * np.float32(rng.uniform(0.7, 1.2))), 0)
        canvas.paint([pot], _lit(color, x - w, x + w), 0)
    else:  # table
        w, h = scale * rng.uniform(0.16, 0.3), scale * rng.uniform(0.26, 0.4)
        legs = [_rectangle(x + s * w - 2, y - h, x + s * w + 2, y) for s in (-0.85, 0.85)]
        canvas.paint(legs, flat(color * np.float32(0.6)), 0)
        top = np.array(
            [(x - w, y - h), (x + w, y - h), (x + w * 0.8, y - h - scale * 0.05), (x - w * 0.8, y - h - scale * 0.05)]
        )
        canvas.paint([top], _lit(np.minimum(color * np.float32(1.1), 255), x - w, x + w), 0)
        canvas.paint([_rectangle(x - w, y - h, x + w, y - h + scale * 0.02)], flat(color * np.float32(0.75)), 0)
