"""From an image to the class of every pixel in one call."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import numpy as np
import torch
from torch import Tensor

from litehrnet_cuda.classes import ClassSet, known_class_set
from litehrnet_cuda.data.images import read_image
from litehrnet_cuda.data.transforms import normalize
from litehrnet_cuda.errors import InputError, whole_number
from litehrnet_cuda.models.litehrnet import MIN_SIZE
from litehrnet_cuda.models.segmentation import SegmentationNetwork
from litehrnet_cuda.predictors.arguments import check_image, check_size
from litehrnet_cuda.predictors.networks import choose_network, runner_of
from litehrnet_cuda.predictors.onnx_network import STRIDE, OnnxNetwork
from litehrnet_cuda.predictors.pixel_classes import Logits, class_labels, class_probabilities
from litehrnet_cuda.predictors.windows import average_windows, place_windows
from litehrnet_cuda.results import Segmentation

Array = np.ndarray[Any, Any]
Mode = Literal["whole", "slide"]
MODES: tuple[Mode, ...] = get_args(Mode)


class Segmenter:
    """Finds the class of every pixel of an image.

    Example::

        image = cv2.imread("street.jpg")
        segmentation = Segmenter(checkpoint="cityscapes.safetensors")(image)
        cv2.imwrite("classes.jpg", segmentation.draw(image, legend=True))

    Args:
        model: a name of :func:`litehrnet_cuda.list_models`; by default what the checkpoint is of. Or a network of any
            floating-point type, which is then used itself, not a copy, and put into evaluation mode.
        checkpoint: a file, of :func:`litehrnet_cuda.models.checkpoints.save_checkpoint` or mmsegmentation. Needed
            unless ``model`` is a network. An ONNX file of ``litehrnet export`` is run by ONNX Runtime; whole images are
            resized for it to its size, or if that is free to the nearest multiples of 32.
        class_set: what the classes are; by default what the checkpoint says, else the set that is known with as many
            classes, else their numbers.
        mode: ``"whole"`` puts the whole image through the network, ``"slide"`` windows of it that overlap, whose logits
            are averaged: for images that are much larger than those of the training.
        window: (width, height) of the windows; by default the size that the checkpoint was trained with. Where an
            image is smaller, so is the window; for an ONNX file the image is enlarged to it.
        stride: (width, height) from one window to the next; by default two thirds of the window.
        size: (width, height) that images are resized to fit into, as large as they go with their proportions kept; the
            result is of the image's own size all the same. By default images are taken as they are.
        flip_test: average with the prediction for the mirrored image: slower by a factor of two, slightly better.
        device: where to run; by default where the network is that was passed, else a CUDA device if there is one; the
            CPU for ONNX files.
        batch_size: the most windows that go through the network at once.
        optimize: run the network as :func:`litehrnet_cuda.optimize_for_inference` does, where there are kernels for the
            device, and see it as it is at each call, as :class:`~litehrnet_cuda.PoseEstimator` does.

    Raises:
        InputError: for a model, checkpoint or option that cannot be used.
    """

    def __init__(
        self,
        model: str | SegmentationNetwork | None = None,
        *,
        checkpoint: str | Path | None = None,
        class_set: ClassSet | None = None,
        mode: Mode = "whole",
        window: tuple[int, int] | None = None,
        stride: tuple[int, int] | None = None,
        size: tuple[int, int] | None = None,
        flip_test: bool = False,
        device: torch.device | str | None = None,
        batch_size: int = 4,
        optimize: bool = True,
    ) -> None:
        if class_set is not None and not isinstance(class_set, ClassSet):
            raise InputError(
                f"class_set: expected a ClassSet, such as CLASS_SETS['cityscapes'] of litehrnet_cuda.classes, got "
                f"{class_set!r:.80}"
            )
        if mode not in MODES:
            raise InputError(f"mode: expected one of {', '.join(MODES)}, got {mode!r}")
        source = choose_network(
            model, checkpoint, device, task="segmentation", kind=SegmentationNetwork, predictor="Segmenter"
        )
        network, self.device, metadata = source
        known = metadata.class_set if metadata else None
        self.class_set = class_set or known or _known_set(network.num_outputs)
        if len(self.class_set) != network.num_outputs:
            raise InputError(
                f"class_set: expected {network.num_outputs} classes as the network has outputs, got "
                f"{len(self.class_set)} ({self.class_set.name})"
            )
        self.mode: Mode = mode
        self.size = None if size is None else check_size(size, "size", MIN_SIZE)
        self.window, self.stride = _windows(mode, window or (metadata.input_size if metadata else None), stride)
        if isinstance(network, OnnxNetwork) and mode == "slide":
            network.require_size(self.window)
        self.flip_test = flip_test
        self.batch_size = whole_number("batch_size", batch_size, 1)
        self._model: SegmentationNetwork | OnnxNetwork = network
        self._network = runner_of(source, optimize=optimize)

    @property
    def model(self) -> SegmentationNetwork | OnnxNetwork:
        """The network."""
        return self._model

    @property
    def resizing(self) -> str:
        """What is done to the size of images before the network, in words; empty if nothing is."""
        done = [] if self.size is None else [f"fitted into {self.size[0]}x{self.size[1]}"]
        if isinstance(self._model, OnnxNetwork) and self.mode == "whole":
            size = self._model.size
            done.append(f"resized to multiples of {STRIDE}" if size is None else f"resized to {size[0]}x{size[1]}")
        return " and ".join(done)

    @torch.inference_mode()
    def __call__(self, image: Array | str | Path) -> Segmentation:
        """The class of every pixel.

        Args:
            image: ``[H, W, 3]`` uint8 BGR, as OpenCV reads it, or a file.

        Raises:
            InputError: for an image that cannot be used.
        """
        image = _read(image)
        labels = class_labels(self._logits(image), image.shape[:2])  # of the result, labels alone leave the device
        return Segmentation(labels[0].cpu().numpy(), self.class_set)

    @torch.inference_mode()
    def predict_probabilities(self, image: Array | str | Path) -> Array:
        """The probability of every class at every pixel, ``[C, H, W]`` float32.

        Args:
            image: as above.

        Raises:
            InputError: for an image that cannot be used.
        """
        image = _read(image)
        return np.asarray(class_probabilities(self._logits(image), image.shape[:2])[0].cpu().numpy())

    def _logits(self, image: Array) -> list[Tensor]:
        """``[1, C, h, w]`` float32: one, or with the flip test two. At the image's size only in windows."""
        if self.size is not None:
            image = _fitted(image, self.size)
        if isinstance(self._model, OnnxNetwork):
            width, height = image.shape[1], image.shape[0]
            least = max(width, self.window[0]), max(height, self.window[1])  # its windows are all of one size
            image = _resized(image, self._model.nearest_size((width, height)) if self.mode == "whole" else least)
        if min(image.shape[:2]) < MIN_SIZE:
            got = f"{image.shape[1]}x{image.shape[0]}"
            raise InputError(
                f"image: expected at least {MIN_SIZE}x{MIN_SIZE} pixels, got {got}; images are resized where a size is "
                f"given"
                if self.size is None
                else f"image: expected at least {MIN_SIZE}x{MIN_SIZE} pixels when it is fitted into {self.size[0]}x"
                f"{self.size[1]}, got {got}; give a larger size"
            )
        x = torch.from_numpy(normalize(image))[None]
        if not isinstance(self._model, OnnxNetwork):
            x = x.to(next(self._model.parameters()))
        around = Logits(self.flip_test)
        if self.mode == "whole":
            logits: list[Tensor] = self._network(x, around)
        else:
            places = place_windows(x.shape[-2:], self.window[::-1], self.stride[::-1])
            logits = average_windows(lambda windows: self._network(windows, around), x, places, self.batch_size)
        if not all(bool(maps.isfinite().all()) for maps in logits):
            raise InputError(
                "image: the network's outputs are not finite: its weights are damaged, or too large for its type"
            )
        return logits


