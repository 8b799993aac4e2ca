"""A running average of a network's weights, which generalises better than the last of them."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average of parameters and running statistics.

    Args:
        model: the network to follow; the average begins as a copy of it.
        decay: weight of the past, 0 to 1. At first (1 + n) / (10 + n) is less and is taken instead, so that short runs
            are not the average of an untrained network.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.values = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Moves the average towards the network, after a step."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        pairs = [(self.values[name], value) for name, value in model.state_dict().items()]
        moving = [(average, value) for average, value in pairs if average.is_floating_point()]
        torch._foreach_lerp_([average for average, _ in moving], [value for _, value in moving], 1 - decay)
        for average, value in pairs:
            if not average.is_floating_point():  # counts of batches
                average.copy_(value)

    def state_dict(self) -> dict[str, int | dict[str, Tensor]]:
        return {"updates": self.updates, "values": copy.copy(self.values)}

    def load_state_dict(self, state: dict[str, int | dict[str, Tensor]]) -> None:
        updates, values = state["updates"], state["values"]
        assert isinstance(updates, int)
        assert isinstance(values, dict)
        self.updates = updates
        for name, value in values.items():
            self.values[name].copy_(value)
