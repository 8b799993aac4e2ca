"""A network together with all that changes it: optimizer, precision, averages, and other processes."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from litehrnet_cuda.engine.average import WeightAverage
from litehrnet_cuda.engine.distributed import ALONE, Processes
from litehrnet_cuda.engine.losses import Loss, heatmap_loss
from litehrnet_cuda.engine.recipe import TrainConfig
from litehrnet_cuda.engine.sync_batch_norm import synchronize_batch_norm
from litehrnet_cuda.errors import InputError

_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
Network = TypeVar("Network", bound=nn.Module)

_FUSED_OPTIMIZERS = ("cpu", "cuda")
# Running statistics are not sent around at every step: in training nothing depends on them, and what is saved is the
# first process's. The option's name has changed, and the old one warns.
_OPTIONS = inspect.signature(DistributedDataParallel).parameters
_WITHOUT_BUFFERS: dict[str, Any] = {
    "forward_sync_buffers" if "forward_sync_buffers" in _OPTIONS else "broadcast_buffers": False
}


class Learner(Generic[Network]):
    """Takes optimizer steps.

    Args:
        model: the network, plain, on the device to train on. It holds the result after :meth:`export`.
        config: see :class:`~litehrnet_cuda.engine.recipe.TrainConfig`.
        processes: that train the same network, each on its part of a batch.
        loss: of what the network returns, and a batch.
    """

    def __init__(
        self, model: Network, config: TrainConfig, processes: Processes = ALONE, *, loss: Loss = heatmap_loss
    ) -> None:
        self.config = config
        self.device = next(model.parameters()).device
        self._result = model
        self._processes = processes
        self._loss_of = loss
        several = processes.count > 1
        # What is trained is the network itself, unless there are other weights to measure and save than its own, or
        # other layers in it.
        self.network = copy.deepcopy(model) if several or config.ema else model
        if several and config.sync_batch_norm:
            synchronize_batch_norm(self.network)
        if config.channels_last:
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._forward: nn.Module = self.network
        self._parallel: DistributedDataParallel | None = None
        if several:
            ids = [self.device.index] if self.device.type == "cuda" else None
            self._forward = self._parallel = DistributedDataParallel(self.network, device_ids=ids, **_WITHOUT_BUFFERS)
        if config.compile:
            self._forward = torch.compile(self._forward)  # type: ignore[assignment]
        self.optimizer = _optimizer(config, self.network, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.amp == "fp16")
        self.average = WeightAverage(self.network, config.ema) if config.ema else None

    def step(self, batches: Sequence[dict[str, Tensor]], learning_rate: float) -> Tensor:
        """One step against the gradient of the mean loss of some batches.

        Args:
            batches: with ``image`` and what the loss takes, as of
                :class:`~litehrnet_cuda.data.pose_dataset.PoseDataset` and
                :class:`~litehrnet_cuda.data.mask_dataset.MaskDataset`.
            learning_rate: of this step.

        Returns:
            the loss before the step, on the device: to read it is to wait for it.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        if not self.network.training:
            self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        losses = []
        for number, batch in enumerate(batches, 1):
            with ExitStack() as contexts:
                if number < len(batches) and self._parallel is not None:
                    contexts.enter_context(self._parallel.no_sync())
                loss = self._loss(batch) / len(batches)
                self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        if self.config.clip_norm:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update(self.network)
        return torch.stack(losses).sum()

    def _loss(self, batch: dict[str, Tensor]) -> Tensor:
        batch = {name: value.to(self.device, non_blocking=True) for name, value in batch.items()}
        image = batch["image"]
        if self.config.channels_last:
            image = image.contiguous(memory_format=torch.channels_last)
        dtype = _DTYPES.get(self.config.amp)
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            outputs = self._forward(image)
        return self._loss_of(outputs.float() if dtype else outputs, batch)

    def export(self) -> Network:
        """The network to measure and to save, plain and in evaluation mode: with the average weights if there are any.

        It is the one that the learner was made with, and stays as it is until the next call or step. All processes have
        to call this, and get the first one's, also where each has running statistics of its own.
        """
        if self.average is not None:
            self._result.load_state_dict(self.average.values)
        elif self._result is not self.network:
            self._result.load_state_dict(self.network.state_dict())
        self._processes.copy_first(self._result.state_dict().values())
        return self._result.eval()

    def is_finite(self) -> bool:
        """Whether all weights and running statistics are numbers still."""
        values = [value for value in self.network.state_dict().values() if value.is_floating_point()]
        return bool(torch.isfinite(torch.stack(torch._foreach_norm(values, float("inf")))).all())

    def state_dict(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what :meth:`state_dict` returned.

        Raises:
            InputError: if it is of another network, see :func:`require_fitting`.
        """
        require_fitting(state, self.network)
        self.network.load_state_dict(state["network"])
        asked = [dict(group) for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, settings in zip(self.optimizer.param_groups, asked, strict=True):  # of the recipe, which may be new
            group |= {name: settings[name] for name in ("weight_decay", "momentum") if name in settings}
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        if self.average is not None and state["average"] is not None:
            self.average.load_state_dict(state["average"])
        elif self.average is not None:  # asked for since: it begins here, not with untrained weights
            self.average = WeightAverage(self.network, self.config.ema)


def _optimizer(config: TrainConfig, network: nn.Module, device: torch.device) -> torch.optim.Optimizer:
    rate, decay, fused = config.learning_rate, config.weight_decay, device.type in _FUSED_OPTIMIZERS
    if config.optimizer == "sgd":
        return torch.optim.SGD(network.parameters(), lr=rate, momentum=config.momentum, weight_decay=decay, fused=fused)
    return torch.optim.Adam(network.parameters(), lr=rate, weight_decay=decay, fused=fused)


def require_fitting(state: Mapping[str, Any], model: nn.Module) -> None:
    """Compares what :meth:`Learner.state_dict` returned with the network that is to go on from it.

    Raises:
        InputError: if its tensors have other names or shapes, as those of a network for other joints have.
    """
    theirs: Mapping[str, Tensor] = state["network"]
    ours = model.state_dict()
    for name in dict.fromkeys((*ours, *theirs)):
        expected, found = (list(one[name].shape) if name in one else "none" for one in (ours, theirs))
        if expected != found:
            raise InputError(
                f"expected the state of a network with {name} of shape {expected}, got {found}: it was trained for "
                "other joints or classes, or is another network"
            )
