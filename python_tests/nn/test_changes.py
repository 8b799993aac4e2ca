"""What counts as a change of a module."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from litehrnet_cuda.nn.changes import ModuleState


def make() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4), nn.Sequential(nn.ReLU())).eval()


def forward_in_training(model: nn.Sequential) -> None:
    model.train()(torch.ones(2, 3, 4, 4))


CHANGES: dict[str, Callable[[nn.Sequential], object]] = {
    "write": lambda model: model[1].running_mean.add_(1),
    "step": lambda model: torch.optim.SGD(model.parameters(), lr=0.1).step(lambda: model(torch.ones(1, 3, 2, 2)).sum()),
    "statistics": forward_in_training,
    "load": lambda model: model.load_state_dict(make().state_dict()),
    "assign": lambda model: model.load_state_dict(make().state_dict(), assign=True),
    "dtype": lambda model: model.double(),
    "memory": lambda model: setattr(model[0].weight, "data", model[0].weight.data.clone()),
    "parameter": lambda model: setattr(model[1], "weight", nn.Parameter(torch.ones(4))),
    "bias": lambda model: setattr(model[0], "bias", nn.Parameter(torch.ones(4))),
    "part": lambda model: model.__setitem__(2, nn.ReLU()),
    "deep part": lambda model: model[2].__setitem__(0, nn.ReLU()),
    "last part": lambda model: model.__delitem__(2),
    "hook": lambda model: model[2][0].register_forward_hook(lambda *_: None),
    "pre-hook": lambda model: model[0].register_forward_pre_hook(lambda *_: None),
    "forward": lambda model: setattr(model[2], "forward", lambda x: x),
}


@pytest.mark.parametrize("name", CHANGES)
def test_change_is_seen(name: str) -> None:
    model = make()
    state = ModuleState(model)
    assert state.is_current()
    with torch.set_grad_enabled(name == "step"):
        if name == "step":
            model(torch.ones(1, 3, 2, 2)).sum().backward()
        CHANGES[name](model)
    assert not state.is_current()
    assert ModuleState(model).is_current()


def test_use_is_no_change() -> None:
    model = make()
    state = ModuleState(model)
    model(torch.ones(1, 3, 2, 2)).sum().backward()
    model.train()
    model.requires_grad_(False)
    model.state_dict()
    assert state.is_current()
    assert state.is_counted


def test_removed_hook_is_a_change() -> None:
    model = make()
    handle = model.register_forward_hook(lambda *_: None)
    state = ModuleState(model)
    assert state.is_current()
    handle.remove()
    assert not state.is_current()


def test_of_inference_tensors_nothing_is_known() -> None:
    with torch.inference_mode():
        model = make()
        state = ModuleState(model)
        assert not state.is_counted
        assert not state.is_current()


def test_tensors_are_parameters_and_buffers() -> None:
    model = make()
    expected = [*model.parameters(), *model.buffers()]
    assert sorted(map(id, ModuleState(model).tensors)) == sorted(map(id, expected))
