"""Whether an exported network computes what the network computes."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from litehrnet_cuda.backends import use_backend
from litehrnet_cuda.export.shape import InputShape
from litehrnet_cuda.models.checkpoints import CheckpointMetadata
from litehrnet_cuda.predictors.decoding import Decoding
from litehrnet_cuda.predictors.pixel_classes import LargestLogits, resized_to_images

Run = Callable[[Tensor], Sequence[Tensor]]

LIMIT = 1e-4  # of the largest output in float32: two orders above what rounding alone does
# A Newton step divides by a curvature, which vanishes now and then where a heat map shows nothing, as of noise. So nine
# of ten key points have to be right, and each joint in half of this many images.
_MOST, _IMAGES = 0.9, 16


class ParityError(Exception):
    """An exported network that does not compute what it should; nothing was written."""


@dataclass(frozen=True)
class Parity:
    """How far an exported network is from PyTorch's.

    Args:
        difference: the largest of the outputs, relative to the largest absolute output, over all shapes.
        limit: of it; None where it is only told, as of int8.
        keypoints: of key points that are decoded inside, from PyTorch's decoding of the same heat maps, coordinates
            relative to the largest one and scores likewise: what nine of ten are within, and half of those of each
            joint. None without decoding.
        shapes: of the images that were tried.
        classes: of classes that are decoded inside: by how much a pixel's class falls short of the largest logit at
            most, relative to the largest absolute one. None without decoding.
    """

    difference: float
    limit: float | None
    keypoints: float | None
    shapes: list[tuple[int, ...]]
    classes: float | None = None

    @property
    def is_within(self) -> bool:
        """Whether the limits are kept; not so if something is no number."""
        outputs = math.isfinite(self.difference) and (self.limit is None or self.difference <= self.limit)
        return outputs and all(value is None or value <= LIMIT for value in (self.keypoints, self.classes))

    def __str__(self) -> str:
        limit = "" if self.limit is None else f" (limit {self.limit:.1e})"
        decoded = "".join(
            f", of {name} {value:.1e} (limit {LIMIT:.1e})"
            for name, value in (("nine of ten key points", self.keypoints), ("classes", self.classes))
            if value is not None
        )
        batches = ", ".join(dict.fromkeys(str(shape[0]) for shape in self.shapes))
        sizes = ", ".join(dict.fromkeys(f"{shape[3]}x{shape[2]}" for shape in self.shapes))
        return (
            f"largest difference from PyTorch {self.difference:.1e} of the largest output{limit}{decoded}; "
            f"batches of {batches}, {sizes}"
        )


def measure_parity(
    run: Run,
    network: nn.Module,
    metadata: CheckpointMetadata,
    shape: InputShape,
    decoding: Decoding | LargestLogits | None = None,
    *,
    half: bool = False,
    limit: float | None = LIMIT,
    batches: Sequence[Tensor] | None = None,
) -> Parity:
    """Compares an exported network with the network itself in plain PyTorch.

    Args:
        run: the exported network, from images to all its outputs, the network's own last.
        network: in evaluation mode on the CPU, float32.
        metadata: how images are normalised.
        shape: what the exported network takes.
        decoding: what it has inside.
        half: it computes in float16. The limit is then twice PyTorch's own error in float16, if that is more.
        limit: of the relative difference; None for no limit.
        batches: normalised images ``[N, 3, H, W]`` to compare on; by default noise of the shapes that it takes.

    Raises:
        ParityError: if the network overflows in float16, in PyTorch too.
    """
    if batches is None:
        generator = torch.Generator().manual_seed(0)
        samples = shape.samples()
        if isinstance(decoding, Decoding):
            samples *= math.ceil(_IMAGES / sum(sample[0] for sample in samples))
        batches = [_random_images(sample, metadata, generator) for sample in samples]
    rounded = copy.deepcopy(network).half() if half and limit is not None else None
    of_outputs, of_half, of_classes = [0.0], [0.0], []
    of_keypoints: list[Tensor] = []
    for images in batches:
        with torch.inference_mode(), use_backend("reference"):
            expected = network(images)
            if rounded is not None:
                of_half.append(_relative(rounded(images.half()).float(), expected))
        *decoded, outputs = run(images)
        of_outputs.append(_relative(outputs, expected))
        if isinstance(decoding, LargestLogits):
            of_classes.append(_shortfall(decoded[0], outputs, images))
        elif decoding is not None:
            with torch.inference_mode():
                keypoints = decoding(lambda _, outputs=outputs: [outputs], images)[0]  # type: ignore[misc]
            of_keypoints.append(_of_key_points(decoded[0], keypoints))
    if not math.isfinite(max(of_half)):
        raise ParityError("float16 cannot hold the network's values, in PyTorch either, and nothing was written")
    if limit is not None:
        limit = max(limit, 2 * max(of_half))
    shapes = [tuple(images.shape) for images in batches]
    of_most = _of_most(torch.cat(of_keypoints)) if of_keypoints else None
    return Parity(max(of_outputs), limit, of_most, shapes, classes=max(of_classes, default=None))


def require_parity(parity: Parity, what: str) -> Parity:
    """The same, if it is within its limits.

    Raises:
        ParityError: if not.
    """
    if not parity.is_within:
        raise ParityError(f"{what} is not what PyTorch computes, and nothing was written: {parity}")
    return parity


def _random_images(shape: tuple[int, ...], metadata: CheckpointMetadata, generator: torch.Generator) -> Tensor:
    """Noise of all colours, normalised as the network's images."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (metadata.mean, metadata.std))
    return (torch.rand(shape, generator=generator) - mean) / std


def _relative(found: Tensor, expected: Tensor) -> float:
    if found.shape != expected.shape:
        return float("inf")
    difference = (found - expected).abs().max() / expected.abs().max()
    return float(_never_nan(difference))


def _of_key_points(found: Tensor, expected: Tensor) -> Tensor:
    """Differences of key points ``[N, K, 3]``, by coordinates or score, whichever is further off: ``[N, K]``."""
    if found.shape != expected.shape:
        return torch.full(expected.shape[:2], torch.inf)
    difference = (found - expected).abs()
    of_coordinates = difference[..., :2].amax(dim=-1) / expected[..., :2].abs().max()
    of_scores = difference[..., 2] / expected[..., 2].abs().max()
    return _never_nan(torch.maximum(of_coordinates, of_scores))


def _of_most(differences: Tensor) -> float:
    """What nine of ten of all differences ``[N, K]`` are within, and half of those of each joint."""
    return float(torch.maximum(differences.flatten().quantile(_MOST), differences.quantile(0.5, dim=0).max()))


def _shortfall(found: Tensor, logits: Tensor, images: Tensor) -> float:
    full = resized_to_images(logits, images)
    if found.shape != (len(full), *full.shape[2:]) or found.min() < 0 or found.max() >= full.shape[1]:
        return float("inf")
    missing = full.amax(dim=1) - full.gather(1, found.long()[:, None])[:, 0]
    return float(_never_nan(missing.max() / full.abs().max()))


def _never_nan(difference: Tensor) -> Tensor:
    """Infinity for NaN, which would be lost in a maximum."""
    return difference.nan_to_num(nan=torch.inf, posinf=torch.inf)
