"""What a training run tells: a progress bar, a line per epoch, a file of JSON lines, and TensorBoard's where it is."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from litehrnet_cuda.files import written_whole

# What an epoch's record says of the training; everything else in it is of its validation.
_OF_TRAINING = ("epoch", "step", "loss", "loss_curve", "learning_rate", "images_per_second")
_OF_SCORE = ("score", "score_name", "measured_in")


class TrainingLog:
    """Tells how a run goes. A context: it closes what it has opened.

    Args:
        file: gets one JSON object per epoch, as it happens; None for no file.
        tensorboard: folder of TensorBoard's files; None, or no TensorBoard installed, for none.
        progress: print lines, and show a bar where standard error is a terminal.
    """

    def __init__(self, file: Path | None = None, *, tensorboard: Path | None = None, progress: bool = True) -> None:
        self._file = file
        self._folder = tensorboard
        self._progress = progress
        self._bar: Any = None
        self._writer: Any = None

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()
        if self._writer is not None:
            self._writer.close()

    def begin(self, epochs: int, total_steps: int, step: int, history: list[dict[str, Any]]) -> None:
        """Starts, or goes on after ``step`` with the records of the epochs so far, so that none is there twice."""
        self._epochs = epochs
        self._last = history[-1]["step"] if history else 0  # step that the curve was drawn up to
        if self._file is not None:
            with written_whole(self._file) as draft:
                draft.write_text("".join(json.dumps(record) + "\n" for record in history))
        if self._folder is not None:
            self._writer = _tensorboard_writer(self._folder, purge_step=step + 1 if step else None)
        if step and self._progress:
            self.say(f"going on at step {step} of {total_steps}")
        self._bar = tqdm(
            total=total_steps, initial=step, desc="train", unit="step", disable=None if self._progress else True
        )

    def advance(self) -> None:
        """One step is done."""
        self._bar.update()

    def show(self, epoch: int, loss: float, learning_rate: float, images_per_second: float) -> None:
        """How it goes at the moment."""
        self._bar.set_description(f"epoch {epoch}/{self._epochs}", refresh=False)
        self._bar.set_postfix_str(f"loss {loss:.2e}, rate {learning_rate:.1e}, {images_per_second:.0f} images/s")

    def epoch(self, record: Mapping[str, Any]) -> None:
        """An epoch is done: a line in the file and a line that stays on the screen, also where there is no bar."""
        if self._file is not None:
            with self._file.open("a") as file:
                file.write(json.dumps(record) + "\n")
        score = []
        if "score" in record:
            skipped = f"{record['skipped_images']} images skipped" if "skipped_images" in record else ""
            remarks = ", ".join(filter(None, (record.get("measured_in"), skipped)))
            score = [score_label(f"{record['score_name']} {record['score']:.3f}", remarks)]
        parts = [f"epoch {record['epoch']}/{self._epochs}", f"loss {record['loss']:.2e}", *score]
        self.say(", ".join([*parts, f"{record['images_per_second']:.0f} images/s"]))
        if self._writer is not None:
            self._write_scalars(record)
        self._last = record["step"]

    def say(self, line: str) -> None:
        """A line that stays, above the bar."""
        if self._progress:
            tqdm.write(line, file=sys.stderr)

    def _write_scalars(self, record: Mapping[str, Any]) -> None:
        last, losses = record["step"], record["loss_curve"]
        steps = last - self._last  # in this epoch
        for place, loss in enumerate(losses, 1):
            self._writer.add_scalar("train/loss", loss, last - steps + round(steps * place / len(losses)))
        for name in ("learning_rate", "images_per_second"):
            self._writer.add_scalar(f"train/{name}", record[name], last)
        for name, value in record.items():
            if name not in _OF_TRAINING + _OF_SCORE and isinstance(value, int | float) and value >= 0:  # -1: of nothing
                self._writer.add_scalar(f"validation/{score_label(name, record.get('measured_in', ''))}", value, last)
        self._writer.flush()


def _tensorboard_writer(folder: Path, purge_step: int | None) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:  # not installed
        return None
    return SummaryWriter(str(folder), purge_step=purge_step)


def score_label(name: str, remark: str) -> str:
    """What a figure is called where it stands alone, such as ``"AP (annotated boxes)"``."""
    return f"{name} ({remark})" if remark else name


def curve(history: list[dict[str, Any]]) -> list[dict[str, float]]:
    """The points of a training curve: the loss within the epochs; rate and score, where it was measured, after them."""
    rows: list[dict[str, float]] = []
    before = 0
    for record in history:
        losses, after = record["loss_curve"], record["step"]
        width = (after - before) / len(losses)
        rows += [{"step": before + (i + 0.5) * width, "loss": loss} for i, loss in enumerate(losses)]
        score = {}
        if "score" in record:
            score = {score_label(record["score_name"], record.get("measured_in", "")): record["score"]}
        rows.append({"step": after, "learning_rate": record["learning_rate"], **score})
        before = after
    return rows
