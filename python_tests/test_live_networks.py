"""Networks that may change are run in the optimised form of what they are now."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from inference_cases import SMALL, assert_right, images, small
from official_reference import relative_error
from plain_executor import Executor
from torch import Tensor

from litehrnet_cuda.inference import Execution, LiveNetwork
from litehrnet_cuda.models.litehrnet import LiteHRNet, PoseNetwork


def train_a_step(model: PoseNetwork) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.train()(images()).sum().backward()
    optimizer.step()


CHANGES: dict[str, Callable[[PoseNetwork], Any]] = {
    "write": lambda model: model.keypoint_head.final_layer.bias.detach().add_(1),
    "step": train_a_step,
    "load": lambda model: model.load_state_dict(small(1).state_dict()),
    "assign": lambda model: model.load_state_dict(small(1).state_dict(), assign=True),
    "part": lambda model: setattr(model.keypoint_head, "final_layer", small(1).keypoint_head.final_layer),
    "data in training": lambda model: model.train().keypoint_head.final_layer.weight.data.mul_(2),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("planned", [False, True])
def test_a_live_network_is_what_it_is_now(name: str, planned: bool, request: pytest.FixtureRequest) -> None:
    runner = request.getfixturevalue("plain") if planned else None
    model = small()
    live = LiveNetwork(model)
    before = live(images())
    assert_right(before, model, images())
    assert_right(live(images()), model, images())
    CHANGES[name](model)
    after = live(images())
    assert_right(after, model, images())
    assert relative_error(after, before) > 1e-3
    assert not any(part.training for part in model.modules())
    assert_right(live(images()), model, images())
    if runner:
        assert len(runner.made) == 2
        assert live.backend_for(images()).is_planned


def test_a_live_network_of_another_type(plain: Executor) -> None:
    model = small()
    live = LiveNetwork(model)
    live(images())
    model.double()
    assert_right(live(images()), model, images(), torch.float64)


def test_a_live_network_with_a_hook_for_some_time(plain: Executor) -> None:
    model = small()
    live = LiveNetwork(model)
    expected = live(images())
    seen: list[torch.Size] = []
    handle = model.backbone.register_forward_hook(lambda module, args, y: seen.append(y.shape))
    live(images())
    assert len(seen) == 1
    assert not live.backend_for(images()).is_planned
    handle.remove()
    assert torch.equal(live(images()), expected)
    assert len(seen) == 1
    assert live.backend_for(images()).is_planned


def test_a_live_network_itself_is_run_where_there_is_no_plan() -> None:
    class Remembering(PoseNetwork):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            assert not any(part.training for part in self.modules())
            return super().forward(x)

    model = Remembering(LiteHRNet(SMALL), 5)
    live = LiveNetwork(model)
    live(images())
    model.backbone.stem.train()  # a part only
    live(images())
    assert model.calls == 2


def test_a_live_network_of_inference_tensors_is_run_itself(plain: Executor) -> None:
    with torch.inference_mode():
        model = PoseNetwork(LiteHRNet(SMALL), 5).eval()
        live = LiveNetwork(model)
        before = live(images())
        assert "made in inference mode" in live.backend_for(images()).reason
        model.keypoint_head.final_layer.bias.add_(1)
        torch.testing.assert_close(live(images()), before + 1)
    assert plain.made == []


def test_a_live_network_need_not_be_optimised(plain: Executor) -> None:
    live = LiveNetwork(small(), unplanned="nobody wants it")
    assert live.backend_for(images()) == Execution("plain", False, "nobody wants it")
    twin = pickle.loads(pickle.dumps(live))
    assert twin.backend_for(images()).reason == "nobody wants it"
    assert torch.equal(twin(images()), live(images()))
    assert plain.made == []
