"""The tests of the ops for training can fail: every mutant of `training_mutants.py` dies, and of the expected cause.

What reaches beyond torch's tensors is AddressSanitizer's to find, and of the workspaces, which adapters allocate, what
nobody has written to is NaN: see `op_trials`. All else is found in the checked build.
"""

from __future__ import annotations

from pathlib import Path

import emulated_ops
import op_trials
import pytest
import training_cases
from mutant_trials import MutantTrials, Result
from mutants import ADDRESS
from training_mutants import ADAPTER_MUTANTS, KERNEL_MUTANTS, TRIALS, TrainingMutant

MUTANTS = [*KERNEL_MUTANTS, *ADAPTER_MUTANTS]


def run(mutant: TrainingMutant, library: Path, sanitized: bool) -> Result:
    return op_trials.run(library, "--ops", mutant.tried_op, *TRIALS[mutant.trial], sanitized=sanitized)


PROGRAM = MutantTrials(emulated_ops.KERNELS, emulated_ops.ADAPTERS, run)


def test_mutants_still_apply() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    for mutant in MUTANTS:
        mutant.text()  # raises where the text to replace does not occur once


def test_every_source_for_training_has_mutants() -> None:
    mutated = {mutant.file for mutant in MUTANTS}
    for op in (*training_cases.TRAINING_OPS, "spatial_weighting"):
        for name in (op, f"{op}_backward"):
            assert f"cuda/{name}.cu" in mutated


@pytest.mark.slow
@pytest.mark.parametrize("sanitized", [False, True], ids=["checked", "sanitizers"])
def test_kernels_survive_the_trials_of_their_mutants(sanitized: bool) -> None:
    library = PROGRAM.library_of(None, sanitized)
    for trial in {mutant.trial for mutant in MUTANTS if (mutant.cause == ADDRESS) == sanitized}:
        result = op_trials.run(library, *TRIALS[trial], sanitized=sanitized)
        assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_dies(mutant: TrainingMutant) -> None:
    result = PROGRAM.result_of(mutant)
    assert result.returncode != 0, result.stdout
    assert mutant.cause in result.stdout + result.stderr
