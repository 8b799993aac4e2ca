"""One drawn image of people and the truth about it: key points, boxes and masks, from a seed.

Image i of a set depends on the seed and i alone, and is the same to the bit in every run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from litehrnet_cuda.data.generated.canvas import Canvas, ellipse
from litehrnet_cuda.data.generated.clothes import sample_outfit
from litehrnet_cuda.data.generated.figure import LABELS_PER_PERSON, Figure
from litehrnet_cuda.data.generated.people import sample_body, sample_pose, sample_yaw
from litehrnet_cuda.data.generated.scenery import draw_background, draw_object, soft_noise
from litehrnet_cuda.errors import InputError

Array = np.ndarray[Any, Any]

#: Raise it when the drawings change: sets of another version are not reused.
VERSION = 3
SIZE = (320, 240)
PEOPLE = (1, 4)
_PEOPLE_WEIGHTS = (0.44, 0.34, 0.15, 0.07)


@dataclass(frozen=True)
class Scene:
    """One drawn image and the truth about it.

    Args:
        image: ``[H, W, 3]`` uint8 BGR.
        annotations: one dictionary per person, as in COCO (``bbox`` is x, y, width, height of the whole figure inside
            the image, covered parts included; ``segmentation`` and ``area`` are of the pixels that are seen).
            ``pose`` and ``yaw`` (degrees, 0 faces the camera) come in addition to COCO's fields.
        mask: ``[H, W]`` uint8 indices into ``clothes.CATEGORIES``; above 0 exactly where a person is seen.
    """

    image: Array
    annotations: list[dict[str, Any]]
    mask: Array


def generate_scene(
    seed: int | Sequence[int], index: int, size: tuple[int, int] = SIZE, people: tuple[int, int] = PEOPLE
) -> Scene:
    """Draws image ``index`` of the set ``seed``.

    Args:
        seed: one or several numbers, 0 or more.
        index: 0 or more.
        size: (width, height) in pixels, at least 64 each.
        people: (fewest, most) people in an image.

    Raises:
        InputError: for a negative number, a size below 64 or a range of people that is empty.
    """
    check_arguments(seed, index, size, people)
    numbers = [seed] if isinstance(seed, int) else [*seed]
    width, height = size
    rng = np.random.default_rng([*numbers, index])
    horizon = height * rng.uniform(0.32, 0.52)
    canvas = draw_background(rng, width, height, horizon)
    figures = _place_people(rng, width, height, horizon, _count_people(rng, people))
    for _ in range(rng.integers(0, 4)):
        depth = rng.uniform(0.4, 0.9)
        draw_object(
            rng, canvas, np.array([rng.uniform(0, width), horizon + depth * (height - horizon) * 0.6]), height * depth
        )
    boxes = []
    for i, figure in enumerate(figures):
        _shadow(canvas, figure)
        boxes.append(figure.draw(canvas, i))
        if rng.random() < 0.10:  # something stands in front
            offset = np.array([rng.normal(0, 0.22), rng.uniform(0.02, 0.10)]) * figure.height
            draw_object(rng, canvas, figure.foot + offset, figure.height)
    annotations = [
        _annotation(figure, canvas.labels, i, box, index + 1)
        for i, (figure, box) in enumerate(zip(figures, boxes, strict=True))
        if box is not None
    ]
    return Scene(_photograph(rng, canvas.image), [a for a in annotations if a is not None], canvas.categories)


def check_arguments(seed: int | Sequence[int], index: int, size: tuple[int, int], people: tuple[int, int]) -> None:
    """Raises InputError for arguments that ``generate_scene`` cannot use."""
    numbers = [seed] if isinstance(seed, int) else [*seed]
    if index < 0 or any(number < 0 for number in numbers):
        raise InputError(f"seed, index: expected whole numbers of 0 or more, got seed={seed}, index={index}")
    width, height = size
    if width < 64 or height < 64:
        raise InputError(f"size: expected a width and height of at least 64 pixels, got {width} x {height}")
    if not 0 <= people[0] <= people[1] <= len(_PEOPLE_WEIGHTS):
        raise InputError(
            f"people: expected (fewest, most) with 0 <= fewest <= most <= {len(_PEOPLE_WEIGHTS)}, got {people}"
        )


def _count_people(rng: np.random.Generator, people: tuple[int, int]) -> int:
    counts = np.arange(people[0], people[1] + 1)
    weights = np.array([0.1 if count == 0 else _PEOPLE_WEIGHTS[count - 1] for count in counts])
    return int(rng.choice(counts, p=weights / weights.sum()))


def _place_people(rng: np.random.Generator, width: int, height: int, horizon: float, count: int) -> list[Figure]:
    """People from far to near, on one ground plane, apart enough that none hides another altogether."""
    tilt, roll = rng.normal(4, 6), rng.normal(0, 2.5)
    eye_level = rng.uniform(0.52, 0.72)  # the share of a body below the horizon
    light = np.array([rng.uniform(-0.75, 0.75), rng.uniform(0.2, 0.7), 0.75])
    light /= np.linalg.norm(light)
    scales = np.sort(np.clip(rng.normal(0.72 - 0.035 * count, 0.13, count), 0.42, 0.98)) * height
    figures: list[Figure] = []
    taken: list[tuple[float, float]] = []
    for scale in scales:
        half = 0.17 * scale
        candidates = rng.uniform(0.02 * width, 0.98 * width, 12)
        if rng.random() < 0.85:
            candidates = np.clip(candidates, 0.8 * half, width - 0.8 * half)
        # The freest of a few places: people overlap when there are many of them, seldom wholly.
        tries = candidates[: 3 if count > 1 else 1]
        gaps = [min((abs(x - other) - half - h for other, h in taken), default=0.0) for x in tries]
        x = float(tries[int(np.argmax(gaps))])
        taken.append((x, half))
        foot_y = horizon + eye_level * scale + rng.normal(0, 0.02) * height
        pose = sample_pose(rng)
        if pose.name == "jumping":
            foot_y -= rng.uniform(0.04, 0.14) * scale
        figures.append(
            Figure(
                body=sample_body(rng),
                pose=pose,
                outfit=sample_outfit(rng),
                yaw=sample_yaw(rng),
                tilt=tilt,
                roll=roll,
                height=float(scale),
                foot=np.array([x, foot_y]),
                light=light,
            )
        )
    return figures


def _shadow(canvas: Canvas, figure: Figure) -> None:
    """Darkens the ground about the feet, softly."""
    height, width = canvas.labels.shape
    x, y = figure.foot
    rx, ry = 0.17 * figure.height, 0.035 * figure.height
    outline = ellipse(np.array([x, y - ry * 0.5]), rx, ry)
    x1, y1 = np.maximum(np.floor(outline.min(axis=0)).astype(int), 0)
    x2, y2 = np.minimum(np.ceil(outline.max(axis=0)).astype(int) + 1, (width, height))
    if x1 < x2 and y1 < y2:
        dx = (np.arange(x1, x2, dtype=np.float32) - np.float32(x)) / np.float32(rx)
        dy = (np.arange(y1, y2, dtype=np.float32) - np.float32(y - ry * 0.5)) / np.float32(ry)
        away = dx[None, :] ** 2 + dy[:, None] ** 2
        canvas.image[y1:y2, x1:x2] *= (1 - 0.45 * np.clip(1 - away, 0, 1))[..., None]


def _annotation(
    figure: Figure, labels: Array, index: int, box: tuple[int, ...] | None, image_id: int
) -> dict[str, Any] | None:
    """COCO's dictionary for one person, without an id; None when nothing of the person is seen."""
    if box is None:
        return None
    mask = labels // LABELS_PER_PERSON == index + 1
    area = int(np.count_nonzero(mask))
    if area == 0:
        return None
    flags = figure.visibility(labels, index)
    keypoints = np.concatenate([np.round(figure.joints, 2), flags[:, None]], axis=1)
    keypoints[flags == 0] = 0
    encoded = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    x1, y1, x2, y2 = box
    return {
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [float(x1), float(y1), float(x2 - x1), float(y2 - y1)],
        "area": float(area),
        "segmentation": {"size": list(encoded["size"]), "counts": encoded["counts"].decode("ascii")},
        "num_keypoints": int(np.count_nonzero(flags)),
        "keypoints": [int(v) if v == int(v) else float(v) for v in keypoints.reshape(-1).tolist()],
        "pose": figure.pose.name,
        "yaw": round(figure.yaw, 1),
    }


def _photograph(rng: np.random.Generator, image: Array) -> Array:
    """Light, lens and sensor: exposure, tint, uneven light, slight blur and noise."""
    height, width = image.shape[:2]
    gain = rng.uniform(0.85, 1.16) * (1 + rng.normal(0, 0.035, 3))
    slope = np.linspace(-1, 1, width, dtype=np.float32)[None] * np.float32(rng.normal(0, 0.07))
    slope = slope + np.linspace(-1, 1, height, dtype=np.float32)[:, None] * np.float32(rng.normal(0, 0.05))
    image = image * gain.astype(np.float32)
    image *= (1 + slope)[..., None]
    if rng.random() < 0.35:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.9))
    noise = rng.standard_normal((height, width), dtype=np.float32)
    noise *= np.float32(rng.uniform(0.4, 4.5))
    image += noise[..., None]
    image[..., 2] += soft_noise(rng, width, height, width // 3) * np.float32(rng.uniform(0, 1.5))
    image += 0.5  # so that cutting off the fraction rounds
    return np.clip(image, 0, 255, out=image).astype(np.uint8)
