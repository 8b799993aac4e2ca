"""What the joints of a data set are called, which are mirror images, and how they are joined by bones.

Everything that depends on the joints (flip augmentation, flip test, OKS, drawing, the size of the head)
takes a :class:`KeypointSet`, so that a data set with other joints needs no other code.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class KeypointSet:
    """The joints of one kind of annotation.

    Args:
        name: short name, such as ``"coco"``.
        names: the K joint names, in the order of the annotation.
        flip_pairs: pairs of indices that swap when an image is mirrored.
        sigmas: K standard deviations of the annotators, relative to the square root of the object's
            area, as object keypoint similarity uses them.
        links: pairs of indices that are joined by a bone in drawings.
        upper_body: indices of the joints above the hips, for half-body augmentation.
    """

    name: str
    names: tuple[str, ...]
    flip_pairs: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]
    links: tuple[tuple[int, int], ...] = ()
    upper_body: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.names)
        if len(self.sigmas) != count:
            raise ValueError(
                f"KeypointSet {self.name!r}: expected {count} sigmas, one per name, got {len(self.sigmas)}"
            )
        indices = [i for pair in (*self.flip_pairs, *self.links) for i in pair] + list(self.upper_body)
        for index in indices:
            if not 0 <= index < count:
                raise ValueError(f"KeypointSet {self.name!r}: expected indices from 0 to {count - 1}, got {index}")
        flipped = [i for pair in self.flip_pairs for i in pair]
        if len(set(flipped)) != len(flipped):
            raise ValueError(f"KeypointSet {self.name!r}: a joint appears in two flip pairs")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def flip_indices(self) -> np.ndarray:
        """``[K]`` int64: entry k is the joint that takes the place of joint k in a mirrored image."""
        indices = np.arange(len(self))
        for a, b in self.flip_pairs:
            indices[a], indices[b] = b, a
        return indices


# Names, order, sigmas and skeleton as published with COCO (pycocotools `Params.kpt_oks_sigmas`,
# the "person" category of person_keypoints_val2017.json).
COCO = KeypointSet(
    name="coco",
    names=(
        "nose",
        "left_eye",
        "right_eye",
        "left_ear",
        "right_ear",
        "left_shoulder",
        "right_shoulder",
        "left_elbow",
        "right_elbow",
        "left_wrist",
        "right_wrist",
        "left_hip",
        "right_hip",
        "left_knee",
        "right_knee",
        "left_ankle",
        "right_ankle",
    ),
    flip_pairs=((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)),
    sigmas=(
        *(0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072),
        *(0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089),
    ),
    links=(
        *((15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7)),
        *((6, 8), (7, 9), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6)),
    ),
    upper_body=tuple(range(11)),
)

# MPII has no OKS sigmas of its own; these are the ones that mmpose lists for it (configs/_base_/datasets/mpii.py).
MPII = KeypointSet(
    name="mpii",
    names=(
        "right_ankle",
        "right_knee",
        "right_hip",
        "left_hip",
        "left_knee",
        "left_ankle",
        "pelvis",
        "thorax",
        "upper_neck",
        "head_top",
        "right_wrist",
        "right_elbow",
        "right_shoulder",
        "left_shoulder",
        "left_elbow",
        "left_wrist",
    ),
    flip_pairs=((0, 5), (1, 4), (2, 3), (10, 15), (11, 14), (12, 13)),
    sigmas=(
        *(0.089, 0.083, 0.107, 0.107, 0.083, 0.089, 0.026, 0.026),
        *(0.026, 0.026, 0.062, 0.072, 0.179, 0.179, 0.072, 0.062),
    ),
    links=(
        *((0, 1), (1, 2), (2, 6), (3, 6), (3, 4), (4, 5), (6, 7), (7, 8)),
        *((8, 9), (7, 12), (12, 11), (11, 10), (7, 13), (13, 14), (14, 15)),
    ),
    upper_body=(7, 8, 9, 10, 11, 12, 13, 14, 15),
)

# MPII's head size is 0.6 times the diagonal of the head's box: the bones of the head without the hair.
MPII_HEAD_BIAS = 0.6

KEYPOINT_SETS = {keypoints.name: keypoints for keypoints in (COCO, MPII)}


def known_keypoint_set(count: int) -> KeypointSet | None:
    """The first known set of so many joints, if there is one: what outputs are taken to be that nothing names."""
    return next((known for known in KEYPOINT_SETS.values() if len(known) == count), None)
