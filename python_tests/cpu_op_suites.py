"""The ops' suites on the CPU in a process of their own, for a lesser processor or with another library."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from litehrnet_cuda import _extension
from litehrnet_cuda.backends import CPU_CAPABILITY_VARIABLE

TESTS = Path(__file__).parent
FILES = ("cpu/test_ops.py", "ops/test_separable_conv_batch_norm.py", "ops/test_weighted_sum.py")
PROGRAM = """\
import sys
from pathlib import Path
import pytest
import litehrnet_cuda._extension as extension
extension.LIBRARY = Path(sys.argv[1])
sys.exit(pytest.main(sys.argv[2:]))
"""


def run_op_suites(
    folder: Path,
    capability: str,
    select: str,
    *,
    library: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Fails with their last words if a test fails.

    Args:
        folder: to run in; not the source tree, whose package would hide the one that is installed.
        capability: of the processor, at most.
        select: which tests, as pytest's ``-k`` has it.
        library: in the place of the package's.
        environment: variables to add.
    """
    options = ["-c", str(TESTS.parent / "pyproject.toml"), "--rootdir", str(TESTS.parent), "-q", "-k", select]
    done = subprocess.run(
        [
            *(sys.executable, "-c", PROGRAM, str(library or _extension.LIBRARY), *options, "-p", "no:cacheprovider"),
            *(str(TESTS / file) for file in FILES),
        ],
        cwd=folder,
        env={**os.environ, CPU_CAPABILITY_VARIABLE: capability, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert " passed" in done.stdout
