"""Training of pose networks."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler
from tqdm import tqdm

from litehrnet_cuda.data.pose_dataset import PoseDataset, batches, use_one_thread
from litehrnet_cuda.engine.schedule import DECAYS, Decay, learning_rate_factor
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.models.litehrnet import PoseNetwork

# A batch of one person has no batch statistics where the lowest resolution is one pixel.
_LEAST = {"epochs": 1, "batch_size": 2, "validate_every": 1, "workers": 0, "warm_up_steps": 0}


CURVE_POINTS = 10  # of the loss in an epoch


@dataclass(frozen=True)
class TrainConfig:
    """How to train. Learning rate, optimizer and warm-up are those of the official recipe (Adam without weight decay).

    Args:
        epochs: passes over the data.
        batch_size: people per step, at least 2.
        learning_rate: at its highest.
        warm_up_steps: see :func:`~litehrnet_cuda.engine.schedule.learning_rate_factor`.
        decay: ``"step"`` or ``"cosine"``.
        seed: of initialisation (by the caller), order and augmentation.
        workers: processes that cut out and augment people; 0 does it in this one.
        validate_every: epochs between validations; the last epoch always validates.
    """

    epochs: int = 210
    batch_size: int = 64
    learning_rate: float = 2e-3
    warm_up_steps: int = 500
    decay: Decay = "step"
    seed: int = 0
    workers: int = 0
    validate_every: int = 1

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise InputError(f"TrainConfig: {name}: expected at least {least}, got {getattr(self, name)}")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise InputError(f"TrainConfig: learning_rate: expected a positive number, got {self.learning_rate}")
        if self.decay not in DECAYS:
            raise InputError(f"TrainConfig: decay: expected one of {', '.join(DECAYS)}, got {self.decay!r}")


def joints_mse_loss(heatmaps: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Mean squared error of heat maps, weighted per joint (official: ``JointsMSELoss`` with target weights).

    Args:
        heatmaps, targets: ``[N, K, h, w]``.
        weights: ``[N, K]``; 0 leaves a joint out. Joints that are left out still count in the mean.
    """
    weights = weights[..., None, None]
    return (heatmaps * weights - targets * weights).square().mean()


def train(
    model: PoseNetwork,
    dataset: PoseDataset,
    config: TrainConfig,
    *,
    log_file: Path | None = None,
    validate: Callable[[PoseNetwork], dict[str, float]] | None = None,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Trains a network in place. On a CPU equal arguments give equal weights, to the bit.

    Args:
        model: on the device to train on.
        dataset: people and heat maps.
        config: see :class:`TrainConfig`.
        log_file: one JSON object per epoch is written as it happens.
        validate: called with the network in evaluation mode after every ``config.validate_every`` epochs; its figures
            are logged.
        progress: show a progress bar.

    Returns:
        the log: one dictionary per epoch with ``epoch``, ``step`` (the last), ``loss``, ``loss_curve`` (the loss of up
        to ten equal parts of the epoch), ``learning_rate``, ``images_per_second``, and what ``validate`` returned.

    Raises:
        InputError: if there are fewer people than two, which batch norm needs, or if the loss is no longer finite.
    """
    if len(dataset) < 2:
        raise InputError(f"train: expected at least two people to train with, got {len(dataset)}")
    device = next(model.parameters()).device
    loader = DataLoader(
        dataset,
        batch_size=min(config.batch_size, len(dataset)),
        # A sampler of its own: the loader draws seeds for workers too, so the order would depend on their number.
        sampler=RandomSampler(dataset, generator=torch.Generator().manual_seed(config.seed)),
        drop_last=True,  # a last batch of one person would have no batch statistics
        num_workers=config.workers,
        worker_init_fn=use_one_thread,
        persistent_workers=config.workers > 0,
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    total_steps = config.epochs * len(loader)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: learning_rate_factor(step, total_steps, warm_up_steps=config.warm_up_steps, decay=config.decay),
    )
    history: list[dict[str, Any]] = []
    steps = 0
    if log_file is not None:
        log_file.write_text("")
    with tqdm(total=total_steps, desc="train", unit="step", disable=None if progress else True) as bar:
        for epoch in range(1, config.epochs + 1):
            model.train()
            dataset.set_epoch(epoch)
            started, images = time.perf_counter(), 0
            losses: list[Tensor] = []  # on the device: reading one would wait for it
            for batch in batches(loader):
                image, target, weight = (batch[name].to(device) for name in ("image", "heatmaps", "weights"))
                loss = joints_mse_loss(model(image), target, weight)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                learning_rate = optimizer.param_groups[0]["lr"]
                schedule.step()
                losses.append(loss.detach())
                images += len(image)
                steps += 1
                bar.update()
            by_step = torch.stack(losses)
            mean_loss = by_step.mean().item()
            if not math.isfinite(mean_loss):
                raise InputError(
                    f"the loss is no longer finite in epoch {epoch}; a lower learning rate than "
                    f"{config.learning_rate} may help"
                )
            record: dict[str, Any] = {
                "epoch": epoch,
                "step": steps,
                "loss": mean_loss,
                "loss_curve": [part.mean().item() for part in by_step.tensor_split(min(CURVE_POINTS, len(losses)))],
                "learning_rate": learning_rate,
                "images_per_second": round(images / (time.perf_counter() - started), 1),
            }
            if validate is not None and (epoch % config.validate_every == 0 or epoch == config.epochs):
                model.eval()
                record |= validate(model)
            history.append(record)
            if progress:  # a line that stays, also where there is no terminal for a bar
                shown = [f"{name} {record[name]:.3f}" for name in ("AP",) if name in record]
                line = [f"epoch {epoch}/{config.epochs}", f"loss {mean_loss:.2e}", *shown]
                tqdm.write(", ".join([*line, f"{record['images_per_second']:.0f} images/s"]), file=sys.stderr)
            if log_file is not None:
                with log_file.open("a") as log:
                    log.write(json.dumps(record) + "\n")
    model.eval()
    return history
