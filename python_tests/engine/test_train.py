"""The training loop, and that a run can be repeated to the bit, in one go or in pieces."""

from __future__ import annotations

import copy
import errno
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from litehrnet_cuda.data.coco import CocoKeypoints
from litehrnet_cuda.data.pose_dataset import NO_AUGMENTATION, Augmentation, PoseDataset
from litehrnet_cuda.engine.interruption import Interrupted, TrainingStopped
from litehrnet_cuda.engine.learner import Learner
from litehrnet_cuda.engine.log import TrainingLog
from litehrnet_cuda.engine.losses import joints_mse_loss
from litehrnet_cuda.engine.recipe import TrainConfig
from litehrnet_cuda.engine.schedule import learning_rate_factor
from litehrnet_cuda.engine.state import TrainingState
from litehrnet_cuda.engine.train import Validation, train
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.models.litehrnet import PoseNetwork
from litehrnet_cuda.models.registry import create_model

SIZE = (64, 64)


def dataset_of(people: CocoKeypoints, augmentation: Augmentation = NO_AUGMENTATION, **options: Any) -> PoseDataset:
    return PoseDataset(people, SIZE, sigma=1.0, augmentation=augmentation, cache_images=True, **options)


def network(seed: int = 0) -> PoseNetwork:
    torch.manual_seed(seed)
    return create_model("naive_litehrnet_18")


class Poisoned(PoseDataset):
    """Its targets are no numbers in one of the epochs."""

    def __init__(self, dataset: PoseDataset, epoch: int) -> None:
        self.__dict__.update(dataset.__dict__)
        self.bad_epoch = epoch

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        sample = super().__getitem__(index)
        return sample | {"heatmaps": sample["heatmaps"] * float("nan")} if self._epoch == self.bad_epoch else sample


def weights(model: PoseNetwork) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


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
        train(model, dataset_of(people), config)
    finally:
        hook.remove()
    expected = [1e-3 * learning_rate_factor(step, 6, warm_up_steps=2, decay="cosine") for step in range(6)]
    assert rates == pytest.approx(expected)


def test_a_step_goes_against_the_gradient_of_the_loss(people: CocoKeypoints) -> None:
    """Adam's first step has the length of the rate in every parameter; its sign is the gradient's."""
    model, untrained = network(), network()
    config = TrainConfig(epochs=1, batch_size=100, learning_rate=1e-3, warm_up_steps=0)
    train(model, dataset_of(people), config)

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
        history = train(model, dataset_of(people, Augmentation(), seed=3), config)
        outcomes.append((weights(model), [row["loss"] for row in history]))
    (one, one_loss), (other, other_loss) = outcomes
    assert one_loss == other_loss
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_the_seed_matters(people: CocoKeypoints) -> None:
    def loss(seed: int) -> float:
        config = TrainConfig(epochs=1, batch_size=4, seed=seed)
        return float(train(network(), dataset_of(people), config)[-1]["loss"])

    assert loss(0) != loss(1)  # the same people, network and crops, but in another order


def test_the_loss_falls(people: CocoKeypoints) -> None:
    model = network()
    config = TrainConfig(epochs=10, batch_size=4, learning_rate=2e-3, warm_up_steps=2, decay="cosine")
    history = train(model, dataset_of(people), config)
    # The untrained network gives almost zero everywhere; predicting the mean target is the first thing to learn.
    assert history[-1]["loss"] < 0.9 * history[0]["loss"]
    assert not model.training


def test_log_tells_what_happened(people: CocoKeypoints, tmp_path: Path) -> None:
    modes: list[bool] = []
    scores = iter([0.25, 0.2])
    best: list[bool] = []

    def validate(model: PoseNetwork) -> Validation:
        modes.append(model.training)
        score = next(scores)
        return Validation({"AP": score, "AR": 0.5}, score, "AP")

    config = TrainConfig(epochs=3, batch_size=3, validate_every=2, warm_up_steps=0)
    file = tmp_path / "log.jsonl"
    file.write_text("of an earlier run\n")
    log = TrainingLog(file, progress=False)
    history = train(
        network(), dataset_of(people), config, log=log, validate=validate, keep_best=lambda model: best.append(True)
    )

    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert rows == history
    steps_per_epoch = len(people.people) // 3
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert [row["step"] for row in history] == [steps_per_epoch * epoch for epoch in (1, 2, 3)]
    assert [row.get("AP") for row in history] == [None, 0.25, 0.2]  # every second epoch, and the last
    assert modes == [False, False]
    assert len(best) == 1, "only the first validation is the best so far"
    assert all(row["loss"] > 0 and row["learning_rate"] >= 0 and row["images_per_second"] > 0 for row in history)


