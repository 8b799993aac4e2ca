"""The running average of weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from litehrnet_cuda.engine.average import WeightAverage


def test_it_is_the_exponential_average_with_a_start_that_forgets() -> None:
    model = nn.BatchNorm2d(2)
    average = WeightAverage(model, 0.5)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    for step in range(1, 12):
        with torch.no_grad():
            for value in model.parameters():
                value.normal_()
        model(torch.randn(4, 2, 3, 3))
        average.update(model)
        decay = min(0.5, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            kept = value if name == "num_batches_tracked" else decay * expected[name] + (1 - decay) * value
            expected[name] = kept.clone()
    assert decay == 0.5, "the given decay is reached"
    for name, value in expected.items():
        torch.testing.assert_close(average.values[name], value)  # float32, a sum of two products


def test_it_goes_on_from_its_state() -> None:
    model = nn.Linear(2, 2)
    one, other = WeightAverage(model, 0.9), WeightAverage(nn.Linear(2, 2), 0.9)
    one.update(nn.Linear(2, 2))
    other.load_state_dict(one.state_dict())
    later = nn.Linear(2, 2)
    one.update(later)
    other.update(later)
    assert all(torch.equal(value, other.values[name]) for name, value in one.values.items())
    assert one.updates == other.updates == 2


def test_the_network_stays_as_it_is() -> None:
    model = nn.Linear(1, 1)
    before = model.weight.item()
    average = WeightAverage(model, 0.9)
    average.update(nn.Linear(1, 1))
    assert model.weight.item() == before
    assert average.values["weight"].item() != pytest.approx(before)