def _read(image: Array | str | Path) -> Array:
    if isinstance(image, (str, Path)):
        image = read_image(image)
    check_image(image)
    return image


def _fitted(image: Array, size: tuple[int, int]) -> Array:
    """An image as large as fits into a size with its proportions kept, as mmsegmentation resizes it."""
    height, width = image.shape[:2]
    scale = min(size[0] / width, size[1] / height)
    return _resized(image, (max(1, round(width * scale)), max(1, round(height * scale))))


def _resized(image: Array, size: tuple[int, int]) -> Array:
    if size == (image.shape[1], image.shape[0]):
        return image
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR))


def _windows(mode: Mode, window: Any, stride: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    """Window and stride, which are of no account in other modes."""
    if mode != "slide":
        return (0, 0), (0, 0)
    if window is None:
        raise InputError("window: expected (width, height) for mode='slide', because the checkpoint names no size")
    window = check_size(window, "window", MIN_SIZE)
    stride = check_size(stride or (window[0] * 2 // 3, window[1] * 2 // 3), "stride", 1)
    if stride[0] > window[0] or stride[1] > window[1]:
        raise InputError(f"stride: expected at most the window, {window}, so that no pixel is left out, got {stride}")
    return window, stride


def _known_set(num_outputs: int) -> ClassSet:
    return known_class_set(num_outputs) or ClassSet.numbered(num_outputs)
