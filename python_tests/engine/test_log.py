"""What a run tells, where, and that nothing is told twice."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from litehrnet_cuda.engine.log import TrainingLog, curve

RECORD: dict[str, Any] = {
    "epoch": 2,
    "step": 8,
    "loss": 0.00125,
    "loss_curve": [2.0, 1.0],
    "learning_rate": 1e-3,
    "images_per_second": 123.4,
    "AP": 0.25,
    "score": 0.25,
    "score_name": "AP",
    "measured_in": "annotated boxes",
}


def test_the_file_has_what_was_before_and_each_epoch_once(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text('{"epoch": 1}\n{"epoch": 2, "of": "a run that was killed before it saved its state"}\n')
    with TrainingLog(file, progress=False) as log:
        log.begin(3, 12, 4, [{"epoch": 1, "step": 4}])
        log.epoch(RECORD)
        # Before the run is over.
        assert [json.loads(line) for line in file.read_text().splitlines()] == [{"epoch": 1, "step": 4}, RECORD]


def test_an_epoch_is_a_line_that_stays(capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingLog() as log:
        log.begin(3, 12, 4, [])
        log.advance()
        log.show(2, 0.5, 1e-3, 100.0)
        log.epoch(RECORD)
        log.epoch(
            {name: value for name, value in RECORD.items() if "score" not in name and name not in ("AP", "measured_in")}
            | {"epoch": 3}
        )
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        "going on at step 4 of 12",
        "epoch 2/3, loss 1.25e-03, AP 0.250 (annotated boxes), 123 images/s",
        "epoch 3/3, loss 1.25e-03, 123 images/s",
    ]


def test_the_bar_shows_how_it_goes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with TrainingLog() as log:
        log.begin(3, 12, 4, [])
        log.advance()
        log.show(2, 0.5, 1e-3, 100.0)
    shown = capsys.readouterr().err
    assert "epoch 2/3" in shown
    assert "5/12" in shown
    assert "loss 5.00e-01, rate 1.0e-03, 100 images/s" in shown


def test_nothing_is_told_if_not_asked_for(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with TrainingLog(progress=False) as log:
        log.begin(3, 12, 4, [])
        log.advance()
        log.show(1, 0.5, 1e-3, 1.0)
        log.epoch(RECORD)
    assert capsys.readouterr() == ("", "")


class Writer:
    """Stands for TensorBoard's."""

    def __init__(self, folder: str, purge_step: int | None) -> None:
        self.made = (folder, purge_step)
        self.scalars: list[tuple[str, float, int]] = []
        self.closed = False
        writers.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.scalars.append((name, value, step))

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


writers: list[Writer] = []


@pytest.fixture
def tensorboard(monkeypatch: pytest.MonkeyPatch) -> list[Writer]:
    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    writers.clear()
    return writers


def test_tensorboard_gets_the_figures(tensorboard: list[Writer], tmp_path: Path) -> None:
    with TrainingLog(tensorboard=tmp_path / "tb", progress=False) as log:
        log.begin(3, 12, 4, [{"epoch": 1, "step": 4}])
        log.epoch(RECORD)
    (writer,) = tensorboard
    assert writer.made == (str(tmp_path / "tb"), 5), "what an interrupted run wrote after this step is forgotten"
    assert writer.scalars == [
        ("train/loss", 2.0, 6),
        ("train/loss", 1.0, 8),
        ("train/learning_rate", 1e-3, 8),
        ("train/images_per_second", 123.4, 8),
        ("validation/AP (annotated boxes)", 0.25, 8),
    ]
    assert writer.closed


def test_without_tensorboard_there_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with TrainingLog(tensorboard=tmp_path / "tb", progress=False) as log:
        log.begin(3, 12, 0, [])
        log.epoch(RECORD)
    assert not (tmp_path / "tb").exists()


def test_the_curve_has_the_loss_within_and_the_score_after_epochs() -> None:
    history = [
        {"step": 4, "loss_curve": [4.0, 2.0], "loss": 3.0, "learning_rate": 0.1},
        {
            "step": 8,
            "loss_curve": [1.0, 0.5],
            "loss": 0.75,
            "learning_rate": 0.2,
            "score": 0.25,
            "score_name": "AP",
            "measured_in": "detected boxes",
        },
    ]
    assert curve(history) == [
        {"step": 1, "loss": 4.0},
        {"step": 3, "loss": 2.0},
        {"step": 4, "learning_rate": 0.1},
        {"step": 5, "loss": 1.0},
        {"step": 7, "loss": 0.5},
        {"step": 8, "learning_rate": 0.2, "AP (detected boxes)": 0.25},
    ]


def test_skipped_images_are_in_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingLog() as log:
        log.begin(3, 12, 0, [])
        log.epoch(RECORD | {"skipped_images": 3})
    assert "AP 0.250 (annotated boxes, 3 images skipped), 123" in capsys.readouterr().err


def test_tensorboard_s_steps_are_those_of_the_epoch_itself(tensorboard: list[Writer], tmp_path: Path) -> None:
    """An epoch with a bigger batch has fewer steps than those before."""
    with TrainingLog(tensorboard=tmp_path / "tb", progress=False) as log:
        log.begin(3, 12, 0, [])
        log.epoch(RECORD | {"epoch": 1, "step": 10})
        log.epoch(RECORD | {"epoch": 2, "step": 12})
    steps = [step for name, _, step in tensorboard[0].scalars if name == "train/loss"]
    assert steps == [5, 10, 11, 12]
