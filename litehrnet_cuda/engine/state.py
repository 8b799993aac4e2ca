"""The state of a training run as a file, from which it goes on as if it had never stopped.

The states of the generators of random numbers are those of the first process, which all take. That is enough, because
no step depends on them: order and augmentation have generators of their own, made from seed, epoch and sample, and
PyTorch's, which dropout draws from, is seeded at every step from its place and the process. They are kept for what a
user's own code may draw.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.files import written_whole

FORMAT = 1


@dataclass
class TrainingState:
    """Everything that the rest of a run depends on.

    Args:
        recipe: all settings, as JSON has them.
        people: number of people, or of images, to train with.
        epoch: the current one, from 1.
        batches: how many of it are done.
        batch_size: over all processes, that ``batches`` counts.
        losses: of the steps of the epoch.
        history: the log of the epochs that are done.
        record: of an epoch that is done but for its validation.
        best: the highest score of a validation.
        data: what the training was begun with, by part (``"train"``, ``"val"``), in words that tell it from other data.
        measure: what else decides the score, by name, such as the decoder; only scores of equal measures compare.
        learner: network, optimizer, scaler and average.
        random: states of the generators of random numbers.
    """

    recipe: dict[str, Any]
    people: int
    epoch: int = 1
    batches: int = 0
    batch_size: int = 0
    losses: list[float] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    record: dict[str, Any] | None = None
    best: float | None = None
    data: dict[str, str] = field(default_factory=dict)
    measure: dict[str, Any] = field(default_factory=dict)
    learner: dict[str, Any] = field(default_factory=dict)
    random: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Writes the state, whole or not at all, and to the disk rather than to what a crash forgets.

        Raises:
            InputError: if it cannot be written, as on a full disk; an earlier state is then still there.
        """
        content = {"format": FORMAT, **{item.name: getattr(self, item.name) for item in fields(self)}}
        # Into an open file, because torch's own way of writing to a path keeps the reason of a failure to itself.
        with written_whole(path, durable=True) as draft, draft.open("wb") as file:
            torch.save(content, file)

    @classmethod
    def load(cls, path: Path) -> TrainingState:
        """Reads a state, without running what a file says.

        Raises:
            InputError: if there is none, or it is damaged or of another version.
        """
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            raise InputError(f"{path}: expected the state of a training to go on from, and there is none") from None
        except Exception as error:  # torch has no one error for what is none of its files
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(
                f"{path}: expected the state of a training, and it cannot be read: {reason:.200}"
            ) from None
        known = {item.name for item in fields(cls)}
        if not isinstance(content, dict) or content.pop("format", None) != FORMAT or not known >= content.keys():
            raise InputError(f"{path}: expected the state of a training in format {FORMAT}; train anew with --restart")
        return cls(**content)


def random_states() -> dict[str, Any]:
    """The states of all generators: Python's, numpy's, and PyTorch's on all devices."""
    version, numbers, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": (version, list(numbers), gauss),
        "numpy": (name, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Sets the generators to what :func:`random_states` found. GPUs that are not here are left out."""
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(states["torch"])
    cuda: list[Tensor] = states["cuda"]
    if cuda and len(cuda) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(cuda)
