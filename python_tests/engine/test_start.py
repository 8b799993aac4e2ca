"""Where a run begins. The whole run's tests have it in a folder with the results of an earlier one."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from sample_checkpoints import assert_same

from litehrnet_cuda.engine.recipe import Recipe, TrainConfig
from litehrnet_cuda.engine.run_files import RunFiles
from litehrnet_cuda.engine.start import Start, load_weights, state_to_go_on_from, take_data
from litehrnet_cuda.engine.state import TrainingState
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import MPII
from litehrnet_cuda.models.checkpoints import CheckpointMetadata, read_checkpoint, save_checkpoint
from litehrnet_cuda.models.registry import create_model

RECIPE = Recipe(training=TrainConfig(epochs=3))
DATA = {"train": "9 people, aa", "val": "2 people, bb"}
BEGINNING = TrainingState(asdict(RECIPE), people=0)
MEASURE = {"metric": "coco", "decoder": "quarter"}


@pytest.fixture
def files(tmp_path: Path) -> RunFiles:
    """A folder with a state in its second epoch."""
    state = TrainingState(asdict(RECIPE), 9, epoch=2, best=0.5, data=DATA, measure=MEASURE | {"data": DATA["val"]})
    state.save(tmp_path / "state.pt")
    return RunFiles(tmp_path)


def test_the_state_in_the_folder_is_gone_on_from(files: RunFiles, tmp_path: Path) -> None:
    assert state_to_go_on_from(files, RECIPE, "auto").epoch == 2
    assert state_to_go_on_from(files, RECIPE, "anew").epoch == 1
    assert state_to_go_on_from(RunFiles(tmp_path / "empty"), RECIPE, "auto").epoch == 1
    with pytest.raises(InputError, match="expected the state of a training to go on from, and there is none"):
        state_to_go_on_from(RunFiles(tmp_path / "empty"), RECIPE, "resume")


def test_another_optimizer_cannot_go_on(files: RunFiles) -> None:
    other = replace(RECIPE, training=TrainConfig(epochs=3, optimizer="sgd"))
    with pytest.raises(InputError, match=r"with sgd, which the recipe asks for, got one with adam; .*--weights"):
        state_to_go_on_from(files, other, "resume")


def test_another_recipe_has_to_be_asked_for(files: RunFiles) -> None:
    longer = replace(RECIPE, training=TrainConfig(epochs=4))
    with pytest.raises(
        InputError, match=r"another recipe \(training.epochs was 3 and is 4\); choose another --out, go"
    ):
        state_to_go_on_from(files, longer, "auto")
    assert state_to_go_on_from(files, longer, "resume").recipe == asdict(longer)
    with pytest.raises(InputError, match=r"of a training of litehrnet_30, got one of litehrnet_18"):
        state_to_go_on_from(files, replace(RECIPE, model="litehrnet_30"), "resume")


@pytest.mark.parametrize("name", ["model.safetensors", "best.safetensors"])
def test_weights_without_a_state_are_kept(files: RunFiles, name: str) -> None:
    files.state.rename(files.folder / name)
    with pytest.raises(InputError, match=rf"holds weights \({name}\) and no state to go on from"):
        state_to_go_on_from(files, RECIPE, "auto")
    assert state_to_go_on_from(files, RECIPE, "anew").epoch == 1


def taken(
    files: RunFiles, start: Start, data: dict[str, str] = DATA, measure: dict[str, Any] = MEASURE, people: int = 9
) -> tuple[TrainingState, list[str]]:
    state = state_to_go_on_from(files, RECIPE, start)
    return state, take_data(state, files, start, people=people, data=data, measure=measure)


def test_equal_data_are_gone_on_with_in_silence(files: RunFiles) -> None:
    state, said = taken(files, "auto")
    assert said == []
    assert (state.best, state.data, state.measure) == (0.5, DATA, MEASURE | {"data": "2 people, bb"})


def test_other_data_to_learn_from_are_refused_or_said(files: RunFiles) -> None:
    other = DATA | {"train": "8 people, cc"}
    with pytest.raises(InputError, match=r"with other data \(train was 9 people, aa, and is 8 people, cc\); choose"):
        taken(files, "auto", other)
    state, said = taken(files, "resume", other, people=8)
    (sentence,) = said
    assert sentence.endswith("than the training was begun with: train was 9 people, aa, and is 8 people, cc")
    assert (state.people, state.data, state.best) == (8, other, 0.5)


@pytest.mark.parametrize(
    ("data", "measure", "named"),
    [({"val": "2 people, dd"}, {}, "data"), ({}, {"decoder": "udp", "metric": "pck"}, "metric, decoder")],
)
def test_the_best_score_starts_afresh_where_scores_do_not_compare(
    files: RunFiles, data: dict[str, str], measure: dict[str, str], named: str
) -> None:
    state, said = taken(files, "resume", DATA | data, MEASURE | measure)
    assert state.best is None
    assert said[-1] == f"the best score so far, 0.500, no longer compares (other {named}): it starts afresh"


def test_the_state_of_an_earlier_version_has_nothing_to_compare(files: RunFiles) -> None:
    old = TrainingState.load(files.state)
    old.data, old.measure = {}, {}
    old.save(files.state)
    state, said = taken(files, "auto")
    assert said == []
    assert (state.best, state.data) == (0.5, DATA)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a network for 16 joints."""
    file = tmp_path_factory.mktemp("weights") / "mpii.safetensors"
    metadata = CheckpointMetadata("naive_litehrnet_18", "pose", 16, MPII, (64, 64))
    return save_checkpoint(create_model("naive_litehrnet_18", num_outputs=16), file, metadata)


def test_training_starts_from_weights(weights: Path) -> None:
    model = create_model("naive_litehrnet_18", num_outputs=16)
    (said,) = load_weights(model, str(weights), BEGINNING)
    assert_same(model.state_dict(), read_checkpoint(weights))
    assert said == f"starting from {weights}: {len(model.state_dict())} tensors loaded (official layout)"


@pytest.mark.parametrize("task", ["pose", "segmentation"])
def test_a_head_for_something_else_starts_anew(weights: Path, task: Any) -> None:
    model = create_model("naive_litehrnet_18", task, num_outputs=17)
    head = {name: value.clone() for name, value in model.state_dict().items() if not name.startswith("backbone.")}
    (said,) = load_weights(model, str(weights), BEGINNING)
    assert f"{len(head)} of the model kept their values" in said
    known = {name: value for name, value in read_checkpoint(weights).items() if name.startswith("backbone.")}
    assert_same(model.state_dict(), known | head)


def test_weights_of_another_network_are_refused(weights: Path) -> None:
    with pytest.raises(InputError, match="the checkpoint is of naive_litehrnet_18, the model is litehrnet_18"):
        load_weights(create_model("litehrnet_18"), str(weights), BEGINNING)


def test_a_training_that_goes_on_needs_no_weights_to_start_from() -> None:
    model = create_model("naive_litehrnet_18")
    assert load_weights(model, "", BEGINNING) == []
    assert load_weights(model, "absent.safetensors", replace(BEGINNING, learner={"network": {}})) == []
