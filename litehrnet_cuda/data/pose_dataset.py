"""Training and evaluation samples for top-down pose estimation: one person, one crop.

Augmentation follows the official Lite-HRNet recipe for COCO (half-body, flip, scale, rotation); its order and its
distributions are those of mmpose 0.x, which the recipe was tuned with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from litehrnet_cuda.codecs.heatmap import HeatmapMode, encode_heatmaps
from litehrnet_cuda.data.coco import CocoKeypoints, Person, PersonBox
from litehrnet_cuda.data.transforms import (
    PADDING,
    boxes_to_centers_scales,
    crop,
    fix_aspect_ratio,
    normalize,
    warp_keypoints,
    warp_matrix,
)
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import KeypointSet

Array = np.ndarray[Any, Any]

# mmpose 0.x takes the upper body if a standard normal number is below 0.5, that is with this probability.
_UPPER_BODY_PROBABILITY = 0.6915
_HALF_BODY_PADDING = 1.5


@dataclass(frozen=True)
class Augmentation:
    """What is changed at random from epoch to epoch; 0 switches a part off. The defaults are the official COCO recipe.

    Args:
        flip_probability: of mirroring the person.
        scale: the region is (1 + z scale) times as large, z standard normal, clipped to 1 - scale .. 1 + scale.
        rotation: the person is turned by z ``rotation`` degrees, z standard normal, clipped to twice ``rotation``.
        rotation_probability: of turning at all.
        half_body_probability: of cutting out only the upper or lower body (official MPII recipe: 0).
        half_body_joints: but only of people with more annotated joints than this.
    """

    flip_probability: float = 0.5
    scale: float = 0.25
    rotation: float = 30.0
    rotation_probability: float = 0.6
    half_body_probability: float = 0.3
    half_body_joints: int = 8

    def __post_init__(self) -> None:
        for name in ("flip_probability", "rotation_probability", "half_body_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"Augmentation: {name}: expected a probability from 0 to 1, got {getattr(self, name)}")
        if not 0 <= self.scale < 1:
            raise InputError(f"Augmentation: scale: expected at least 0 and less than 1, got {self.scale}")
        if not 0 <= self.rotation <= 180:
            raise InputError(f"Augmentation: rotation: expected degrees from 0 to 180, got {self.rotation}")


NO_AUGMENTATION = Augmentation(0.0, 0.0, 0.0, 0.0, 0.0)


class PoseDataset(Dataset[dict[str, torch.Tensor]]):
    """Crops of annotated people with their heat maps, for training.

    Sample i of epoch e depends only on (seed, e, i): not on the number of workers or on the order of access.

    Args:
        annotations: where the people come from.
        input_size: (width, height) of the crop.
        heatmap_size: (width, height) of the heat maps; a quarter of the input, rounded up, if None.
        sigma: of the heat maps, in heat-map pixels (official: 2 for 256x192, 3 for 384x288).
        augmentation: what to change at random; ``NO_AUGMENTATION`` for none.
        mode: of the heat maps; ``"udp"`` also warps the crop as UDP does.
        seed: of the random numbers.
        cache_images: decode all images once, now, and keep them in memory (width x height x 3 bytes each).

    Raises:
        InputError: if there is nobody to train with or an image is absent.
    """

    def __init__(
        self,
        annotations: CocoKeypoints,
        input_size: tuple[int, int],
        *,
        heatmap_size: tuple[int, int] | None = None,
        sigma: float = 2.0,
        augmentation: Augmentation = Augmentation(),
        mode: HeatmapMode = "gaussian",
        seed: int = 0,
        cache_images: bool = False,
    ) -> None:
        if not annotations.people:
            raise InputError(f"{annotations.annotation_file}: expected at least one person with key points, got none")
        self.annotations = annotations
        self.input_size = input_size
        self.heatmap_size = heatmap_size or (-(-input_size[0] // 4), -(-input_size[1] // 4))
        self.sigma = sigma
        self.augmentation = augmentation
        self.mode: HeatmapMode = mode
        self.seed = seed
        # Shared memory, so that persistent workers see a new epoch too.
        self._epoch = torch.zeros(1, dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]
        boxes = np.stack([person.box for person in annotations.people])
        self._centers, self._scales = boxes_to_centers_scales(boxes, input_size)
        image_ids = dict.fromkeys(person.image_id for person in annotations.people)
        annotations.require_images(image_ids)
        self._images = {key: annotations.read_image(key) for key in image_ids} if cache_images else {}

    def __len__(self) -> int:
        return len(self.annotations.people)

    def set_epoch(self, epoch: int) -> None:
        """Choose the random numbers of an epoch; call it before the epoch's iteration over the loader begins."""
        self._epoch[0] = epoch

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """``image`` [3, H, W], ``heatmaps`` [K, h, w] and ``weights`` [K], all float32."""
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index}: expected 0 to {len(self) - 1}")
        person = self.annotations.people[index]
        image = self._images.get(person.image_id)
        if image is None:
            image = self.annotations.read_image(person.image_id)
        matrix, mirrored = self._random_warp(person, index, image.shape[1])
        points, visible = warp_keypoints(person.keypoints, matrix), person.visible
        if mirrored:
            order = self.annotations.keypoint_set.flip_indices
            points, visible = points[order], visible[order]
        heatmaps, weights = encode_heatmaps(
            points, visible, self.input_size, self.heatmap_size, self.sigma, mode=self.mode
        )
        pixels = normalize(crop(image, matrix, self.input_size))
        return {
            "image": torch.from_numpy(pixels),
            "heatmaps": torch.from_numpy(heatmaps),
            "weights": torch.from_numpy(weights),
        }

    def _random_warp(self, person: Person, index: int, image_width: int) -> tuple[Array, bool]:
        """The ``[2, 3]`` map from image to crop, and whether it mirrors."""
        change = self.augmentation
        random = np.random.default_rng((self.seed, int(self._epoch[0]), index))
        # Always the same numbers in the same order, so that switching one part off leaves the others as they are.
        flip, half, upper, turn = random.random(4) < (
            change.flip_probability,
            change.half_body_probability,
            _UPPER_BODY_PROBABILITY,
            change.rotation_probability,
        )
        scale_noise, rotation_noise = random.standard_normal(2)

        center, scale = self._centers[index], self._scales[index]
        if half and person.visible.sum() > change.half_body_joints:
            region = half_body_region(
                person.keypoints,
                person.visible,
                self.annotations.keypoint_set,
                self.input_size,
                prefer_upper=bool(upper),
            )
            center, scale = region or (center, scale)
        scale = scale * np.clip(1 + scale_noise * change.scale, 1 - change.scale, 1 + change.scale)
        rotation = float(np.clip(rotation_noise, -2, 2)) * change.rotation if turn else 0.0

        if not flip:
            return warp_matrix(center, scale, self.input_size, rotation=rotation, udp=self.mode == "udp"), False
        # Mirror the coordinates rather than the image: the warp then reads the pixels only once.
        last = image_width - 1
        mirrored_center = np.array([last - center[0], center[1]])
        matrix = warp_matrix(mirrored_center, scale, self.input_size, rotation=rotation, udp=self.mode == "udp")
        matrix[:, 2] += last * matrix[:, 0]
        matrix[:, 0] *= -1
        return matrix, True


