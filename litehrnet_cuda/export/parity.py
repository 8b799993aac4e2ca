"""Whether an exported network computes what the network computes."""

from __future__ import annotations

import copy
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
# A Newton step divides by a curvature, which vanishes now and then where a heat map shows nothing, as of noise.
_JOINTS = 0.9


class ParityError(Exception):
    """An exported network that does not compute what it should; nothing was written."""


@dataclass(frozen=True)
class Parity:
    """How far an exported network is from PyTorch's.

    Args:
        difference: the largest of the outputs, relative to the largest absolute output, over all shapes.
        limit: of it; None where it is only told, as of int8.
        keypoints: of key points that are decoded inside, from PyTorch's decoding of the same heat maps, relative to
            the largest coordinate: what nine of ten joints are within. None without decoding.
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
        outputs = self.limit is None or self.difference <= self.limit
        return outputs and all(value is None or value <= LIMIT for value in (self.keypoints, self.classes))

    def __str__(self) -> str:
        limit = "" if self.limit is None else f" (limit {self.limit:.1e})"
        decoded = "".join(
            f", of {name} {value:.1e} (limit {LIMIT:.1e})"
            for name, value in (("key points", self.keypoints), ("classes", self.classes))
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
    """
    if batches is None:
        generator = torch.Generator().manual_seed(0)
        batches = [_random_images(sample, metadata, generator) for sample in shape.samples()]
    rounded = copy.deepcopy(network).half() if half and limit is not None else None
    of_outputs, of_half, of_keypoints, of_classes = [0.0], [0.0], [], []
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
            of_keypoints.append(_of_most_joints(decoded[0], keypoints))
    if limit is not None:
        limit = max(limit, 2 * max(of_half))
    shapes = [tuple(images.shape) for images in batches]
    return Parity(
        max(of_outputs), limit, max(of_keypoints, default=None), shapes, classes=max(of_classes, default=None)
    )


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
    return float(difference.nan_to_num(nan=float("inf")))  # a NaN would be lost in a maximum


def _of_most_joints(found: Tensor, expected: Tensor) -> float:
    if found.shape != expected.shape:
        return float("inf")
    of_joints = (found - expected).abs().amax(dim=-1).flatten().quantile(_JOINTS)
    return float((of_joints / expected.abs().max()).nan_to_num(nan=float("inf")))


def _shortfall(found: Tensor, logits: Tensor, images: Tensor) -> float:
    full = resized_to_images(logits, images)
    if found.shape != (len(full), *full.shape[2:]) or found.min() < 0 or found.max() >= full.shape[1]:
        return float("inf")
    missing = full.amax(dim=1) - full.gather(1, found.long()[:, None])[:, 0]
    return float((missing.max() / full.abs().max()).nan_to_num(nan=float("inf")))
