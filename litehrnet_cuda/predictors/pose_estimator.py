"""From an image to poses in one call: boxes, crops, network, heat maps, key points."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from litehrnet_cuda.codecs.heatmap import DECODERS, Decoder
from litehrnet_cuda.data.images import read_image
from litehrnet_cuda.data.transforms import (
    boxes_to_centers_scales,
    crop,
    keypoints_to_image,
    normalize,
    warp_matrix,
)
from litehrnet_cuda.errors import InputError, whole_number
from litehrnet_cuda.keypoints import KeypointSet, known_keypoint_set
from litehrnet_cuda.models.litehrnet import PoseNetwork
from litehrnet_cuda.predictors.arguments import (
    check_boxes,
    check_image,
    check_scores,
    check_size,
)
from litehrnet_cuda.predictors.decoding import Decoding
from litehrnet_cuda.predictors.networks import choose_network, runner_of
from litehrnet_cuda.predictors.onnx_network import OnnxNetwork
from litehrnet_cuda.results import KeyPoints

Array = np.ndarray[Any, Any]

DEFAULT_INPUT_SIZE = (192, 256)


class PoseEstimator:
    """Finds the poses of the people in an image.

    Example::

        image = cv2.imread("street.jpg")
        poses = PoseEstimator(checkpoint="litehrnet_18_coco_256x192")(image, boxes=[[40, 20, 180, 400]])
        cv2.imwrite("poses.jpg", poses.draw(image))

    Args:
        model: a name of :func:`litehrnet_cuda.list_models`; by default what the checkpoint is of. Or a network of any
            floating-point type, which is then used itself, not a copy, and put into evaluation mode.
        checkpoint: a file, or the name of a published checkpoint. Needed unless ``model`` is a network. An ONNX file of
            ``litehrnet export`` is run by ONNX Runtime.
        input_size: (width, height) of the network's input; by default what the checkpoint was trained with, else
            192x256.
        keypoint_set: what the joints are; by default what the checkpoint says, else the set that is known with as many
            joints.
        decoder: how key points are read off heat maps, see :func:`litehrnet_cuda.codecs.heatmap.decode_heatmaps`; by
            default as the checkpoint was trained for, or ``"quarter"`` where it does not say that.
        flip_test: average with the prediction for the mirrored image: slower by a factor of two, slightly better.
        device: where to run; by default where the network is that was passed, else a CUDA device if there is one, but
            the CPU for ONNX files.
        batch_size: the most people that go through the network at once. The result does not depend on it beyond the
            rounding of the network's type (in float32, scores agree to 1e-4).
        optimize: run the network as :func:`litehrnet_cuda.optimize_for_inference` does, where there are kernels for the
            device. It is seen as it is at each call, trained on or not; only writes through ``.data`` to a network in
            evaluation mode go unnoticed, after which another PoseEstimator is needed.

    Attributes:
        metadata: what is known about the network; None if it was passed and says nothing.

    Raises:
        InputError: for a model, checkpoint or option that cannot be used.
    """

    def __init__(
        self,
        model: str | PoseNetwork | None = None,
        *,
        checkpoint: str | Path | None = None,
        input_size: tuple[int, int] | None = None,
        keypoint_set: KeypointSet | None = None,
        decoder: Decoder | None = None,
        flip_test: bool = False,
        device: torch.device | str | None = None,
        batch_size: int = 64,
        optimize: bool = True,
    ) -> None:
        if decoder is not None and decoder not in DECODERS:
            raise InputError(f"decoder: expected one of {', '.join(DECODERS)}, got {decoder!r}")
        if keypoint_set is not None and not isinstance(keypoint_set, KeypointSet):
            raise InputError(
                f"keypoint_set: expected a KeypointSet, such as KEYPOINT_SETS['coco'] of litehrnet_cuda.keypoints, got "
                f"{keypoint_set!r:.80}"
            )
        source = choose_network(model, checkpoint, device, task="pose", kind=PoseNetwork, predictor="PoseEstimator")
        network, self.device, metadata = source
        self.metadata = metadata
        if isinstance(network, OnnxNetwork):
            network.require_size(input_size)
        self.input_size = check_size(input_size or (metadata.input_size if metadata else None) or DEFAULT_INPUT_SIZE)
        self.keypoint_set = (
            keypoint_set or (metadata.keypoint_set if metadata else None) or _known_set(network.num_outputs)
        )
        if len(self.keypoint_set) != network.num_outputs:
            raise InputError(
                f"keypoint_set: expected {network.num_outputs} joints as the network has outputs, got "
                f"{len(self.keypoint_set)} ({self.keypoint_set.name})"
            )
        trained = metadata.decoder if metadata else None
        self.decoder: Decoder = decoder or (trained if trained in DECODERS else "quarter")
        self.flip_test = flip_test
        self.batch_size = whole_number("batch_size", batch_size, 1)
        self._model: PoseNetwork | OnnxNetwork = network
        self._network = runner_of(source, optimize=optimize)

    @property
    def model(self) -> PoseNetwork | OnnxNetwork:
        """The network."""
        return self._model

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
        check_image(image)
        corners = check_boxes(boxes, image)
        scores = check_scores(box_scores, len(corners))
        centers, scales = boxes_to_centers_scales(corners, self.input_size)
        crops = [
            normalize(crop(image, warp_matrix(center, scale, self.input_size, udp=self.udp), self.input_size))
            for center, scale in zip(centers, scales, strict=True)
        ]
        empty = np.empty((0, 3, self.input_size[1], self.input_size[0]), np.float32)
        keypoints, joint_scores = self.predict_crops(
            torch.from_numpy(np.stack(crops) if crops else empty), centers, scales
        )
        return KeyPoints(
            keypoints=keypoints,
            scores=joint_scores,
            boxes=corners,
            box_scores=scores,
            keypoint_set=self.keypoint_set,
        )

    def predict_crops(self, crops: Tensor | Array, centers: Array, scales: Array) -> tuple[Array, Array]:
        """Key points of people that are cut out already.

        Args:
            crops, centers, scales: see :meth:`predict_crops_with`.

        Returns:
            key points ``[P, K, 2]`` in image pixels and scores ``[P, K]``, both float32.

        Raises:
            InputError: for crops of another size or type, or regions that are not as many.
        """
        return self.predict_crops_with((self.decoder,), crops, centers, scales)[0]

    @torch.inference_mode()
    def predict_crops_with(
        self, decoders: Sequence[Decoder], crops: Tensor | Array, centers: Array, scales: Array
    ) -> list[tuple[Array, Array]]:
        """Key points as several decoders read them off the same heat maps.

        Args:
            decoders: any but ``"udp"``, or that alone, because its crops are cut out differently.
            crops: ``[P, 3, h, w]`` float32 of the input's size, as :func:`litehrnet_cuda.data.transforms.normalize`
                returns them, on any device.
            centers: ``[P, 2]``, and
            scales: ``[P, 2]``, the regions of the image that the crops show.

        Returns:
            for each decoder key points ``[P, K, 2]`` in image pixels and scores ``[P, K]``, both float32.

        Raises:
            InputError: for decoders that do not go together, crops of another size or type, or regions that are not as
                many.
        """
        if not set(decoders) <= set(DECODERS) or ("udp" in decoders and len(decoders) > 1):
            raise InputError(
                f"decoders: expected some of {', '.join(DECODERS)}, of which udp goes alone, got {', '.join(decoders)}"
            )
        if isinstance(crops, np.ndarray):
            crops = torch.from_numpy(np.require(crops, requirements=("C", "W")))  # PyTorch shares others with a warning
        _check_crops(crops, centers, scales, self.input_size)
        if len(crops) == 0:
            count = len(self.keypoint_set)
            return [(np.empty((0, count, 2), np.float32), np.empty((0, count), np.float32)) for _ in decoders]
        mirrored = tuple(self.keypoint_set.flip_indices.tolist()) if self.flip_test else None
        decoding = Decoding(tuple(decoders), self.input_size, mirrored)
        like = crops if isinstance(self._model, OnnxNetwork) else next(self._model.parameters())
        batches = [self._network(batch.to(like), decoding) for batch in torch.split(crops, self.batch_size)]
        people = []
        for of_decoder in zip(*batches, strict=True):
            decoded = torch.cat(of_decoder).cpu().numpy()  # of a batch, key points alone come back from the device
            keypoints, scores = decoded[..., :2], decoded[..., 2].copy()
            people.append((keypoints_to_image(keypoints, centers, scales, self.input_size), scores))
        return people


def _check_crops(crops: Tensor, centers: Array, scales: Array, input_size: tuple[int, int]) -> None:
    """Raises :class:`InputError` for arguments that :meth:`PoseEstimator.predict_crops` cannot use."""
    expected = (3, input_size[1], input_size[0])
    if not isinstance(crops, Tensor):
        raise InputError(f"crops: expected a tensor or an array, got {type(crops).__name__}")
    if crops.dim() != 4 or crops.shape[1:] != expected or not crops.is_floating_point():
        raise InputError(
            f"crops: expected normalised ones of shape [P, {', '.join(map(str, expected))}] and a floating-point type, "
            f"got {list(crops.shape)} of {crops.dtype}"
        )
    for name, values in (("centers", centers), ("scales", scales)):
        if np.shape(values) != (len(crops), 2):
            raise InputError(
                f"{name}: expected shape [{len(crops)}, 2], one for each crop, got {list(np.shape(values))}"
            )


def _known_set(num_outputs: int) -> KeypointSet:
    known = known_keypoint_set(num_outputs)
    if known is None:
        raise InputError(f"keypoint_set: expected one to be passed, because no known one has {num_outputs} joints")
    return known
