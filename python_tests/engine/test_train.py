"""Training: the loss, the optimizer, and that a run can be repeated to the bit."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from litehrnet_cuda.data.coco import CocoKeypoints
from litehrnet_cuda.data.pose_dataset import NO_AUGMENTATION, Augmentation, PoseDataset
from litehrnet_cuda.engine.schedule import learning_rate_factor
from litehrnet_cuda.engine.train import TrainConfig, joints_mse_loss, train
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.models.litehrnet import PoseNetwork
from litehrnet_cuda.models.registry import create_model

SIZE = (64, 64)


def dataset_of(people: CocoKeypoints, augmentation: Augmentation = NO_AUGMENTATION, **options: Any) -> PoseDataset:
    return PoseDataset(people, SIZE, sigma=1.0, augmentation=augmentation, cache_images=True, **options)


def network(seed: int = 0) -> PoseNetwork:
    torch.manual_seed(seed)
    return create_model("naive_litehrnet_18")


def weights(model: PoseNetwork) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


# ------------------------------------------------------------------------------------------------------------ the loss


def test_loss_is_the_mean_over_joints_of_each_joint_s_error() -> None:
    # The official definition: for every joint, the mean squared difference of prediction and target, each times the
    # joint's weight, over batch and pixels; the mean of these over all joints, left-out ones included.
    generator = torch.Generator().manual_seed(0)
    heatmaps, targets = torch.randn(2, 3, 5, 17, 8, 6, generator=generator, dtype=torch.float64)[:, 0]
    joint_weights = torch.randint(0, 2, (5, 17), generator=generator).double()
    joint_weights[:, 4] = 0
    joint_weights[2, 3] = 0.5
    expected = 0.0
    for joint in range(17):
        errors = [
            (joint_weights[person, joint] * (heatmaps[person, joint] - targets[person, joint])).square().sum()
            for person in range(5)
        ]
        expected += float(sum(errors)) / (5 * 8 * 6) / 17
    # Float64 sums of 4080 terms in another order.
    assert joints_mse_loss(heatmaps, targets, joint_weights).item() == pytest.approx(expected, rel=1e-12)


def test_joints_that_are_left_out_have_no_gradient() -> None:
    heatmaps = torch.ones(1, 2, 3, 3, requires_grad=True)
    joints_mse_loss(heatmaps, torch.zeros(1, 2, 3, 3), torch.tensor([[1.0, 0.0]])).backward()
    assert heatmaps.grad is not None
    # d/dp of p^2 / 18 at p = 1.
    torch.testing.assert_close(heatmaps.grad[0, 0], torch.full((3, 3), 2 / 18))
    assert not heatmaps.grad[0, 1].any()


# ------------------------------------------------------------------------------------------------------------ the loop


def test_steps_are_adam_s_without_weight_decay_at_the_scheduled_rates(people: CocoKeypoints) -> None:
    rates: list[float] = []

    def look(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        assert type(optimizer) is torch.optim.Adam
        (group,) = optimizer.param_groups
        assert {id(parameter) for parameter in group["params"]} == {id(parameter) for parameter in model.parameters()}
        assert (group["betas"], group["eps"], group["weight_decay"], group["amsgrad"]) == ((0.9, 0.999), 1e-8, 0, False)
        rates.append(group["lr"])

    model = network()
    config = TrainConfig(epochs=6, batch_size=100, learning_rate=1e-3, warm_up_steps=2, decay="cosine")
    hook = register_optimizer_step_pre_hook(look)
    try:
        train(model, dataset_of(people), config, progress=False)
    finally:
        hook.remove()
    expected = [1e-3 * learning_rate_factor(step, 6, warm_up_steps=2, decay="cosine") for step in range(6)]
    assert rates == pytest.approx(expected)


def test_a_step_goes_against_the_gradient_of_the_loss(people: CocoKeypoints) -> None:
    """Adam's first step has the length of the rate in every parameter; its sign is the gradient's."""
    model, untrained = network(), network()
    config = TrainConfig(epochs=1, batch_size=100, learning_rate=1e-3, warm_up_steps=0)
    train(model, dataset_of(people), config, progress=False)

    samples = [dataset_of(people)[index] for index in range(len(people.people))]
    image, target, weight = (torch.stack([s[name] for s in samples]) for name in ("image", "heatmaps", "weights"))
    untrained.train()
    joints_mse_loss(untrained(image), target, weight).backward()
    checked = total = 0
    for after, before in zip(model.parameters(), untrained.parameters(), strict=True):
        if before.grad is None:
            assert torch.equal(after, before)
            continue
        # The shuffled order of the batch rounds differently; what is well above that has a certain sign, and above 1e-6
        # Adam's epsilon of 1e-8 takes less than a hundredth off the step.
        certain = before.grad.abs() > max(1e-6, 1e-3 * float(before.grad.abs().max()))
        step = (after - before)[certain]
        torch.testing.assert_close(step, -1e-3 * before.grad[certain].sign(), rtol=0.011, atol=1e-7)
        checked, total = checked + int(certain.sum()), total + certain.numel()
    assert checked > 0.5 * total


@pytest.mark.parametrize("workers", [0, 1])
def test_two_runs_give_bitwise_equal_weights(people: CocoKeypoints, workers: int) -> None:
    outcomes = []
    for _ in range(2):
        torch.manual_seed(torch.seed() % 1000)  # the state of the global generator does not matter
        model = network()
        torch.rand(3)
        config = TrainConfig(epochs=2, batch_size=4, warm_up_steps=1, seed=3, workers=workers)
        history = train(model, dataset_of(people, Augmentation(), seed=3), config, progress=False)
        outcomes.append((weights(model), [row["loss"] for row in history]))
    (one, one_loss), (other, other_loss) = outcomes
    assert one_loss == other_loss
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_the_seed_matters(people: CocoKeypoints) -> None:
    def loss(seed: int) -> float:
        config = TrainConfig(epochs=1, batch_size=4, seed=seed)
        return float(train(network(), dataset_of(people), config, progress=False)[-1]["loss"])

    assert loss(0) != loss(1)  # the same people, network and crops, but in another order


def test_the_loss_falls(people: CocoKeypoints) -> None:
    model = network()
    config = TrainConfig(epochs=10, batch_size=4, learning_rate=2e-3, warm_up_steps=2, decay="cosine")
    history = train(model, dataset_of(people), config, progress=False)
    # The untrained network gives almost zero everywhere; predicting the mean target is the first thing to learn.
    assert history[-1]["loss"] < 0.9 * history[0]["loss"]
    assert not model.training


def test_log_tells_what_happened(people: CocoKeypoints, tmp_path: Path) -> None:
    modes: list[bool] = []

    def validate(model: PoseNetwork) -> dict[str, float]:
        modes.append(model.training)
        return {"AP": 0.25}

    config = TrainConfig(epochs=3, batch_size=3, validate_every=2, warm_up_steps=0)
    log = tmp_path / "log.jsonl"
    log.write_text("of an earlier run\n")
    history = train(network(), dataset_of(people), config, log_file=log, validate=validate, progress=False)

    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert rows == history
    steps_per_epoch = len(people.people) // 3
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert [row["step"] for row in history] == [steps_per_epoch * epoch for epoch in (1, 2, 3)]
    assert ["AP" in row for row in history] == [False, True, True]  # every second epoch, and the last
    assert modes == [False, False]
    assert all(row["loss"] > 0 and row["learning_rate"] >= 0 and row["images_per_second"] > 0 for row in history)


def test_sizes_that_four_does_not_divide(people: CocoKeypoints) -> None:
    dataset = PoseDataset(people, (66, 90))
    assert dataset[0]["heatmaps"].shape == (17, 23, 17)
    assert train(network(), dataset, TrainConfig(epochs=1, batch_size=4), progress=False)[0]["loss"] > 0


def test_a_batch_larger_than_the_set_is_the_set(people: CocoKeypoints) -> None:
    history = train(network(), dataset_of(people), TrainConfig(epochs=1, batch_size=1000), progress=False)
    assert history[-1]["step"] == 1


# -------------------------------------------------------------------------------------------------- what cannot be done


def test_a_loss_that_is_not_finite_stops_the_run(people: CocoKeypoints, tmp_path: Path) -> None:
    model = network()
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    log = tmp_path / "log.jsonl"
    with pytest.raises(InputError, match="the loss is no longer finite in epoch 1"):
        train(model, dataset_of(people), TrainConfig(epochs=2, batch_size=4), log_file=log, progress=False)
    assert log.read_text() == ""


def test_one_person_is_not_enough(people: CocoKeypoints) -> None:
    alone = copy.copy(people)
    alone.people = people.people[:1]
    with pytest.raises(InputError, match="train: expected at least two people to train with, got 1"):
        train(network(), dataset_of(alone), TrainConfig(epochs=1), progress=False)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("validate_every", 0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("decay", "linear"),
    ],
)
def test_unusable_settings_are_said(field: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"TrainConfig: {field}: expected .*, got '?{value}"):
        TrainConfig(**{field: value})


def test_defaults_are_the_official_recipe() -> None:
    config = TrainConfig()
    assert (config.epochs, config.batch_size, config.learning_rate, config.warm_up_steps) == (210, 64, 2e-3, 500)
    assert config.decay == "step"
