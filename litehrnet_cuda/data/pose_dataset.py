"""Training and evaluation samples for top-down pose estimation: one person, one crop."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, get_args

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from litehrnet_cuda.codecs.heatmap import HeatmapMode, encode_heatmaps
from litehrnet_cuda.data.annotations import Person, PersonBox, PoseAnnotations
from litehrnet_cuda.data.augmentation import (
    HALF_BODY_PADDING,
    NO_AUGMENTATION,
    OFFICIAL_COCO,
    Augmentation,
    half_body_box,
)
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

__all__ = ["NO_AUGMENTATION", "Augmentation", "PersonCrops", "PoseDataset", "batches", "use_one_thread"]

Array = np.ndarray[Any, Any]
BadImages = Literal["stop", "skip"]
BAD_IMAGES: tuple[BadImages, ...] = get_args(BadImages)


class TrainingCrop(NamedTuple):
    """A person as training sees it, before colours are normalised and heat maps drawn."""

    pixels: Array  # [H, W, 3] uint8 BGR
    keypoints: Array  # [K, 2] float32, crop pixels
    visible: Array  # [K] float32, 0 or 1


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
        cache_images: decode all images once, now, and keep them in memory (width x height x 4 bytes each).
        bad_images: what to do about an image that is missing or damaged. ``"stop"`` raises its error. ``"skip"``
            reports it once on standard error and takes the next person whose image can be read in its place.

    Raises:
        InputError: if there is nobody to train with or, unless bad images are skipped, an image is absent.
    """

    unit = "people"

    def __init__(
        self,
        annotations: PoseAnnotations,
        input_size: tuple[int, int],
        *,
        heatmap_size: tuple[int, int] | None = None,
        sigma: float = 2.0,
        augmentation: Augmentation = OFFICIAL_COCO,
        mode: HeatmapMode = "gaussian",
        seed: int = 0,
        cache_images: bool = False,
        bad_images: BadImages = "stop",
    ) -> None:
        if not annotations.people:
            raise InputError(f"{annotations.annotation_file}: expected at least one person with key points, got none")
        if bad_images not in BAD_IMAGES:
            raise InputError(f"bad_images: expected one of {', '.join(BAD_IMAGES)}, got {bad_images!r}")
        self.annotations = annotations
        self.input_size = input_size
        self.heatmap_size = heatmap_size or (-(-input_size[0] // 4), -(-input_size[1] // 4))
        self.sigma = sigma
        self.augmentation = augmentation
        self.mode: HeatmapMode = mode
        self.seed = seed
        self.bad_images: BadImages = bad_images
        boxes = np.stack([person.box for person in annotations.people])
        self._centers, self._scales = boxes_to_centers_scales(boxes, input_size)
        self._flip_indices = annotations.keypoint_set.flip_indices
        image_ids = list(dict.fromkeys(person.image_id for person in annotations.people))
        # Shared memory, so that persistent workers see a new epoch too, and what the others have reported.
        self._epoch = shared_zeros(1)
        self._reported = shared_zeros(len(image_ids))
        self._rows = {image_id: row for row, image_id in enumerate(image_ids)}
        if bad_images == "stop":
            annotations.require_images(image_ids)
        self._images: dict[int, Array] = {}
        if cache_images:
            read = ((image_id, self._read(image_id)) for image_id in image_ids)
            # With a fourth channel, see `transforms.crop`; to add it to an image that is warped once would not pay.
            self._images = {
                image_id: cv2.cvtColor(image, cv2.COLOR_BGR2BGRA) for image_id, image in read if image is not None
            }

    def __len__(self) -> int:
        return len(self.annotations.people)

    @property
    def skipped_images(self) -> int:
        """How many images could not be read so far, in all workers together."""
        return int(self._reported.sum())

    def set_epoch(self, epoch: int) -> None:
        """Choose the random numbers of an epoch; call it before the epoch's iteration over the loader begins."""
        self._epoch[0] = epoch

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """``image`` [3, H, W], ``heatmaps`` [K, h, w] and ``weights`` [K], all float32."""
        pixels, keypoints, visible = self._warped(index)
        heatmaps, weights = encode_heatmaps(
            keypoints, visible, self.input_size, self.heatmap_size, self.sigma, mode=self.mode
        )
        return {
            "image": torch.from_numpy(normalize(pixels)),
            "heatmaps": torch.from_numpy(heatmaps),
            "weights": torch.from_numpy(weights),
        }

    def crop(self, index: int) -> TrainingCrop:
        """The augmented crop of a person, with its joints: what a picture of a sample shows."""
        pixels, keypoints, visible = self._warped(index)
        return TrainingCrop(pixels[..., :3], keypoints, visible)

    def _warped(self, index: int) -> TrainingCrop:
        """The same, where a fourth channel may be left."""
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index}: expected 0 to {len(self) - 1}")
        row, image = self._next_readable(index)
        person = self.annotations.people[row]
        matrix, mirrored = self._random_warp(row, index, image.shape[1])
        points, visible = warp_keypoints(person.keypoints, matrix), person.visible
        if mirrored:
            points, visible = points[self._flip_indices], visible[self._flip_indices]
        return TrainingCrop(crop(image, matrix, self.input_size), points, visible)

    def _next_readable(self, index: int) -> tuple[int, Array]:
        """The first person from this one on whose image can be read, and that image."""
        people = self.annotations.people
        bad: set[int] = set()
        for row in (*range(index, len(people)), *range(index)):
            image_id = people[row].image_id
            if image_id in bad:
                continue
            image = self._images.get(image_id)
            if image is None:
                image = self._read(image_id)
            if image is not None:
                return row, image
            bad.add(image_id)
        raise InputError(
            f"{self.annotations.annotation_file}: expected at least one image that can be read, but all"
            f" {len(self._rows)} are missing or damaged; check {self.annotations.image_dir}"
        )

    def _read(self, image_id: int) -> Array | None:
        """The image; None, said once, if it is bad and bad images are skipped."""
        try:
            return self.annotations.read_image(image_id)
        except InputError as error:
            if self.bad_images == "stop":
                raise
            row = self._rows[image_id]
            if not self._reported[row]:
                self._reported[row] = 1
                print(f"skipped: {error}", file=sys.stderr, flush=True)
            return None

    def _random_warp(self, row: int, index: int, image_width: int) -> tuple[Array, bool]:
        """The ``[2, 3]`` map from image to crop for a person, with the random numbers of a sample, and whether it
        mirrors."""
        change = self.augmentation.draw(np.random.default_rng((self.seed, int(self._epoch[0]), index)))
        person, center, scale = self.annotations.people[row], self._centers[row], self._scales[row]
        size, padding = person.box[2:] - person.box[:2], PADDING
        if change.half_body and person.visible.sum() > self.augmentation.half_body_joints:
            half = self._half_body(person, change.prefer_upper)
            if half is not None:
                (center, size), padding = half, HALF_BODY_PADDING
                scale = fix_aspect_ratio(size, self.input_size, padding=padding)
        if any(change.shift):
            center = center + padding * size * change.shift
        scale = scale * np.float64(change.scale)

        udp = self.mode == "udp"
        if not change.flip:
            return warp_matrix(center, scale, self.input_size, rotation=change.rotation, udp=udp), False
        # Mirror the coordinates rather than the image: the warp then reads the pixels only once.
        last = image_width - 1
        mirrored_center = np.array([last - center[0], center[1]])
        matrix = warp_matrix(mirrored_center, scale, self.input_size, rotation=change.rotation, udp=udp)
        matrix[:, 2] += last * matrix[:, 0]
        matrix[:, 0] *= -1
        return matrix, True

    def _half_body(self, person: Person, prefer_upper: bool) -> tuple[Array, Array] | None:
        return half_body_box(
            person.keypoints,
            person.visible,
            self.annotations.keypoint_set,
            prefer_upper=prefer_upper,
            style=self.augmentation.style,
        )


class PersonCrops(Dataset[dict[str, Any]]):
    """Crops of boxes without augmentation, for evaluation and prediction.

    Args:
        annotations: where the images come from.
        boxes: ``annotations.people`` for annotated boxes, or ``annotations.detections(file)``; best sorted by image,
            since the last image read is kept.
        input_size: (width, height) of the crop.
        udp: warp as UDP does.
        padding: the region is this many times the box.
        bad_images: what to do about an image that is missing or damaged. ``"stop"`` raises its error; ``"skip"`` gives
            black crops of it, whose ``problem`` says what is wrong.
    """

    def __init__(
        self,
        annotations: PoseAnnotations,
        boxes: Sequence[PersonBox],
        input_size: tuple[int, int],
        *,
        udp: bool = False,
        padding: float = PADDING,
        bad_images: BadImages = "stop",
    ) -> None:
        self.annotations = annotations
        self.bad_images: BadImages = bad_images
        self.boxes = boxes
        self.input_size = input_size
        self.udp = udp
        corners = np.array([box.box for box in boxes], dtype=np.float32).reshape(-1, 4)
        self._centers, self._scales = boxes_to_centers_scales(corners, input_size, padding=padding)
        if bad_images == "stop":
            annotations.require_images(box.image_id for box in boxes)
        self._last_image: tuple[int, Array, str] | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """A sample that the default collation batches.

        ``image`` [3, H, W] float32; ``center`` [2] and ``scale`` [2] float32, image pixels; ``box_score`` float;
        ``image_id`` int; ``annotation_id`` int, -1 for a detection; ``problem`` why the image could not be read, or "".
        """
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index}: expected 0 to {len(self) - 1}")
        box, center, scale = self.boxes[index], self._centers[index], self._scales[index]
        matrix = warp_matrix(center, scale, self.input_size, udp=self.udp)
        image, problem = self._read(box.image_id)
        pixels = normalize(crop(image, matrix, self.input_size))
        return {
            "image": torch.from_numpy(pixels),
            "center": torch.from_numpy(center),
            "scale": torch.from_numpy(scale),
            "box_score": box.score,
            "image_id": box.image_id,
            "annotation_id": -1 if box.annotation_id is None else box.annotation_id,
            "problem": problem,
        }

    def _read(self, image_id: int) -> tuple[Array, str]:
        """The image, or a black pixel and what is wrong with the image."""
        if self._last_image is None or self._last_image[0] != image_id:
            try:
                self._last_image = image_id, self.annotations.read_image(image_id), ""
            except InputError as error:
                if self.bad_images == "stop":
                    raise
                self._last_image = image_id, np.zeros((1, 1, 3), np.uint8), str(error)
        return self._last_image[1:]


def shared_zeros(count: int) -> torch.Tensor:
    """``[count]`` int64 that processes which are forked or spawned later share."""
    zeros = torch.zeros(count, dtype=torch.int64)
    zeros.share_memory_()  # type: ignore[no-untyped-call]
    return zeros


def use_one_thread(worker_id: int) -> None:
    """``worker_init_fn`` of a ``DataLoader``: keeps OpenCV of every worker from starting threads of its own."""
    cv2.setNumThreads(0)


def batches(loader: DataLoader[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The batches of a loader, whose workers report an error with their whole traceback as its text."""
    try:
        yield from loader
    except InputError as error:
        raise InputError(str(error).rpartition(f"{type(error).__name__}: ")[2].strip()) from None
