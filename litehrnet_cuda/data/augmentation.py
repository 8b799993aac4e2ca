"""What is changed at random about a person from epoch to epoch, in two published ways.

``official`` is mmpose 0.x, which the official Lite-HRNet configurations were tuned with (``TopDownRandomFlip``,
``TopDownHalfBodyTransform`` and ``TopDownGetRandomScaleRotation`` of its ``top_down_transform.py``). ``mmpose1`` is
mmpose 1.x (``RandomFlip``, ``RandomHalfBody`` and ``RandomBBoxTransform`` of
``mmpose/datasets/transforms/common_transforms.py``). They differ in four places:

* scale: ``official`` cuts a normal number to one deviation, so that a third of the people get the largest or the
  smallest scale; ``mmpose1`` takes a normal number from the distribution truncated at one deviation.
* rotation: cut to two deviations; truncated at one.
* half body: the upper half is preferred with probability 0.69 and then needs three joints; 0.7 and two.
* shift: none; a truncated normal share of the padded box, before that is given the network's aspect ratio.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal, get_args

import numpy as np

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import KeypointSet

Array = np.ndarray[Any, Any]

Style = Literal["official", "mmpose1"]
STYLES: tuple[Style, ...] = get_args(Style)

# mmpose 0.x takes the upper body if a standard normal number is below 0.5, that is with this probability.
_PREFER_UPPER = {"official": 0.6915, "mmpose1": 0.7}
_LEAST_UPPER = {"official": 3, "mmpose1": 2}
_LEAST_LOWER = 3
HALF_BODY_PADDING = 1.5  # the region is this many times the extent of the joints, in both styles
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Augmentation:
    """What is changed at random; 0 switches a part off. The defaults are the official COCO recipe.

    Args:
        flip_probability: of mirroring the person.
        scale: the region is (1 + z scale) times as large, z normal and cut (official) or truncated (mmpose1) to
            -1 .. 1.
        rotation: the person is turned by z ``rotation`` degrees, z normal and cut to -2 .. 2 (official) or truncated to
            -1 .. 1 (mmpose1).
        rotation_probability: of turning at all.
        half_body_probability: of cutting out only the upper or lower body (official MPII recipe: 0).
        half_body_joints: but only of people with more annotated joints than this.
        shift: the region moves by z ``shift`` times its padded box along each axis, z normal and truncated to -1 .. 1
            (mmpose1: 0.16).
        shift_probability: of moving at all (mmpose1: 0.3).
        style: the distributions, see the head of this file.
    """

    flip_probability: float = 0.5
    scale: float = 0.25
    rotation: float = 30.0
    rotation_probability: float = 0.6
    half_body_probability: float = 0.3
    half_body_joints: int = 8
    shift: float = 0.0
    shift_probability: float = 0.0
    style: Style = "official"

    def __post_init__(self) -> None:
        for name in ("flip_probability", "rotation_probability", "half_body_probability", "shift_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"augmentation.{name}: expected a probability from 0 to 1, got {getattr(self, name)}")
        for name in ("scale", "shift"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"augmentation.{name}: expected at least 0 and less than 1, got {getattr(self, name)}")
        if not 0 <= self.rotation <= 180:
            raise InputError(f"augmentation.rotation: expected degrees from 0 to 180, got {self.rotation}")
        if self.style not in STYLES:
            raise InputError(f"augmentation.style: expected one of {', '.join(STYLES)}, got {self.style!r}")

    def draw(self, random: np.random.Generator) -> Change:
        """A change for one person. Always the same numbers are drawn in the same order, so that switching one part off
        leaves the others as they are."""
        flip, half, upper, turn = random.random(4)
        scale_noise, rotation_noise = random.standard_normal(2)
        move, *uniform = random.random(5).tolist()
        if self.style == "mmpose1":
            scale_noise, rotation_noise = _truncated_normal(uniform[0]), _truncated_normal(uniform[1])
        else:
            scale_noise, rotation_noise = min(max(scale_noise, -1), 1), min(max(rotation_noise, -2), 2)
        moves = move < self.shift_probability
        return Change(
            flip=bool(flip < self.flip_probability),
            half_body=bool(half < self.half_body_probability),
            prefer_upper=bool(upper < _PREFER_UPPER[self.style]),
            scale=1 + float(scale_noise) * self.scale,
            rotation=float(rotation_noise) * self.rotation if turn < self.rotation_probability else 0.0,
            shift=(
                _truncated_normal(uniform[2]) * self.shift if moves else 0.0,
                _truncated_normal(uniform[3]) * self.shift if moves else 0.0,
            ),
        )


# configs/top_down/lite_hrnet/{coco,mpii} of the official repository, and of mmpose 1.x
# configs/body_2d_keypoint/topdown_heatmap/{coco,mpii}/td-hm_litehrnet-18_8xb64-210e_*.py.
OFFICIAL_COCO = Augmentation()
OFFICIAL_MPII = Augmentation(half_body_probability=0.0)
MMPOSE1_COCO = Augmentation(rotation=60.0, shift=0.16, shift_probability=0.3, style="mmpose1")
MMPOSE1_MPII = Augmentation(rotation=60.0, half_body_probability=0.0, style="mmpose1")
NO_AUGMENTATION = Augmentation(0.0, 0.0, 0.0, 0.0, 0.0)

AUGMENTATIONS = {
    "official_coco": OFFICIAL_COCO,
    "official_mpii": OFFICIAL_MPII,
    "mmpose1_coco": MMPOSE1_COCO,
    "mmpose1_mpii": MMPOSE1_MPII,
    "none": NO_AUGMENTATION,
}


@dataclass(frozen=True)
class Change:
    """What was drawn for one person.

    Args:
        flip: mirror.
        half_body: cut out only a half, if there are joints enough.
        prefer_upper: which half, if both can be had.
        scale: size of the region relative to what it was.
        rotation: in degrees.
        shift: of the region along x and y, relative to the width and height of the padded box.
    """

    flip: bool
    half_body: bool
    prefer_upper: bool
    scale: float
    rotation: float
    shift: tuple[float, float]


def half_body_box(
    keypoints: Array, visible: Array, keypoint_set: KeypointSet, *, prefer_upper: bool, style: Style = "official"
) -> tuple[Array, Array] | None:
    """The box around the annotated joints of the upper or the lower body.

    Official: the preferred half needs three joints; else the lower half is taken if it has three, else the upper if it
    has two. mmpose1: the upper half needs two and the lower three; if both have them, the preferred one is taken.

    Args:
        keypoints: ``[K, 2]`` in image pixels.
        visible: ``[K]``, above 0 where a joint is annotated.
        keypoint_set: says which joints are of the upper body.
        prefer_upper: which half to take where both can be had.
        style: see above.

    Returns:
        the mean of the joints ``[2]`` and their width and height ``[2]``, in image pixels, or None if no half has
        enough joints.
    """
    is_upper = np.zeros(len(keypoint_set), dtype=bool)
    is_upper[list(keypoint_set.upper_body)] = True
    upper, lower = keypoints[(visible > 0) & is_upper], keypoints[(visible > 0) & ~is_upper]
    if prefer_upper and len(upper) >= _LEAST_UPPER[style]:
        chosen = upper
    else:
        chosen = lower if len(lower) >= _LEAST_LOWER else upper
    if len(chosen) < 2:
        return None
    size = chosen.max(axis=0) - chosen.min(axis=0)
    if not size.any():
        return None
    return chosen.mean(axis=0), size


def _truncated_normal(uniform: float) -> float:
    """A uniform number from [0, 1) to a normal one, given that it lies within one deviation."""
    low, high = _NORMAL.cdf(-1), _NORMAL.cdf(1)
    return _NORMAL.inv_cdf(low + uniform * (high - low))
