"""The trials of a plan's steps can fail: every mutant of `plan_mutants.py` dies, and of the expected cause."""

from __future__ import annotations

from pathlib import Path

import plan_trials
import pytest
from emulated_ops import CSRC
from mutant_trials import MutantTrials, Result
from mutants import ADDRESS
from plan_mutants import MUTANTS, TRIALS, PlanMutant

from litehrnet_cuda.plan.steps import STEPS


def run(mutant: PlanMutant, library: Path, sanitized: bool) -> Result:
    return run_trial(library, mutant.trial, {mutant.kind}, sanitized)


def run_trial(library: Path, trial: str, kinds: set[str], sanitized: bool) -> Result:
    """With steps of these kinds; of all, where it has none."""
    chosen = ["--kinds", *sorted(kinds)] if kinds - {""} else []
    return plan_trials.run(library, *TRIALS[trial].split(), *chosen, sanitized=sanitized)


# The op that runs plans alone.
PROGRAM = MutantTrials(sorted((CSRC / "cuda").glob("plan_*.cu")), [CSRC / "ops" / "run_plan.cpp"], run)


def test_mutants_still_apply() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    for mutant in MUTANTS:
        mutant.text()  # raises where the text to replace does not occur once


def test_every_kind_of_step_has_mutants() -> None:
    for kind in STEPS:
        assert sum(mutant.kind == kind.__name__ for mutant in MUTANTS) >= 4


@pytest.mark.slow
@pytest.mark.parametrize("sanitized", [False, True], ids=["checked", "sanitizers"])
def test_steps_survive_the_trials_of_their_mutants(sanitized: bool) -> None:
    library = PROGRAM.library_of(None, sanitized)
    mutants = [mutant for mutant in MUTANTS if (mutant.cause == ADDRESS) == sanitized]
    for trial in sorted({mutant.trial for mutant in mutants}):
        result = run_trial(library, trial, {mutant.kind for mutant in mutants if mutant.trial == trial}, sanitized)
        assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("sanitized", [False, True], ids=["checked", "sanitizers"])
@pytest.mark.parametrize("network", ["litehrnet_18", "naive_litehrnet_18", "unusual_steps", "returned_head"])
def test_networks(network: str, sanitized: bool) -> None:
    library = PROGRAM.library_of(None, sanitized)
    result = plan_trials.run(library, "--networks", network, "--sizes", "64x48", "50x71", sanitized=sanitized)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_dies(mutant: PlanMutant) -> None:
    result = PROGRAM.result_of(mutant)
    assert result.returncode != 0, result.stdout
    assert mutant.cause in result.stdout + result.stderr