class PersonCrops(Dataset[dict[str, Any]]):
    """Crops of boxes without augmentation, for evaluation and prediction.

    Args:
        annotations: where the images come from.
        boxes: ``annotations.people`` for annotated boxes, or ``annotations.detections(file)``; best sorted by image,
            since the last image read is kept.
        input_size: (width, height) of the crop.
        udp: warp as UDP does.
        padding: the region is this many times the box.
    """

    def __init__(
        self,
        annotations: CocoKeypoints,
        boxes: Sequence[PersonBox],
        input_size: tuple[int, int],
        *,
        udp: bool = False,
        padding: float = PADDING,
    ) -> None:
        self.annotations = annotations
        self.boxes = boxes
        self.input_size = input_size
        self.udp = udp
        corners = np.array([box.box for box in boxes], dtype=np.float32).reshape(-1, 4)
        self._centers, self._scales = boxes_to_centers_scales(corners, input_size, padding=padding)
        annotations.require_images(box.image_id for box in boxes)
        self._last_image: tuple[int, Array] | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """A sample that the default collation batches.

        ``image`` [3, H, W] float32; ``center`` [2] and ``scale`` [2] float32, image pixels; ``box_score`` float;
        ``image_id`` int; ``annotation_id`` int, -1 for a detection.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index}: expected 0 to {len(self) - 1}")
        box, center, scale = self.boxes[index], self._centers[index], self._scales[index]
        matrix = warp_matrix(center, scale, self.input_size, udp=self.udp)
        pixels = normalize(crop(self._read(box.image_id), matrix, self.input_size))
        return {
            "image": torch.from_numpy(pixels),
            "center": torch.from_numpy(center),
            "scale": torch.from_numpy(scale),
            "box_score": box.score,
            "image_id": box.image_id,
            "annotation_id": -1 if box.annotation_id is None else box.annotation_id,
        }

    def _read(self, image_id: int) -> Array:
        if self._last_image is None or self._last_image[0] != image_id:
            self._last_image = image_id, self.annotations.read_image(image_id)
        return self._last_image[1]


def half_body_region(
    keypoints: Array, visible: Array, keypoint_set: KeypointSet, input_size: tuple[int, int], *, prefer_upper: bool
) -> tuple[Array, Array] | None:
    """The region around the annotated joints of the upper or the lower body.

    The preferred half needs three joints; else the lower half is taken if it has three, else the upper if it has two.

    Returns:
        centre ``[2]`` and scale ``[2]`` float32 in image pixels, or None if no half has enough joints.
    """
    is_upper = np.isin(np.arange(len(keypoint_set)), keypoint_set.upper_body)
    upper, lower = keypoints[(visible > 0) & is_upper], keypoints[(visible > 0) & ~is_upper]
    if prefer_upper and len(upper) > 2:
        chosen = upper
    else:
        chosen = lower if len(lower) > 2 else upper
    if len(chosen) < 2:
        return None
    size = chosen.max(axis=0) - chosen.min(axis=0)
    if not size.any():
        return None
    return chosen.mean(axis=0), fix_aspect_ratio(size, input_size, padding=_HALF_BODY_PADDING)


def use_one_thread(worker_id: int) -> None:
    """``worker_init_fn`` of a ``DataLoader``: keeps OpenCV of every worker from starting threads of its own."""
    cv2.setNumThreads(0)


def batches(loader: DataLoader[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The batches of a loader, whose workers report an error with their whole traceback as its text."""
    try:
        yield from loader
    except InputError as error:
        raise InputError(str(error).rpartition("InputError: ")[2].strip()) from None
