"""Networks in ONNX files, run by ONNX Runtime in the place of PyTorch."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.models.checkpoints import CheckpointMetadata
from litehrnet_cuda.models.litehrnet import Variant
from litehrnet_cuda.models.registry import get_variant

SUFFIX = ".onnx"
INPUT = "images"
STRIDE = 32  # of the lowest resolution: where sizes are free, they are multiples of it
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
Around = Callable[[Callable[[Tensor], list[Tensor]], Tensor], list[Tensor]]


def is_onnx_file(checkpoint: str | os.PathLike[str] | None) -> bool:
    """Whether a checkpoint is an ONNX file, by its name."""
    return checkpoint is not None and Path(checkpoint).suffix.lower() == SUFFIX


class OnnxNetwork:
    """The network of a file that ``litehrnet export`` wrote.

    Call it as :class:`litehrnet_cuda.inference.LiveNetwork`. Of a file with decoding inside the heat maps are taken.

    Args:
        path: the file.
        device: a CPU, or a CUDA device where there is an onnxruntime-gpu; images travel through the CPU all the same.

    Attributes:
        metadata: what the network is.
        size: (width, height) of the images; None for any in steps of 32.
        batch: how many images it takes at once; None for any number.
        head: of a network for segmentation.

    Raises:
        InputError: without onnxruntime, or for a file that it cannot run or that something else wrote.
    """

    def __init__(self, path: str | os.PathLike[str], device: torch.device | str = "cpu") -> None:
        self.path = Path(path)
        self._session = open_session(self.path, torch.device(device).type)
        text = self._session.get_modelmeta().custom_metadata_map.get("litehrnet_cuda")
        if text is None:
            raise InputError(
                f"{self.path}: expected an ONNX file that litehrnet export wrote, got one that does not say which "
                f"network it is; export the checkpoint again"
            )
        try:
            self.metadata = CheckpointMetadata.from_json(text)
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"{self.path}: expected metadata as litehrnet export writes it, got {text!r:.200} ({error}); export "
                f"the checkpoint again"
            ) from None
        batch, _, height, width = self._session.get_inputs()[0].shape
        self.batch: int | None = batch if isinstance(batch, int) else None
        self.size: tuple[int, int] | None = (width, height) if isinstance(width, int) else None
        self.head = self.metadata.head
        self._output = self._session.get_outputs()[-1].name

    @property
    def variant(self) -> Variant:
        """Which Lite-HRNet it is."""
        return get_variant(self.metadata.variant)

    @property
    def num_outputs(self) -> int:
        """Joints or classes."""
        return self.metadata.num_outputs

    def require_size(self, size: tuple[int, int] | None) -> None:
        """Raises :class:`InputError` unless images of a size, if any is asked for, can be run."""
        if size is None or size == self.size:
            return
        if self.size is not None:
            raise InputError(
                f"{self.path}: expected its size of {self.size[0]}x{self.size[1]}, got {size[0]}x{size[1]}; export the "
                f"checkpoint for that size"
            )
        if any(side % STRIDE for side in size):
            raise InputError(f"{self.path}: expected multiples of {STRIDE} as size, got {size[0]}x{size[1]}")

    def nearest_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The (width, height) that images of a size are to be resized to."""
        if self.size is not None:
            return self.size
        width, height = (max(STRIDE, round(side / STRIDE) * STRIDE) for side in size)
        return width, height

    def __call__(self, images: Tensor, around: Around | None = None) -> Any:
        """The network's output for normalised images ``[N, 3, H, W]``, or what ``around`` makes of it, a list."""
        return self._run(images)[0] if around is None else around(self._run, images)

    def _run(self, images: Tensor) -> list[Tensor]:
        images = images.float().cpu()
        self.require_size((images.shape[-1], images.shape[-2]))
        count = self.batch or max(len(images), 1)
        found = [self._run_batch(batch, count) for batch in torch.split(images, count)]
        return [torch.cat(found)]

    def _run_batch(self, images: Tensor, count: int) -> Tensor:
        missing = (self.batch or len(images)) - len(images)
        filled = torch.cat([images, images.new_zeros(missing, *images.shape[1:])]) if missing else images
        outputs = self._session.run([self._output], {INPUT: filled.contiguous().numpy()})[0]
        return torch.from_numpy(outputs)[: len(images)]


def open_session(path: Path, device_type: str = "cpu") -> Any:
    """An ``onnxruntime.InferenceSession`` with as many threads as torch has.

    Raises:
        InputError: without onnxruntime, or for a file that it cannot run.
    """
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise InputError(
            f"{path}: expected the package onnxruntime, which cannot be imported ({error}); "
            f"pip install 'litehrnet_cuda[export]'"
        ) from None
    provider = _PROVIDERS.get(device_type)
    if provider not in ort.get_available_providers():
        raise InputError(
            f"{path}: expected a device that the installed onnxruntime runs on, got {device_type}, for which it has no "
            f"provider; choose cpu"
        )
    if not path.is_file():
        raise InputError(f"{path}: expected an ONNX file, got a path where there is none")
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    options.log_severity_level = 3  # errors, which are raised as well
    try:
        return ort.InferenceSession(str(path), options, providers=[provider])
    except Exception as error:  # of whatever type it raises
        line = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"{path}: expected an ONNX file that ONNX Runtime can run, got {line:.200}") from None
