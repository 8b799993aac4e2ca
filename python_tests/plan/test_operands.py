from __future__ import annotations

from litehrnet_cuda.plan.operands import Run, plane_count


def test_plane_count() -> None:
    assert plane_count((Run(0, 3, 2), Run(1, 0, 5))) == 7
    assert plane_count(()) == 0
