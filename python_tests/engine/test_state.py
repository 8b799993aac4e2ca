"""The state of a training as a file."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from litehrnet_cuda.data.coco import CocoKeypoints
from litehrnet_cuda.data.pose_dataset import PoseDataset
from litehrnet_cuda.engine.recipe import TrainConfig
from litehrnet_cuda.engine.state import TrainingState, random_states, restore_random_states
from litehrnet_cuda.engine.train import train
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.models.registry import create_model


def state() -> TrainingState:
    return TrainingState(
        recipe={"model": "litehrnet_18", "input_size": (192, 256)},
        people=10,
        epoch=3,
        batches=2,
        batch_size=4,
        losses=[0.5, 0.25],
        history=[{"epoch": 1, "AP": 0.1}, {"epoch": 2}],
        best=0.1,
        data={"train": "10 people"},
        measure={"metric": "coco", "flip_test": True},
        learner={"network": {"weight": torch.arange(3.0)}, "average": None},
        random=random_states(),
    )


def test_what_is_saved_is_what_is_read(tmp_path: Path) -> None:
    saved = state()
    saved.save(tmp_path / "state.pt")
    read = TrainingState.load(tmp_path / "state.pt")
    for name in ("recipe", "people", "epoch", "batches", "batch_size", "losses", "history", "record", "best", "data"):
        assert getattr(read, name) == getattr(saved, name), name
    assert read.measure == saved.measure
    assert torch.equal(read.learner["network"]["weight"], torch.arange(3.0))
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]


def test_random_numbers_go_on() -> None:
    states = random_states()
    expected = random.random(), np.random.random(), np.random.standard_normal(), torch.rand(1).item()
    restore_random_states(states)
    assert (random.random(), np.random.random(), np.random.standard_normal(), torch.rand(1).item()) == expected


def test_a_state_that_cannot_be_written_leaves_the_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full after some bytes, as a limit on the size of files makes one."""
    state().save(tmp_path / "state.pt")
    code = (
        "import resource, signal, sys\nfrom pathlib import Path\n"
        "from litehrnet_cuda.engine.state import TrainingState\nfrom litehrnet_cuda.errors import InputError\n"
        "state = TrainingState.load(Path(sys.argv[1]))\nstate.epoch = 99\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nresource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: state.save(Path(sys.argv[1]))\nexcept InputError as error: print(error)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", code, str(tmp_path / "state.pt")]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert "state.pt: cannot be written (File too large)" in run.stdout, run.stderr
    assert TrainingState.load(tmp_path / "state.pt").epoch == 3
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_a_whole_state(tmp_path: Path) -> None:
    state().save(tmp_path / "state.pt")
    code = (
        "import sys, torch\nfrom pathlib import Path\nfrom litehrnet_cuda.engine.state import TrainingState\n"
        "file = Path(sys.argv[1])\nstate = TrainingState.load(file)\n"
        "state.learner = {'values': [torch.zeros(10**5) for _ in range(20)]}\nprint('ready', flush=True)\n"
        "while True:\n  state.epoch += 1\n  state.save(file)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    moments = random.Random(0)
    epoch = 0
    for _ in range(8):
        command = [sys.executable, "-c", code, str(tmp_path / "state.pt")]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as run:
            assert run.stdout is not None
            run.stdout.readline()
            with pytest.raises(subprocess.TimeoutExpired):
                run.wait(moments.uniform(0.05, 0.5))
            run.send_signal(signal.SIGKILL)
        before, epoch = epoch, TrainingState.load(tmp_path / "state.pt").epoch
        assert epoch > before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "expected the state of a training to go on from, and there is none"),
        (b"", "expected the state of a training, and it cannot be read"),
        (b"half of a file", "expected the state of a training, and it cannot be read"),
    ],
)
def test_files_that_are_none_are_said(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "state.pt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError) as refused:
        TrainingState.load(file)
    assert f"{file}: {message}" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_state_of_another_format_is_refused(tmp_path: Path) -> None:
    torch.save({"format": 0}, tmp_path / "state.pt")
    with pytest.raises(InputError, match="in format 1; train anew with --restart"):
        TrainingState.load(tmp_path / "state.pt")


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "exploded"),)

    torch.save({"format": 1, "bomb": Bomb()}, tmp_path / "state.pt")
    with pytest.raises(InputError, match="cannot be read"):
        TrainingState.load(tmp_path / "state.pt")
    assert not (tmp_path / "exploded").exists()


def test_a_state_of_a_later_version_is_refused(tmp_path: Path) -> None:
    state().save(tmp_path / "state.pt")
    content = torch.load(tmp_path / "state.pt", weights_only=True)
    torch.save(content | {"of_a_later_version": 1}, tmp_path / "state.pt")
    with pytest.raises(InputError, match="in format 1; train anew with --restart"):
        TrainingState.load(tmp_path / "state.pt")


def test_no_step_of_a_training_draws_from_what_others_may_have_changed(people: CocoKeypoints) -> None:
    """So that the states of the first process are enough for all."""
    model = create_model("naive_litehrnet_18", num_outputs=17)
    dataset = PoseDataset(people, (64, 64), sigma=1.0)
    before = random_states()
    train(model, dataset, TrainConfig(epochs=1, batch_size=4))
    after = random_states()
    assert after["python"] == before["python"]
    assert after["numpy"][1].equal(before["numpy"][1])
    assert after["numpy"][2:] == before["numpy"][2:]