def test_sizes_that_four_does_not_divide(people: CocoKeypoints) -> None:
    dataset = PoseDataset(people, (66, 90))
    assert dataset[0]["heatmaps"].shape == (17, 23, 17)
    assert train(network(), dataset, TrainConfig(epochs=1, batch_size=4))[0]["loss"] > 0


def test_a_batch_larger_than_the_set_is_the_set(people: CocoKeypoints) -> None:
    history = train(network(), dataset_of(people), TrainConfig(epochs=1, batch_size=1000))
    assert history[-1]["step"] == 1


# ------------------------------------------------------------------------------------------- in one go or in pieces


def outcome_of(
    people: CocoKeypoints, config: TrainConfig, **options: Any
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Weights, and what the log says but for the speed."""
    model = network()
    history = train(model, dataset_of(people, Augmentation(), seed=3), config, **options)
    return weights(model), [{k: v for k, v in row.items() if k != "images_per_second"} for row in history]


class StopAfter(TrainingLog):
    """Presses Ctrl-C after some steps."""

    def __init__(self, steps: int, number: int = signal.SIGINT) -> None:
        super().__init__(progress=False)
        self.steps, self.number = steps, number

    def advance(self) -> None:
        self.steps -= 1
        if self.steps == 0:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize(
    ("stop_after", "options"),  # epochs are of three batches, so that every second step stops within and at their ends
    [(2, {}), (1, {"ema": 0.9, "accumulate": 2, "clip_norm": 1.0}), (3, {"amp": "fp16"}), (2, {"workers": 1})],
    ids=str,
)
def test_a_run_in_pieces_gives_the_same_to_the_bit(
    people: CocoKeypoints, tmp_path: Path, options: dict[str, Any], stop_after: int
) -> None:
    config = TrainConfig(epochs=2, batch_size=3, warm_up_steps=1, seed=3, **options)
    seed = iter(range(100))

    def validate(model: PoseNetwork) -> Validation:
        return Validation({"AP": float(sum(value.double().sum() for value in model.state_dict().values()))})

    expected = outcome_of(people, config, validate=validate)
    file, state = tmp_path / "state.pt", None
    before = signal.getsignal(signal.SIGINT)
    pieces = 0
    while True:
        try:
            found = outcome_of(
                people, config, validate=validate, log=StopAfter(stop_after), state=state, state_file=file
            )
            break
        except Interrupted:
            assert signal.getsignal(signal.SIGINT) is before
            state = TrainingState.load(file)
            torch.manual_seed(next(seed))  # another process has other random states
            pieces += 1
    assert pieces > 1
    assert found[1] == expected[1]
    assert all(torch.equal(value, found[0][name]) for name, value in expected[0].items())


def test_the_step_axis_goes_on_where_a_bigger_batch_makes_fewer_steps(
    people: CocoKeypoints, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "state.pt"
    small, big = TrainConfig(epochs=2, batch_size=2), TrainConfig(epochs=3, batch_size=4)
    per_epoch = len(people.people) // 2
    assert per_epoch >= 4
    with pytest.raises(Interrupted):  # in the second epoch
        outcome_of(people, small, log=StopAfter(per_epoch + 2), state_file=file)

    class Told(TrainingLog):
        def begin(self, *arguments: Any) -> None:
            self.begun = arguments
            super().begin(*arguments)

    log = Told(progress=False)
    _, history = outcome_of(people, big, state=TrainingState.load(file), log=log)
    rest, whole = len(people.people) // 4 - 1, len(people.people) // 4  # of the second epoch one batch of four is done
    expected = [per_epoch, per_epoch + 2 + rest, per_epoch + 2 + rest + whole]
    assert [row["step"] for row in history] == expected
    _, total, begun, _ = log.begun
    assert (total, begun) == (expected[-1], per_epoch + 2)
    # The rate follows the place in the run as it is now.
    assert history[-1]["learning_rate"] == big.learning_rate * learning_rate_factor(
        3 * whole - 1, 3 * whole, warm_up_steps=500, decay="step"
    )


def test_sigterm_stops_in_order_too(people: CocoKeypoints, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = TrainConfig(epochs=2, batch_size=2)
    with pytest.raises(Interrupted, match=r"^interrupted; the last good state is \S*state.pt \(epoch 1, step 1 of "):
        outcome_of(people, config, log=StopAfter(1, signal.SIGTERM), state_file=tmp_path / "state.pt")
    assert "once more ends it at once" in capfd.readouterr().err
    assert TrainingState.load(tmp_path / "state.pt").batches == 1


def test_ctrl_c_in_a_validation_stops_at_once_and_the_validation_is_done_again(
    people: CocoKeypoints, tmp_path: Path
) -> None:
    config, file = TrainConfig(epochs=2, batch_size=4, validate_every=2), tmp_path / "state.pt"

    def interrupted(model: PoseNetwork) -> Validation:
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the signal was not heeded")

    with pytest.raises(Interrupted):
        outcome_of(people, config, validate=interrupted, state_file=file)
    calls: list[PoseNetwork] = []
    outcome = outcome_of(
        people,
        config,
        validate=lambda model: calls.append(model) or Validation({"AP": 0.5}),  # type: ignore[func-returns-value]
        state=TrainingState.load(file),
        state_file=file,
    )
    assert len(calls) == 1
    assert outcome[1][-1]["AP"] == 0.5
    assert len(outcome[1]) == 2


@pytest.mark.parametrize(("save_every", "count"), [("1", 4), ("2", 2), ("1h", 0), ("0.0001s", 4)])
def test_the_state_is_saved_as_often_as_asked_for(
    people: CocoKeypoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save_every: str, count: int
) -> None:
    assert len(people.people) // 3 == 3
    saves: list[tuple[int, int]] = []
    monkeypatch.setattr(TrainingState, "save", lambda state, path: saves.append((state.epoch, state.batches)))
    config = TrainConfig(epochs=2, batch_size=3, save_every=save_every)
    outcome_of(people, config, state_file=tmp_path / "state.pt")
    at_the_end = [(1, 3), (2, 0), (2, 3), (3, 0)]  # of training and of validation
    assert len(saves) == count + len(at_the_end)
    assert set(saves) >= set(at_the_end)


def test_a_state_of_other_people_is_refused(people: CocoKeypoints) -> None:
    with pytest.raises(InputError, match=r"expected the 5000 people that the training was begun with, got \d+"):
        train(network(), dataset_of(people), TrainConfig(epochs=1), state=TrainingState({}, 5000))


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "out of memory: try a smaller --batch-size"),
        (MemoryError(), "out of memory: try a smaller --batch-size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory: try a smaller --batch"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (InputError("a.jpg: cannot be read"), "a.jpg: cannot be read"),
    ],
    ids=["cuda", "python", "cpu", "disk", "image"],
)
def test_what_gives_out_is_one_sentence_with_the_last_good_state(
    people: CocoKeypoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, sentence: str
) -> None:
    step, calls = Learner.step, []

    def failing(self: Learner, *args: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 5:
            raise error
        return step(self, *args)

    monkeypatch.setattr(Learner, "step", failing)
    file = tmp_path / "state.pt"
    with pytest.raises(TrainingStopped) as stopped:
        outcome_of(people, TrainConfig(epochs=2, batch_size=3), state_file=file)
    assert str(stopped.value).startswith(sentence)
    assert str(stopped.value).endswith(f"the last good state is {file} (the end of epoch 1, step 3 of 6)")
    assert TrainingState.load(file).epoch == 2


def test_a_fault_of_ours_stays_one(people: CocoKeypoints, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Learner, "step", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        outcome_of(people, TrainConfig(epochs=1, batch_size=2))


# -------------------------------------------------------------------------------------------------- what cannot be done


def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_the_last_good_state(
    people: CocoKeypoints, tmp_path: Path
) -> None:
    model, dataset = network(), dataset_of(people)
    config, file = TrainConfig(epochs=3, batch_size=4, warm_up_steps=0), tmp_path / "state.pt"
    poisoned = Poisoned(dataset, epoch=2)
    message = (
        r"the loss is no longer finite in epoch 2; .* the last good state is \S*state.pt \(the end of epoch 1, step"
    )
    with pytest.raises(TrainingStopped, match=message):
        train(model, poisoned, config, state_file=file, log=TrainingLog(tmp_path / "log.jsonl", progress=False))
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1
    state = TrainingState.load(file)
    assert (state.epoch, state.batches) == (2, 0)
    assert all(value.isfinite().all() for value in state.learner["network"].values())


def test_weights_that_are_not_finite_are_not_saved(people: CocoKeypoints, tmp_path: Path) -> None:
    """A step may break the weights whose loss was still a number."""
    config = TrainConfig(epochs=1, batch_size=100, learning_rate=1e38, warm_up_steps=0)
    with pytest.raises(
        TrainingStopped, match=r"the weights are no longer finite in epoch 1; .* no state .* was saved yet"
    ):
        train(network(), dataset_of(people), config, state_file=tmp_path / "state.pt")
    assert not (tmp_path / "state.pt").exists()


def test_one_person_is_not_enough(people: CocoKeypoints) -> None:
    alone = copy.copy(people)
    alone.people = people.people[:1]
    with pytest.raises(InputError, match="train: expected at least two people to train with, got 1"):
        train(network(), dataset_of(alone), TrainConfig(epochs=1))
