"""Where a training run begins: anew, or from the state of an earlier one that is of the same recipe and data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

from torch import nn

from litehrnet_cuda.engine.learner import require_fitting
from litehrnet_cuda.engine.recipe_files import AnyRecipe, differences, recipe_of
from litehrnet_cuda.engine.run_files import RunFiles
from litehrnet_cuda.engine.state import TrainingState
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.models.checkpoints import load_checkpoint

# "auto" goes on where an earlier run with the same recipe stopped, and refuses to replace one with another recipe;
# "resume" goes on with the recipe that is given, whatever the earlier one was; "anew" replaces what there is.
Start = Literal["auto", "resume", "anew"]


def state_to_go_on_from(files: RunFiles, recipe: AnyRecipe, start: Start) -> TrainingState:
    """The state in a folder, or the beginning, compared with a recipe, but not yet with data.

    Raises:
        InputError: if there is none that can be gone on from, or weights that must not be replaced.
    """
    if start == "anew" or (start == "auto" and not files.state.exists()):
        weights = [file.name for file in (files.checkpoint, files.best) if file.exists()]
        if start == "auto" and weights:
            raise InputError(
                f"{files.folder}: holds weights ({', '.join(weights)}) and no state to go on from; choose another "
                "--out, or replace them with --restart"
            )
        return TrainingState(asdict(recipe), people=0)
    state = TrainingState.load(files.state)
    earlier = recipe_of(state.recipe, str(files.state))
    changed = differences(earlier, recipe)
    for name in ("task", "model"):
        if name in changed:
            before, now = changed[name]
            raise InputError(
                f"{files.state}: expected the state of a training of {now}, got one of {before}; choose another --out, "
                "or train anew with --restart"
            )
    if "training.optimizer" in changed:
        before, now = changed["training.optimizer"]
        raise InputError(
            f"{files.state}: expected the state of a training with {now}, which the recipe asks for, got one with "
            f"{before}; choose another --out, which may begin with --weights, or train anew with --restart"
        )
    if changed and start == "auto":
        listed = ", ".join(f"{name} was {before} and is {now}" for name, (before, now) in list(changed.items())[:4])
        raise InputError(
            f"{files.folder}: holds a training with another recipe ({listed}); choose another --out, go on all the "
            "same with --resume, or train anew with --restart"
        )
    state.recipe = asdict(recipe)
    return state


def require_fitting_state(state: TrainingState, files: RunFiles, model: nn.Module) -> None:
    """Compares a state, if it is not the beginning, with the network that is to go on from it.

    Raises:
        InputError: if it is of another network, or of one for other joints.
    """
    if not state.learner:
        return
    try:
        require_fitting(state.learner, model)
    except InputError as error:
        raise InputError(f"{files.state}: {error}; choose another --out, or train anew with --restart") from None


def load_weights(model: nn.Module, weights: str, state: TrainingState) -> list[str]:
    """Loads what a recipe says that a training starts from, unless it goes on from a state.

    Args:
        model: gets them; a head for other joints or another task is left as it is.
        weights: a checkpoint; empty for none.
        state: that the training goes on from, or the beginning.

    Returns:
        what was loaded, in sentences.

    Raises:
        InputError: for a checkpoint that cannot be read or is of another network.
    """
    if not weights or state.learner:
        return []
    return [f"starting from {load_checkpoint(model, weights, strict=False)}"]


def take_data(
    state: TrainingState,
    files: RunFiles,
    start: Start,
    *,
    people: int,
    data: Mapping[str, str],
    measure: Mapping[str, Any],
) -> list[str]:
    """Compares a state with the data that are there now, and makes it one of these.

    Args:
        state: is changed: its best score is forgotten if scores of now don't compare with it.
        files: where it is from.
        start: whether other data are refused.
        people: number of people, or of images, to train with.
        data: digest by part, as their annotations have it.
        measure: what else decides the score, by name.

    Returns:
        what has changed and is gone on with, in sentences.

    Raises:
        InputError: for other data than the training was begun with, unless it was asked for.
    """
    said = []
    changed = [name for name in data if state.data.get(name, data[name]) != data[name]]
    if changed:
        listed = "; ".join(f"{name} was {state.data[name]}, and is {data[name]}" for name in changed)
        if start == "auto":
            raise InputError(
                f"{files.folder}: holds a training with other data ({listed}); choose another --out, go on all the "
                "same with --resume, or train anew with --restart"
            )
        said.append(f"going on with other data than the training was begun with: {listed}")
    now = {**measure, "data": data["val"]}
    if state.best is not None and state.measure and state.measure != now:
        other = ", ".join(name for name in now if state.measure.get(name) != now[name])
        said.append(f"the best score so far, {state.best:.3f}, no longer compares (other {other}): it starts afresh")
        state.best = None
    state.people, state.data, state.measure = people, dict(data), now
    return said
