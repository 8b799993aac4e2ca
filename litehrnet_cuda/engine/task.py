"""What a network is trained for: all that a run has to know of it, beside the loop and the files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import nn

from litehrnet_cuda.engine.distributed import Processes
from litehrnet_cuda.engine.losses import Loss
from litehrnet_cuda.engine.train import TrainingData
from litehrnet_cuda.models.checkpoint_files import CheckpointMetadata

Array = np.ndarray[Any, Any]


class Found(Protocol):
    """What an evaluation found."""

    @property
    def metrics(self) -> dict[str, float]:
        """All figures, the most telling first."""

    @property
    def score_name(self) -> str:
        """What :attr:`score` is called."""

    @property
    def score(self) -> float:
        """The figure to choose a checkpoint by."""

    @property
    def measured_in(self) -> str:
        """What was looked at, in words, such as "annotated boxes"."""

    @property
    def skipped(self) -> Mapping[int, str]:
        """What could not be read, by number, and what is wrong with each."""


FoundT = TypeVar("FoundT", bound=Found)
Predictor = TypeVar("Predictor")


class Task(ABC, Generic[Predictor, FoundT]):
    """A recipe and its data.

    Attributes:
        metadata: of the checkpoints.
        samples: how many there are to train with.
        digests: by part, what tells the data from others.
        measure: what decides the score, beside network and data; only scores of equal measures compare.
        remarks: what whoever trains should know, in sentences.
        loss: of what the network returns.
    """

    metadata: CheckpointMetadata
    samples: int
    digests: dict[str, str]
    measure: dict[str, Any]
    remarks: list[str]
    loss: Loss

    @abstractmethod
    def create_network(self, device: torch.device) -> nn.Module:
        """A network that has learnt nothing."""

    @abstractmethod
    def dataset(self) -> TrainingData:
        """What to learn from.

        Raises:
            InputError: if files that are needed to train or to validate are absent.
        """

    @abstractmethod
    def predictor(self, network: nn.Module | Path, device: torch.device) -> Predictor:
        """What uses a network, or a checkpoint."""

    @abstractmethod
    def evaluate(self, predictor: Predictor, processes: Processes, progress: bool) -> FoundT:
        """How good a predictor is on the part to validate with."""

    @abstractmethod
    def details(self, found: FoundT) -> dict[str, Any]:
        """What to tell beside the figures, as plain values."""

    @abstractmethod
    def pictures(self, predictor: Predictor, found: FoundT) -> tuple[Array, Array]:
        """Predictions beside the truth, and the worst beside the best, ``[H, W, 3]`` uint8 BGR each."""
