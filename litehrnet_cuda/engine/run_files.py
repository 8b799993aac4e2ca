"""Where a training run leaves its results."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFiles:
    """Where a run leaves its results."""

    folder: Path

    @property
    def checkpoint(self) -> Path:
        """The trained weights, with what is needed to use them."""
        return self.folder / "model.safetensors"

    @property
    def best(self) -> Path:
        """The weights with the highest score in a validation."""
        return self.folder / "best.safetensors"

    @property
    def state(self) -> Path:
        """What the training goes on from."""
        return self.folder / "state.pt"

    @property
    def recipe(self) -> Path:
        """Everything that decided the outcome, beside the data."""
        return self.folder / "recipe.json"

    @property
    def log(self) -> Path:
        """One JSON object per epoch."""
        return self.folder / "log.jsonl"

    @property
    def tensorboard(self) -> Path:
        """A folder of TensorBoard's files, where it is installed."""
        return self.folder / "tensorboard"

    @property
    def metrics(self) -> Path:
        """Accuracy on the part to validate with."""
        return self.folder / "metrics.json"

    @property
    def curve(self) -> Path:
        """Loss and accuracy over the steps."""
        return self.folder / "curve.png"

    @property
    def predictions(self) -> Path:
        """Predictions beside the truth."""
        return self.folder / "predictions.png"

    @property
    def worst_and_best(self) -> Path:
        """The people or images that were found worst, and those that were found best."""
        return self.folder / "worst_and_best.png"

    def clear(self) -> None:
        """Removes what an earlier run left."""
        pictures = (self.curve, self.predictions, self.worst_and_best)
        for file in (self.checkpoint, self.best, self.state, self.log, self.metrics, *pictures):
            file.unlink(missing_ok=True)
        shutil.rmtree(self.tensorboard, ignore_errors=True)
