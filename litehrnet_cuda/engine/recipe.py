"""What decides the outcome of a training run, beside the data to learn from."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from litehrnet_cuda.codecs.heatmap import Decoder, HeatmapMode
from litehrnet_cuda.data.augmentation import Augmentation
from litehrnet_cuda.data.pose_dataset import BAD_IMAGES, BadImages
from litehrnet_cuda.data.transforms import BoxConvention
from litehrnet_cuda.engine.schedule import DECAYS, Decay
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.models.litehrnet import MIN_SIZE
from litehrnet_cuda.models.registry import get_variant
from litehrnet_cuda.predictors.arguments import MAX_SIZE

Precision = Literal["none", "fp16", "bf16"]
Optimizer = Literal["adam", "sgd"]
DataKind = Literal["any", "coco", "mpii"]

_CHOICES: dict[str, tuple[str, ...]] = {
    "decay": DECAYS,
    "amp": get_args(Precision),
    "bad_images": BAD_IMAGES,
    "optimizer": get_args(Optimizer),
}
# A batch of one person has no batch statistics where the lowest resolution is one pixel.
_LEAST = {
    "epochs": 1,
    "batch_size": 2,
    "reference_batch": 0,
    "accumulate": 1,
    "validate_every": 1,
    "workers": 0,
    "warm_up_steps": 0,
    "clip_norm": 0,
}
_INTERVAL = re.compile(r"(\d+(?:\.\d+)?)(s|min|h)")
_SECONDS = {"s": 1, "min": 60, "h": 3600}


@dataclass(frozen=True)
class Interval:
    """When to save within an epoch: after so many steps or so many seconds, whichever is given."""

    steps: int | None = None
    seconds: float | None = None

    @classmethod
    def of(cls, text: str) -> Interval:
        """``"500"`` is steps; ``"30s"``, ``"10min"`` and ``"1h"`` are times.

        Raises:
            InputError: for anything else.
        """
        if text.isdecimal() and 0 < int(text) < 10**10:
            return cls(steps=int(text))
        time = _INTERVAL.fullmatch(text)
        if time is None or not float(time[1]) > 0:
            raise InputError(
                f"training.save_every: expected a number of steps such as 500, or a time such as 30s, 10min or 1h, "
                f"got {text!r:.60}"
            )
        return cls(seconds=float(time[1]) * _SECONDS[time[2]])


@dataclass(frozen=True)
class TrainConfig:
    """How to train. Rate, optimizer and warm-up are those of the official recipe for poses: Adam without weight decay.

    Args:
        epochs: passes over the data.
        batch_size: people or images at once in each process, at least 2.
        learning_rate: at its highest.
        warm_up_steps: see :func:`~litehrnet_cuda.engine.schedule.learning_rate_factor`.
        decay: ``"step"``, ``"cosine"`` or ``"poly"``.
        seed: of initialisation (by the caller), order and augmentation.
        weights: checkpoint that the network starts from (by the caller), as
            :func:`~litehrnet_cuda.models.checkpoints.load_checkpoint` takes it; empty to start from random ones
            (official).
        workers: processes that cut out and augment people, for each that trains; 0 does it in that one.
        validate_every: epochs between validations; the last epoch always validates.
        reference_batch: people per step that ``learning_rate`` is meant for; the rate grows and falls in proportion to
            the people per step that there are, over all processes. 0 takes it as it is.
        accumulate: batches whose gradients make one step.
        clip_norm: longest gradient, over all parameters; 0 does not clip (official).
        ema: decay of a running average of the weights, which is then what is measured and saved; 0 for none (official).
        amp: ``"fp16"`` or ``"bf16"`` computes what is safe in that type; fp16 with a scaled loss.
        sync_batch_norm: let several processes normalise by the batch of all, so that they do what one with the whole
            batch does. Without it each normalises by its own, as in the official recipes, in which blocks stay fused
            and the running statistics are the first process's.
        channels_last: memory format of images and weights.
        compile: ``torch.compile`` the network.
        gradient_checkpointing: compute blocks again in the backward pass instead of keeping what is inside them.
        deterministic: let two runs give equal weights to the bit, where PyTorch can.
        bad_images: ``"stop"`` at an image that cannot be read, or ``"skip"`` it, in validation too.
        save_every: how often the state of the training is saved within an epoch, see :class:`Interval`; it always is
            at an epoch's end.
        optimizer: ``"adam"``, or ``"sgd"``, which has momentum.
        momentum: of ``sgd``.
        weight_decay: of all weights; it ruins training with ``adam``.
        final_rate: what ``cosine`` and ``poly`` fall to, as a share of the highest rate.
    """

    epochs: int = 210
    batch_size: int = 64
    learning_rate: float = 2e-3
    warm_up_steps: int = 500
    decay: Decay = "step"
    seed: int = 0
    weights: str = ""
    workers: int = 0
    validate_every: int = 1
    reference_batch: int = 0
    accumulate: int = 1
    clip_norm: float = 0.0
    ema: float = 0.0
    amp: Precision = "none"
    sync_batch_norm: bool = True
    channels_last: bool = False
    compile: bool = False
    gradient_checkpointing: bool = False
    deterministic: bool = True
    bad_images: BadImages = "stop"
    save_every: str = "10min"
    optimizer: Optimizer = "adam"
    momentum: float = 0.9
    weight_decay: float = 0.0
    final_rate: float = 0.0

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            if not getattr(self, name) >= least:
                raise InputError(f"training.{name}: expected at least {least}, got {getattr(self, name)}")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise InputError(f"training.learning_rate: expected a positive number, got {self.learning_rate}")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise InputError(f"training.{name}: expected one of {', '.join(choices)}, got {getattr(self, name)!r}")
        for name in ("ema", "momentum", "weight_decay", "final_rate"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"training.{name}: expected at least 0 and less than 1, got {getattr(self, name)}")
        Interval.of(self.save_every)

    def outcome(self) -> TrainConfig:
        """The same without what changes how a run goes, but not what comes out."""
        defaults = TrainConfig()
        return replace(self, workers=defaults.workers, save_every=defaults.save_every)

    def peak_learning_rate(self, people_per_step: int) -> float:
        """The highest rate of a run, linear in the people per step if there is a reference to scale by."""
        scale = people_per_step / self.reference_batch if self.reference_batch else 1.0
        return self.learning_rate * scale


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the outcome of a run that trains for poses, beside the data.

    Args:
        model: name of the network.
        input_size: (width, height) of the crops in pixels.
        sigma: of the target heat maps, in heat-map pixels.
        decoder: used in validation; targets are drawn to suit it: ``"dark"`` needs unbiased ones, ``"udp"`` its own.
        flip_test: average with the mirrored image in validation, as the official evaluation does.
        augmentation: of the people.
        training: steps, learning rate and so on.
        data: the kind of data that the recipe is for.
        box_convention: how boxes of COCO's form are clipped to their images, to train and to validate with, see
            :func:`~litehrnet_cuda.data.transforms.clip_annotated_boxes`.
        task: tells recipes of one task from those of another.
    """

    model: str = "litehrnet_18"
    input_size: tuple[int, int] = (192, 256)
    sigma: float = 2.0
    decoder: Decoder = "quarter"
    flip_test: bool = True
    augmentation: Augmentation = field(default_factory=Augmentation)
    training: TrainConfig = field(default_factory=TrainConfig)
    data: DataKind = "any"
    box_convention: BoxConvention = "mmpose1"
    task: Literal["pose"] = "pose"

    def __post_init__(self) -> None:
        require_usable(self.model, self.input_size)
        if not self.sigma > 0:
            raise InputError(f"sigma: expected a positive number of heat-map pixels, got {self.sigma}")

    @property
    def targets(self) -> HeatmapMode:
        """How target heat maps are drawn, see :func:`~litehrnet_cuda.codecs.heatmap.encode_heatmaps`."""
        modes: dict[Decoder, HeatmapMode] = {"dark": "unbiased", "udp": "udp"}
        return modes.get(self.decoder, "gaussian")

    def outcome(self) -> Recipe:
        """The recipe without what changes how a run goes, but not what comes out."""
        return replace(self, training=self.training.outcome())


def require_usable(model: str, input_size: tuple[int, int]) -> None:
    """Raises :class:`InputError` for an unknown network or a size that none takes: sooner is better than later."""
    get_variant(model)
    if not all(MIN_SIZE <= side <= MAX_SIZE for side in input_size):
        raise InputError(f"input_size: expected {MIN_SIZE} to {MAX_SIZE} pixels each way, got {input_size}")


def default_sigma(size: tuple[int, int]) -> float:
    """2 at 192x256 and 3 at 288x384, as published, and in proportion to the height elsewhere, but not below 1."""
    return max(1.0, 2.0 * size[1] / 256)
