"""What drawn people look like: skin, hair, clothes and the patterns on them. Colours are BGR, 0 to 255."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

Array = np.ndarray[Any, Any]

_SKINS = (
    (206, 224, 250),
    (180, 205, 240),
    (150, 182, 226),
    (120, 156, 208),
    (90, 126, 182),
    (64, 94, 146),
    (48, 70, 112),
)
_HAIRS = (
    (24, 24, 28),
    (32, 42, 58),
    (40, 62, 96),
    (54, 92, 140),
    (96, 160, 206),
    (150, 196, 224),
    (40, 70, 150),
    (170, 170, 172),
)

#: The class names of the semantic mask, by index.
CATEGORIES = ("background", "skin", "hair or hat", "upper clothes", "lower clothes", "shoes")
SKIN, HAIR, TOP, BOTTOM, SHOES = range(1, 6)

PATTERNS = ("plain", "hoops", "pinstripes", "checks", "dots", "block")
_PATTERN_WEIGHTS = (0.46, 0.20, 0.09, 0.09, 0.07, 0.09)
HAIR_STYLES = ("short", "long", "bun", "tail", "bald", "cap")
_HAIR_WEIGHTS = (0.42, 0.22, 0.09, 0.09, 0.07, 0.11)


@dataclass(frozen=True)
class Outfit:
    """The looks of one person.

    ``sleeve`` and ``leg`` tell how much of a limb is clothed: 1 ends at the elbow or knee, 2 at the wrist or ankle.
    ``skirt`` is the share of the thigh that a skirt covers, 0 for none.
    """

    skin: Array
    hair: Array
    hair_style: str
    hairline: float
    beard: bool
    glasses: bool
    hat: Array
    top: Array
    top_second: Array
    pattern: str
    pattern_size: float
    sleeve: float
    fastening: bool
    tucked: bool
    bottom: Array
    leg: float
    skirt: float
    shoe: Array


def sample_outfit(rng: np.random.Generator) -> Outfit:
    """Draws one person's looks."""
    tone = rng.uniform(0, len(_SKINS) - 1)
    lower = int(tone)
    share = tone - lower
    skin = np.array(_SKINS[lower]) * (1 - share) + np.array(_SKINS[lower + 1]) * share
    hair_style = HAIR_STYLES[int(rng.choice(len(HAIR_STYLES), p=_HAIR_WEIGHTS))]
    skirt = rng.uniform(0.5, 0.92) if rng.random() < (0.34 if hair_style in ("long", "bun", "tail") else 0.04) else 0.0
    top = sample_color(rng)
    dress = skirt > 0 and rng.random() < 0.4
    bottom = top if dress else _sample_trouser_color(rng)
    return Outfit(
        skin=skin.astype(np.float32),
        hair=np.array(_HAIRS[rng.integers(len(_HAIRS))], np.float32) * np.float32(rng.uniform(0.85, 1.1)),
        hair_style=hair_style,
        hairline=rng.uniform(-0.04, 0.12),
        beard=bool(hair_style in ("short", "bald", "cap") and rng.random() < 0.25),
        glasses=bool(rng.random() < 0.12),
        hat=sample_color(rng),
        top=top,
        top_second=sample_color(rng),
        pattern=PATTERNS[int(rng.choice(len(PATTERNS), p=_PATTERN_WEIGHTS))],
        pattern_size=rng.uniform(0.03, 0.06),
        sleeve=float(rng.choice([0.0, 0.55, 0.95, 1.93], p=[0.1, 0.38, 0.07, 0.45])),
        fastening=bool(rng.random() < 0.35),
        tucked=bool(rng.random() < 0.5),
        bottom=bottom,
        leg=float(rng.choice([0.0, 0.0, 1.9])) if skirt else float(rng.choice([0.72, 0.98, 1.88], p=[0.2, 0.1, 0.7])),
        skirt=skirt,
        shoe=sample_color(rng) * np.float32(rng.uniform(0.4, 1.0)),
    )


def sample_color(rng: np.random.Generator) -> Array:
    """``[3]`` float32 BGR: any hue, from pale to strong, never quite black."""
    return _from_hsv(rng.uniform(0, 180), rng.uniform(20, 225), rng.uniform(70, 250))


def _sample_trouser_color(rng: np.random.Generator) -> Array:
    kind = rng.random()
    if kind < 0.4:  # denim
        return _from_hsv(rng.uniform(102, 118), rng.uniform(70, 170), rng.uniform(60, 165))
    if kind < 0.7:  # black to grey, khaki
        return _from_hsv(rng.uniform(8, 28), rng.uniform(0, 90), rng.uniform(38, 180))
    return sample_color(rng)


def _from_hsv(hue: float, saturation: float, value: float) -> Array:
    pixel = np.array([[[hue, saturation, value]]], np.uint8)
    return np.asarray(cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0], np.float32)


def pattern_weight(outfit: Outfit, across: Array, along: Array) -> Array | None:
    """How much of ``top_second`` shows: 0 to 1 at cloth coordinates in body heights; None for plain cloth."""
    size = outfit.pattern_size
    if outfit.pattern == "hoops":
        return _stripes(along / size)
    if outfit.pattern == "pinstripes":
        return _stripes(across / (size * 0.7))
    if outfit.pattern == "checks":
        return np.asarray(0.5 * _stripes(along / size) + 0.5 * _stripes(across / size))
    if outfit.pattern == "dots":
        wave = np.cos(across * (2 * np.pi / size)) + np.cos(along * (2 * np.pi / size))
        return np.clip((wave - 0.9) * 2.5, 0, 1)
    if outfit.pattern == "block":
        return np.asarray(np.clip((0.14 - along) * 60 + 0 * across, 0, 1))
    return None


def _stripes(t: Array) -> Array:
    return np.clip(np.cos(t * (2 * np.pi)) * 2 + 0.5, 0, 1)
