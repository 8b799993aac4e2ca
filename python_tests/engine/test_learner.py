"""One step, with every option that a step has."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from litehrnet_cuda.engine.learner import Learner
from litehrnet_cuda.engine.losses import joints_mse_loss
from litehrnet_cuda.engine.recipe import TrainConfig
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.models.litehrnet import LiteHRNet, PoseNetwork, Variant

RATE = 1e-3


def network() -> PoseNetwork:
    """A small one."""
    torch.manual_seed(0)
    return PoseNetwork(LiteHRNet(Variant("small", (1,), (8, 16))), 3)


def batch(seed: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {
        "image": torch.randn(3, 3, 32, 32, generator=random),
        "heatmaps": torch.rand(3, 3, 8, 8, generator=random),
        "weights": torch.ones(3, 3),
    }


def gradients(learner: Learner) -> dict[str, Tensor]:
    return {n: value.grad.clone() for n, value in learner.network.named_parameters() if value.grad is not None}


def stepped(*batches: dict[str, Tensor], **options: Any) -> tuple[Learner, float]:
    learner = Learner(network(), TrainConfig(**options))
    return learner, learner.step(batches, RATE).item()


def weights(learner: Learner) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in learner.network.named_parameters()}


def assert_near(found: dict[str, Tensor], expected: dict[str, Tensor], rtol: float) -> None:
    """Within ``rtol`` of the largest of all values: small ones are sums that cancel."""
    scale = max(float(value.abs().max()) for value in expected.values())
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=rtol * scale, msg=name)


def test_the_loss_is_that_before_the_step() -> None:
    learner, loss = stepped(batch(1))
    model = network().train()
    expected = joints_mse_loss(model(batch(1)["image"]), batch(1)["heatmaps"], batch(1)["weights"])
    assert loss == expected.item()
    expected.backward()
    for name, value in model.named_parameters():
        assert value.grad is not None
        assert torch.equal(value.grad, gradients(learner)[name])


def test_accumulated_batches_make_one_step_along_their_mean_gradient() -> None:
    together, loss = stepped(batch(1), batch(2), accumulate=2)
    (one, first), (two, second) = stepped(batch(1)), stepped(batch(2))
    assert loss == pytest.approx((first + second) / 2, rel=1e-6)
    mean = {name: (value + gradients(two)[name]) / 2 for name, value in gradients(one).items()}
    assert_near(gradients(together), mean, rtol=1e-6)  # float32, halved before or after
    assert together.optimizer.state_dict()["state"][0]["step"].item() == 1


@pytest.mark.parametrize("amp", ["none", "fp16"])
def test_gradients_are_clipped_by_their_common_length(amp: Any) -> None:
    plain, _ = stepped(batch(1))
    length = torch.cat([value.flatten() for value in gradients(plain).values()]).norm().item()
    clipped, _ = stepped(batch(1), clip_norm=length / 2, amp=amp)
    kept, _ = stepped(batch(1), clip_norm=length * 2)
    # fp16 has a resolution of 2^-11; a few dozen layers multiply that.
    rtol = 1e-5 if amp == "none" else 0.1
    assert_near(gradients(clipped), {name: value / 2 for name, value in gradients(plain).items()}, rtol)
    assert_near(gradients(kept), gradients(plain), 1e-6)


@pytest.mark.parametrize(("amp", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_mixed_precision_computes_in_the_type_and_keeps_weights_in_float32(amp: Any, dtype: torch.dtype) -> None:
    seen: list[torch.dtype] = []
    learner = Learner(network(), TrainConfig(amp=amp))
    learner.network.keypoint_head.register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    loss = learner.step([batch(1)], RATE).item()
    assert seen == [dtype]
    assert {value.dtype for value in learner.network.parameters()} == {torch.float32}
    assert learner.scaler.is_enabled() == (amp == "fp16")
    # bf16 has a resolution of 2^-8; rounding of many values evens out in the mean over the maps.
    assert loss == pytest.approx(stepped(batch(1))[1], rel=0.02)


def test_a_step_whose_scaled_gradient_overflows_is_left_out() -> None:
    learner = Learner(network(), TrainConfig(amp="fp16"))
    learner.scaler.load_state_dict(learner.scaler.state_dict() | {"scale": 2.0**100})
    before = weights(learner)
    learner.step([batch(1)], RATE)
    assert all(torch.equal(value, before[name]) for name, value in weights(learner).items())
    assert learner.scaler.get_scale() == 2.0**99
    assert learner.is_finite()


def test_channels_last_reaches_the_network_and_changes_nothing_else() -> None:
    seen: list[bool] = []
    learner = Learner(network(), TrainConfig(channels_last=True))
    learner.network.register_forward_pre_hook(
        lambda module, args: seen.append(args[0].is_contiguous(memory_format=torch.channels_last))
    )
    loss = learner.step([batch(1)], RATE).item()
    plain, expected = stepped(batch(1))
    assert seen == [True]
    assert loss == pytest.approx(expected, rel=1e-5)
    assert_near(gradients(learner), gradients(plain), 1e-4)  # sums in another order, through batch statistics


@pytest.mark.compile
def test_a_compiled_network_takes_the_same_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced and captured, but not compiled to machine code, which would take minutes."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    compiled, loss = stepped(batch(1), compile=True)
    plain, expected = stepped(batch(1))
    assert type(compiled._forward).__name__ == "OptimizedModule"
    assert loss == pytest.approx(expected, rel=1e-5)
    assert_near(gradients(compiled), gradients(plain), 1e-4)
    assert set(compiled.export().state_dict()) == set(plain.export().state_dict())


def test_adam_is_fused_and_takes_the_steps_of_the_plain_one() -> None:
    learner, _ = stepped(batch(1))
    assert learner.optimizer.param_groups[0]["fused"] is True
    model = network().train()
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, foreach=False, fused=False)
    joints_mse_loss(model(batch(1)["image"]), batch(1)["heatmaps"], batch(1)["weights"]).backward()
    optimizer.step()
    for name, value in model.named_parameters():
        torch.testing.assert_close(weights(learner)[name], value.detach(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_what_is_exported_is_the_model_that_came_with_the_weights_to_use(ema: float) -> None:
    model = network()
    learner = Learner(model, TrainConfig(ema=ema))
    learner.step([batch(1)], RATE)
    assert learner.export() is model
    assert not model.training
    expected = learner.network.state_dict() if learner.average is None else learner.average.values
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    if ema:
        assert not torch.equal(model.keypoint_head.final_layer.weight, learner.network.keypoint_head.final_layer.weight)
    learner.step([batch(2)], RATE)
    assert learner.network.training


def test_it_notices_weights_that_are_no_numbers() -> None:
    learner, _ = stepped(batch(1))
    assert learner.is_finite()
    for value in (float("nan"), float("-inf")):
        broken, _ = stepped(batch(1))
        with torch.no_grad():
            next(broken.network.buffers()).view(-1)[0] = value
        assert not broken.is_finite()


@pytest.mark.parametrize("options", [{}, {"ema": 0.9}, {"amp": "fp16"}], ids=str)
def test_it_goes_on_from_its_state(options: dict[str, Any]) -> None:
    config = TrainConfig(**options)
    one, other = Learner(network(), config), Learner(network(), config)
    one.step([batch(1)], RATE)
    other.load_state_dict(copy.deepcopy(one.state_dict()))  # which are the values themselves, not copies
    for learner in (one, other):
        learner.step([batch(2)], RATE)
    assert all(torch.equal(value, weights(other)[name]) for name, value in weights(one).items())
    exported = other.export().state_dict()
    assert all(torch.equal(value, exported[name]) for name, value in one.export().state_dict().items())


def test_an_average_that_is_asked_for_later_begins_with_the_weights_of_the_state() -> None:
    before, _ = stepped(batch(0))
    learner = Learner(network(), TrainConfig(ema=0.9))
    learner.load_state_dict(copy.deepcopy(before.state_dict()))
    for name, value in learner.export().named_parameters():
        assert value.equal(weights(before)[name])


def test_the_state_of_another_network_is_one_sentence() -> None:
    state = copy.deepcopy(Learner(network(), TrainConfig()).state_dict())
    other = PoseNetwork(LiteHRNet(Variant("small", (1,), (8, 16))), 4)
    message = r"final_layer.weight of shape \[4, 8, 1, 1\], got \[3, 8, 1, 1\]: it was trained for other joints"
    with pytest.raises(InputError, match=message):
        Learner(other, TrainConfig()).load_state_dict(state)
    state["network"]["unknown"] = torch.ones(1)
    with pytest.raises(InputError, match="unknown of shape none, got"):
        Learner(network(), TrainConfig()).load_state_dict(state)


def test_sgd_has_momentum_and_weight_decay() -> None:
    """PyTorch's definition: v = momentum v + gradient + decay w, then w -= rate v; v begins as the first gradient."""
    learner = Learner(network(), TrainConfig(optimizer="sgd", momentum=0.8, weight_decay=0.1))
    velocity: dict[str, Tensor] = {}
    for seed in (1, 2):
        before = weights(learner)
        learner.step([batch(seed)], RATE)
        for name, gradient in gradients(learner).items():
            velocity[name] = 0.8 * velocity.get(name, torch.zeros_like(gradient)) + gradient + 0.1 * before[name]
            # fp32, in another order of operations.
            torch.testing.assert_close(
                weights(learner)[name], before[name] - RATE * velocity[name], rtol=1e-6, atol=1e-7, msg=name
            )
    assert velocity


def test_another_loss_is_what_is_made_small() -> None:
    def loss(outputs: Tensor, found: Mapping[str, Tensor]) -> Tensor:
        return (outputs - found["sought"]).abs().mean()

    samples = {"image": batch(1)["image"], "sought": torch.full((3, 3, 8, 8), 2.0)}
    learner = Learner(network(), TrainConfig(), loss=loss)
    first = learner.step([samples], RATE).item()
    assert first == pytest.approx((network().train()(samples["image"]) - 2).abs().mean().item())
    assert learner.step([samples], RATE).item() < first


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_going_on_takes_decay_and_momentum_of_the_recipe(optimizer: Any) -> None:
    before, _ = stepped(batch(1), optimizer=optimizer, momentum=0.5, weight_decay=0.0)
    after = Learner(network(), TrainConfig(optimizer=optimizer, momentum=0.75, weight_decay=0.125))
    after.load_state_dict(before.state_dict())
    (group,) = after.optimizer.param_groups
    assert group["weight_decay"] == 0.125
    assert group.get("momentum", 0.75) == 0.75
