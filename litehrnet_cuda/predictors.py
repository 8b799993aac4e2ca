"""From an image to poses in one call: boxes, crops, network, heat maps, key points."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from litehrnet_cuda.codecs.flip import average_flipped
from litehrnet_cuda.codecs.heatmap import DECODERS, Decoder, decode_heatmaps
from litehrnet_cuda.data.images import read_image
from litehrnet_cuda.data.transforms import (
    boxes_to_centers_scales,
    crop,
    keypoints_to_image,
    normalize,
    warp_matrix,
)
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import COCO, KEYPOINT_SETS, KeypointSet
from litehrnet_cuda.models.checkpoints import load_checkpoint, read_checkpoint, read_metadata, resolve_checkpoint
from litehrnet_cuda.models.key_layouts import convert_keys, detect_variant
from litehrnet_cuda.models.litehrnet import MIN_SIZE, PoseNetwork
from litehrnet_cuda.models.registry import create_model
from litehrnet_cuda.results import KeyPoints

Array = np.ndarray[Any, Any]

DEFAULT_INPUT_SIZE = (192, 256)


class PoseEstimator:
    """Finds the poses of the people in an image.

    Example::

        estimator = PoseEstimator("litehrnet_18", checkpoint="litehrnet_18_coco_256x192")
        poses = estimator("street.jpg", boxes=[[40, 20, 180, 400]])
        cv2.imwrite("poses.jpg", poses.draw("street.jpg"))

    Args:
        model: a name of :func:`litehrnet_cuda.list_models`, or a network, which is then used as it is (in evaluation
            mode). May be None if the checkpoint tells.
        checkpoint: a file, or the name of a published checkpoint.
        input_size: (width, height) of the network's input; by default what the checkpoint was trained with, else
            192x256.
        keypoint_set: what the joints are; by default what the checkpoint says, else the set that is known with as many
            joints.
        decoder: how key points are read off heat maps, see :func:`litehrnet_cuda.codecs.heatmap.decode_heatmaps`.
        flip_test: average with the prediction for the mirrored image: slower by a factor of two, slightly better.
        device: where to run; by default a CUDA device if there is one.
        batch_size: the most people that go through the network at once.

    Raises:
        InputError: for a model, checkpoint or option that cannot be used.
    """

    def __init__(
        self,
        model: str | PoseNetwork | None = "litehrnet_18",
        *,
        checkpoint: str | Path | None = None,
        input_size: tuple[int, int] | None = None,
        keypoint_set: KeypointSet | None = None,
        decoder: Decoder = "quarter",
        flip_test: bool = False,
        device: torch.device | str | None = None,
        batch_size: int = 64,
    ) -> None:
        if decoder not in DECODERS:
            raise InputError(f"decoder: expected one of {', '.join(DECODERS)}, got {decoder!r}")
        if batch_size < 1:
            raise InputError(f"batch_size: expected at least 1, got {batch_size}")
        metadata = None if checkpoint is None else read_metadata(checkpoint)
        if isinstance(model, PoseNetwork):
            network = model
            if checkpoint is not None:
                load_checkpoint(network, checkpoint)
        elif checkpoint is None:
            raise InputError(
                "PoseEstimator: expected a checkpoint, because a network without trained weights finds nothing; pass "
                "checkpoint=, or a network of your own as model="
            )
        elif metadata is not None:
            network = create_model(model or metadata.variant, num_outputs=metadata.num_outputs, checkpoint=checkpoint)
        else:
            name, num_outputs = detect_variant(convert_keys(read_checkpoint(resolve_checkpoint(checkpoint))))
            network = create_model(model or name, num_outputs=num_outputs or 17, checkpoint=checkpoint)
        self.input_size = input_size or (metadata.input_size if metadata else None) or DEFAULT_INPUT_SIZE
        if min(self.input_size) < MIN_SIZE:
            raise InputError(f"input_size: expected at least {MIN_SIZE} pixels each way, got {self.input_size}")
        self.keypoint_set = (
            keypoint_set or (metadata.keypoint_set if metadata else None) or _known_set(network.num_outputs)
        )
        if len(self.keypoint_set) != network.num_outputs:
            raise InputError(
                f"keypoint_set: expected {network.num_outputs} joints as the network has outputs, got "
                f"{len(self.keypoint_set)} ({self.keypoint_set.name})"
            )
        self.decoder: Decoder = decoder
        self.flip_test = flip_test
        self.batch_size = batch_size
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model = network.to(self.device).eval()

    @property
    def udp(self) -> bool:
        """Whether crops are cut out as Unbiased Data Processing does: with its decoder."""
        return self.decoder == "udp"

    def __call__(
        self,
        image: Array | str | Path,
        boxes: Array | Sequence[Sequence[float]] | None = None,
        box_scores: Array | Sequence[float] | None = None,
    ) -> KeyPoints:
        """Finds one pose in each box.

        Args:
            image: ``[H, W, 3]`` uint8 BGR, as OpenCV reads it, or a file.
            boxes: ``[P, 4]`` (left, top, right, bottom) in pixels, one per person; by default one box, the
                whole image. They may reach beyond the image, but not lie outside.
            box_scores: ``[P]``, the detector's; by default 1.

        Returns:
            a :class:`~litehrnet_cuda.results.KeyPoints` with P people.

        Raises:
            InputError: for an image or boxes that cannot be used.
        """
        if isinstance(image, (str, Path)):
            image = read_image(image)
        corners = check_boxes(boxes, image)
        scores = np.ones(len(corners), np.float32) if box_scores is None else np.asarray(box_scores, np.float32)
        centers, scales = boxes_to_centers_scales(corners, self.input_size)
        crops = [
            normalize(crop(image, warp_matrix(center, scale, self.input_size, udp=self.udp), self.input_size))
            for center, scale in zip(centers, scales, strict=True)
        ]
        count = len(self.keypoint_set)
        keypoints, joint_scores = np.empty((0, count, 2), np.float32), np.empty((0, count), np.float32)
        if crops:
            keypoints, joint_scores = self.predict_crops(torch.from_numpy(np.stack(crops)), centers, scales)
        return KeyPoints(
            keypoints=keypoints,
            scores=joint_scores,
            boxes=corners,
            box_scores=scores,
            keypoint_set=self.keypoint_set,
        )

    def predict_crops(self, crops: Tensor, centers: Array, scales: Array) -> tuple[Array, Array]:
        """Key points of people that are cut out already.

        Args:
            crops: ``[P, 3, h, w]`` float32, normalised.
            centers: ``[P, 2]``, and
            scales: ``[P, 2]``, the regions of the image that the crops show.

        Returns:
            key points ``[P, K, 2]`` in image pixels and scores ``[P, K]``, both float32.
        """
        heatmaps = torch.cat([self._heatmaps(batch) for batch in torch.split(crops, self.batch_size)])
        keypoints, scores = decode_heatmaps(
            heatmaps.float().cpu().numpy(),
            self.input_size,
            decoder=self.decoder,
            blur_kernel_size=blur_kernel_size(self.input_size),
        )
        return keypoints_to_image(keypoints, centers, scales, self.input_size), scores

    @torch.inference_mode()
    def _heatmaps(self, crops: Tensor) -> Tensor:
        parameter = next(self.model.parameters())
        crops = crops.to(parameter)
        heatmaps: Tensor = self.model(crops)
        if self.flip_test:
            mirrored = self.model(crops.flip(-1))
            heatmaps = average_flipped(heatmaps, mirrored, self.keypoint_set.flip_indices, shift=not self.udp)
        return heatmaps


def blur_kernel_size(input_size: tuple[int, int]) -> int:
    """The blur of DARK that goes with an input: 11 heat-map pixels up to 192x256, 17 for 288x384 (official)."""
    return 17 if input_size[1] >= 384 else 11


def check_boxes(boxes: Array | Sequence[Sequence[float]] | None, image: Array) -> Array:
    """Boxes ``[P, 4]`` float32 that can be used with an image; the whole image if None.

    Raises:
        InputError: for boxes of another shape, that are not finite, empty, or outside of the image.
    """
    height, width = image.shape[:2]
    if boxes is None:
        return np.array([[0, 0, width, height]], np.float32)
    try:
        corners = np.asarray(boxes, np.float32)
    except (TypeError, ValueError):
        raise InputError("boxes: expected numbers of shape [P, 4] (left, top, right, bottom)") from None
    if corners.size == 0:
        return np.empty((0, 4), np.float32)
    if corners.ndim != 2 or corners.shape[1] != 4:
        raise InputError(f"boxes: expected shape [P, 4] (left, top, right, bottom), got {list(corners.shape)}")
    for index, (left, top, right, bottom) in enumerate(corners.tolist()):
        if not (np.isfinite(corners[index]).all() and left < right and top < bottom):
            raise InputError(
                "boxes: expected finite left < right and top < bottom, got "
                f"{[left, top, right, bottom]} for box {index}"
            )
        if left >= width or top >= height or right <= 0 or bottom <= 0:
            raise InputError(
                f"boxes: expected boxes that overlap the image of {width}x{height} pixels, got "
                f"{[left, top, right, bottom]} for box {index}"
            )
    return corners


def _known_set(num_outputs: int) -> KeypointSet:
    for keypoint_set in (COCO, *KEYPOINT_SETS.values()):
        if len(keypoint_set) == num_outputs:
            return keypoint_set
    raise InputError(f"keypoint_set: expected one to be passed, because no known one has {num_outputs} joints")
