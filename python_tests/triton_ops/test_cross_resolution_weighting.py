from __future__ import annotations

from pathlib import Path

import interpreted_ops
import pytest

pytest.importorskip("triton", reason="needs triton, which the `test` extra installs on Linux")


def test_suite_in_the_interpreter(tmp_path: Path) -> None:
    interpreted_ops.run("TestCrossResolutionWeighting", tmp_path)
