"""The training loop: epochs, validations, and the state to go on from. What is learnt is of no account here."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Generic, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from litehrnet_cuda.data.pose_dataset import batches, use_one_thread
from litehrnet_cuda.engine.determinism import deterministic_algorithms
from litehrnet_cuda.engine.distributed import ALONE, Processes
from litehrnet_cuda.engine.interruption import Interruption, ignore_interrupts, orderly_stops
from litehrnet_cuda.engine.learner import Learner, Network
from litehrnet_cuda.engine.log import TrainingLog
from litehrnet_cuda.engine.losses import Loss, heatmap_loss
from litehrnet_cuda.engine.order import BatchOrder
from litehrnet_cuda.engine.recipe import Interval, TrainConfig
from litehrnet_cuda.engine.schedule import learning_rate_factor
from litehrnet_cuda.engine.state import TrainingState, random_states, restore_random_states
from litehrnet_cuda.errors import InputError

CURVE_POINTS = 10  # of the loss in an epoch
_SECONDS_BETWEEN_LOOKS = 1.0  # at the loss, which waits for the device
ADVICE = "try a smaller --batch-size with more --set training.accumulate, or --set training.gradient_checkpointing=true"


@dataclass(frozen=True)
class Validation:
    """What a validation found.

    Args:
        metrics: all figures, for the log.
        score: the one that tells which weights are the best; None if there is none.
        score_name: what it is.
        measured_in: what it was measured in, such as "annotated boxes", for the log.
        show: called by the first process alone with the log so far, that of this epoch included, to draw pictures.
    """

    metrics: dict[str, float]
    score: float | None = None
    score_name: str = "score"
    measured_in: str = ""
    show: Callable[[list[dict[str, Any]]], None] | None = None


class TrainingData(Protocol):
    """Samples that depend on the epoch and their number alone."""

    unit: str  # what they are, such as "people"

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Tensor]: ...

    def set_epoch(self, epoch: int) -> None:
        """Chooses the random numbers of an epoch, from 1."""


def train(
    model: Network,
    dataset: TrainingData,
    config: TrainConfig,
    *,
    loss: Loss = heatmap_loss,
    validate: Callable[[Network], Validation] | None = None,
    keep_best: Callable[[Network], None] | None = None,
    log: TrainingLog | None = None,
    state: TrainingState | None = None,
    state_file: Path | None = None,
    processes: Processes = ALONE,
) -> list[dict[str, Any]]:
    """Trains a network in place. On a CPU equal arguments give equal weights, to the bit, also after an interruption.

    Args:
        model: on the device to train on.
        dataset: people and heat maps, or images and masks.
        config: see :class:`~litehrnet_cuda.engine.recipe.TrainConfig`.
        loss: that suits the network and the data.
        validate: called with the network in evaluation mode after every ``config.validate_every`` epochs, in every
            process, with the same weights; its figures are logged.
        keep_best: called with the network after a validation with a higher score than all before, by the first process
            alone.
        log: tells how it goes; by default nothing is told.
        state: to go on from; by default the beginning.
        state_file: where the state is saved, at every epoch's end and within epochs as ``config.save_every`` says.
        processes: that train together, each with the whole data set.

    Returns:
        the log: one dictionary per epoch with ``epoch``, ``step`` (how many there were since the beginning), ``loss``,
        ``loss_curve`` (the loss of up to ten equal parts of the epoch), ``learning_rate``, ``images_per_second``, and
        what ``validate`` returned: its figures, ``score``, ``score_name`` and ``measured_in``.

    Raises:
        InputError: if there are fewer samples than two for each process, which batch norm needs, or a state is of other
            data; as ``TrainingStopped``, naming the last good state, if the loss is no longer finite, or memory, disk
            or images give out.
        Interrupted: a ``KeyboardInterrupt``, at Ctrl-C or SIGTERM, after the state is saved.
    """
    if len(dataset) < 2 * processes.count:
        many = f" in each of {processes.count} processes" if processes.count > 1 else ""
        raise InputError(f"train: expected at least two {dataset.unit} to train with{many}, got {len(dataset)}")
    state = state or TrainingState({}, len(dataset))
    if state.people != len(dataset):
        raise InputError(
            f"train: expected the {state.people} {dataset.unit} that the training was begun with, got "
            f"{len(dataset)}; go on with the same data, or train anew with --restart"
        )
    run = _Run(
        Learner(model, config, processes, loss=loss),
        dataset,
        config,
        validate,
        keep_best,
        log or TrainingLog(progress=False),
        state,
        state_file,
        processes,
    )
    with deterministic_algorithms(config.deterministic), orderly_stops(run.resort, ADVICE), Interruption() as stop:
        # What is there is thousands of objects, which Python would look through for garbage again and again.
        gc.collect()
        gc.freeze()
        try:
            with run.log:
                run.go(stop)
        finally:
            gc.unfreeze()
    return state.history


@dataclass
class _Run(Generic[Network]):
    """A run on its way. ``state`` is where it is: the steps write it, and saving it is all that saving takes."""

    learner: Learner[Network]
    dataset: TrainingData
    config: TrainConfig
    validate: Callable[[Network], Validation] | None
    keep_best: Callable[[Network], None] | None
    log: TrainingLog
    state: TrainingState
    state_file: Path | None
    processes: Processes
    unread: list[Tensor] = field(default_factory=list)  # losses of steps, on the device
    saved: str = ""  # what was, in words

    def __post_init__(self) -> None:
        config, state = self.config, self.state
        self.order = BatchOrder(
            len(self.dataset),
            config.batch_size,
            config.seed,
            rank=self.processes.rank,
            processes=self.processes.count,
        )
        everywhere = self.order.batch_size * self.processes.count
        self.steps_per_epoch = -(-self.order.per_epoch // config.accumulate)
        self.scheduled_steps = config.epochs * self.steps_per_epoch
        self.peak_rate = config.peak_learning_rate(everywhere * config.accumulate)
        self.interval = Interval.of(config.save_every)
        if state.batch_size != everywhere or state.batches > self.order.per_epoch:  # also where nothing is done yet
            done = state.batches * state.batch_size // everywhere
            state.batches = min(done, self.order.per_epoch) // config.accumulate * config.accumulate
            state.batch_size = everywhere
        self.total_steps = self.step + self.scheduled_steps - self.scheduled_step
        if state.learner:
            self.learner.load_state_dict(state.learner)
            restore_random_states(state.random)
            self.saved = self._place()
        self.loader: DataLoader[dict[str, Tensor]] = DataLoader(
            self.dataset,  # type: ignore[arg-type]  # which is no Dataset by name
            batch_sampler=self.order,
            num_workers=config.workers,
            worker_init_fn=_start_worker,
            persistent_workers=config.workers > 0,
            pin_memory=self.learner.device.type == "cuda",
            generator=torch.Generator().manual_seed(config.seed),  # leaves the global one alone
        )

    @property
    def step(self) -> int:
        """Steps that are done since the beginning, whatever the batches of each were."""
        history = self.state.history
        return (history[-1]["step"] if history else 0) + len(self.state.losses) + len(self.unread)

    @property
    def scheduled_step(self) -> int:
        """The place in the run that decides the rate: the steps it would have taken with the batches of now."""
        within = -(-self.state.batches // self.config.accumulate)
        return (self.state.epoch - 1) * self.steps_per_epoch + within

    def resort(self) -> str:
        """What there is to go on from, in words."""
        if self.state_file is None:
            return "no state of the training was to be saved"
        if not self.saved:
            return "no state of the training was saved yet"
        return f"the last good state is {self.state_file} ({self.saved})"

    def go(self, stop: Interruption) -> None:
        state, config = self.state, self.config
        self.log.begin(config.epochs, self.total_steps, self.step, state.history)
        while state.epoch <= config.epochs:
            if state.record is None:
                self._train_epoch(stop)
                state.record = self._record()
                self._save()
            with stop.at_once():  # everything so far is saved
                self._validate(state.record)
            self.log.epoch(state.record)
            state.history.append(state.record)
            state.record, state.losses = None, []
            state.epoch, state.batches = state.epoch + 1, 0
            self._save()
        self.learner.export()

    def _train_epoch(self, stop: Interruption) -> None:
        state, processes = self.state, self.processes
        self.dataset.set_epoch(state.epoch)
        self.order.start(state.epoch, state.batches)
        self.started = self.looked = self.saved_at = time.monotonic()
        self.done = steps = 0
        source = iter(batches(self.loader))
        while group := _take(source, self.config.accumulate):
            self._seed_step()
            self.unread.append(self.learner.step(group, self._rate()))
            state.batches += len(group)
            self.done += len(group)
            steps += 1
            self.log.advance()
            now = time.monotonic()
            due = processes.first and self._is_due(steps, now)
            look = processes.first and now - self.looked > _SECONDS_BETWEEN_LOOKS
            stopping, saving, looking = processes.any(stop.requested, due, look)
            if stopping or saving:
                self._read_losses()
                self._save()
                self.saved_at = time.monotonic()
            elif looking:
                self._read_losses()
            if looking:
                self.looked = now
                self.log.show(state.epoch, state.losses[-1], self._rate(), self._speed())
            if stopping:
                raise KeyboardInterrupt
        self._read_losses()

    def _seed_step(self) -> None:
        """Makes the random numbers of a step, those of dropout, depend on its place and the process alone."""
        place = (self.config.seed, self.state.epoch, self.state.batches, self.processes.rank)
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))

    def _rate(self, ago: int = 0) -> float:
        """The rate of the next step, or of one that many steps before."""
        return self.peak_rate * learning_rate_factor(
            self.scheduled_step - ago,
            self.scheduled_steps,
            warm_up_steps=self.config.warm_up_steps,
            decay=self.config.decay,
            final=self.config.final_rate,
        )

    def _is_due(self, steps: int, now: float) -> bool:
        """Whether the state is to be saved within the epoch; it always is at the end."""
        if self.state.batches == self.order.per_epoch:
            return False
        if self.interval.steps is not None:
            return steps % self.interval.steps == 0
        return self.interval.seconds is not None and now - self.saved_at >= self.interval.seconds

    def _speed(self) -> float:
        """Images per second over all processes, in this epoch."""
        return self.done * self.state.batch_size / max(1e-9, time.monotonic() - self.started)

    def _read_losses(self) -> None:
        """Waits for the steps so far, and looks whether the loss is a number still."""
        if not self.unread:
            return
        losses = self.processes.mean(torch.stack(self.unread).cpu()).tolist()
        self.unread.clear()
        self.state.losses += losses
        if not all(map(math.isfinite, losses)):
            raise InputError(
                f"the loss is no longer finite in epoch {self.state.epoch}; a lower learning rate than "
                f"{self.config.learning_rate}, or --set training.clip_norm=1, may help"
            )

    def _record(self) -> dict[str, Any]:
        losses = torch.tensor(self.state.losses, dtype=torch.float64)
        parts = losses.tensor_split(min(CURVE_POINTS, len(losses)))
        return {
            "epoch": self.state.epoch,
            "step": self.step,
            "loss": losses.mean().item(),
            "loss_curve": [part.mean().item() for part in parts],
            "learning_rate": self._rate(ago=1),
            "images_per_second": round(self._speed(), 1),
        }

    def _validate(self, record: dict[str, Any]) -> None:
        epoch, config = self.state.epoch, self.config
        if self.validate is None or not (epoch % config.validate_every == 0 or epoch == config.epochs):
            return
        network = self.learner.export()
        found = self.validate(network)
        record |= found.metrics
        if found.measured_in:
            record["measured_in"] = found.measured_in
        if found.score is not None:
            record |= {"score": found.score, "score_name": found.score_name}
            if self.state.best is None or found.score > self.state.best:
                self.state.best = found.score
                if self.keep_best is not None and self.processes.first:
                    self.keep_best(network)
        if found.show is not None and self.processes.first:
            found.show([*self.state.history, record])
        self.processes.wait()

    def _save(self) -> None:
        """Saves the state, if it is one to go on from."""
        (broken,) = self.processes.any(not self.learner.is_finite())
        if broken:
            raise InputError(
                f"the weights are no longer finite in epoch {self.state.epoch}; a lower learning rate than "
                f"{self.config.learning_rate}, or --set training.clip_norm=1, may help"
            )
        if self.state_file is None or not self.processes.first:
            return
        self.state.learner, self.state.random = self.learner.state_dict(), random_states()
        self.state.save(self.state_file)
        self.saved = self._place()

    def _place(self) -> str:
        done = f"epoch {self.state.epoch}" if self.state.batches else f"the end of epoch {self.state.epoch - 1}"
        return f"{done}, step {self.step} of {self.total_steps}"


def _take(source: Iterator[dict[str, Tensor]], count: int) -> list[dict[str, Tensor]]:
    """The next batches; fewer at an epoch's end."""
    return list(islice(source, count))


def _start_worker(worker_id: int) -> None:
    use_one_thread(worker_id)
    ignore_interrupts()
