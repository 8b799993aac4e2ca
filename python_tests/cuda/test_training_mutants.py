"""The tests of the ops for training can fail: every mutant of `training_mutants.py` dies, and of the expected cause.

What reaches beyond torch's tensors is AddressSanitizer's to find, and of the workspaces, which adapters allocate, what
nobody has written to is NaN: see `op_trials`. All else is found in the checked build.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import emulated_ops
import op_trials
import pytest
import training_cases
from mutants import ADDRESS, CSRC
from training_mutants import ADAPTER_MUTANTS, KERNEL_MUTANTS, TRIALS, TrainingMutant

MUTANTS = [*KERNEL_MUTANTS, *ADAPTER_MUTANTS]
WORKERS = 2  # programs that compile, link or try mutants at once

Result = subprocess.CompletedProcess[str]


def library_of(mutant: TrainingMutant | None, sanitized: bool) -> Path:
    def replaced(paths: list[Path]) -> list[Path]:
        return [mutant.write() if mutant and path == CSRC / mutant.file else path for path in paths]

    return emulated_ops.build(
        "asan" if sanitized else "checked",
        kernels=replaced(emulated_ops.KERNELS),
        adapters=replaced(emulated_ops.ADAPTERS),
        flags=emulated_ops.UNDEFINED if sanitized else (),
    )


def try_mutant(mutant: TrainingMutant) -> Result:
    sanitized = mutant.cause == ADDRESS
    library = library_of(mutant, sanitized)
    result = op_trials.run(library, "--ops", mutant.tried_op, *TRIALS[mutant.trial], sanitized=sanitized)
    library.unlink()  # some MB, for this once; the objects that it shares with others stay
    return result


@pytest.fixture(scope="module")
def result_of(request: pytest.FixtureRequest) -> Iterator[Callable[[TrainingMutant], Result]]:
    """All the module's mutants that were selected, tried side by side."""
    functions = [item for item in request.session.items if isinstance(item, pytest.Function)]
    selected = [item.callspec.params["mutant"] for item in functions if item.originalname == "test_mutant_dies"]
    for sanitized in {mutant.cause == ADDRESS for mutant in selected}:
        library_of(None, sanitized)  # what all share is compiled once
    with ThreadPoolExecutor(WORKERS) as pool:
        futures: dict[str, Future[Result]] = {m.name: pool.submit(try_mutant, m) for m in selected}
        yield lambda mutant: futures[mutant.name].result()
        pool.shutdown(cancel_futures=True)


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
    library = library_of(None, sanitized)
    for trial in {mutant.trial for mutant in MUTANTS if (mutant.cause == ADDRESS) == sanitized}:
        result = op_trials.run(library, *TRIALS[trial], sanitized=sanitized)
        assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_dies(mutant: TrainingMutant, result_of: Callable[[TrainingMutant], Result]) -> None:
    result = result_of(mutant)
    assert result.returncode != 0, result.stdout
    assert mutant.cause in result.stdout + result.stderr
