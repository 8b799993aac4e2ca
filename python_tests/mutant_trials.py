"""Builds libraries of emulated ops with a mutant in them, and runs a program of trials on each, in its own process."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import emulated_ops
from mutants import ADDRESS, CSRC, TriedMutant

Result = subprocess.CompletedProcess[str]
M = TypeVar("M", bound=TriedMutant)


@dataclass(frozen=True)
class MutantTrials(Generic[M]):
    """The sources of a library, and ``run(mutant, library, sanitized)``, which runs the mutant's trial on it.

    What reaches beyond torch's tensors is AddressSanitizer's to find; all else is found in the checked build.
    """

    kernels: Sequence[Path]
    adapters: Sequence[Path]
    run: Callable[[M, Path, bool], Result]

    def library_of(self, mutant: M | None, sanitized: bool) -> Path:
        """The library with a mutant, or without any."""

        # The mutant comes first: of functions that several sources have, the linker takes the first one.
        def replaced(paths: Sequence[Path]) -> list[Path]:
            if mutant is None or CSRC / mutant.file not in paths:
                return list(paths)
            return [mutant.write(), *(path for path in paths if path != CSRC / mutant.file)]

        return emulated_ops.build(
            "asan" if sanitized else "checked",
            kernels=replaced(self.kernels),
            adapters=replaced(self.adapters),
            flags=emulated_ops.UNDEFINED if sanitized else (),
        )

    def result_of(self, mutant: M) -> Result:
        """What the trial of a mutant says."""
        sanitized = mutant.cause == ADDRESS
        library = self.library_of(mutant, sanitized)
        result = self.run(mutant, library, sanitized)
        library.unlink()  # some MB, for this once; the objects that it shares with others stay
        return result
