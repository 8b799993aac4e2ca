from __future__ import annotations

from litehrnet_cuda.plan.operands import Matrix, PendingGate, Run
from litehrnet_cuda.plan.steps import STEPS, ResolutionGates, Step


def test_all_kinds_are_listed() -> None:
    assert set(STEPS) == set(Step.__subclasses__())


def test_accesses_with_pending_gates() -> None:
    """Factors that the step evaluates it writes, others it reads; each once, however many planes name them."""
    matrix = Matrix("w", "b")
    gate = PendingGate((Run(1, 0, 4),), 12, matrix, matrix, (Run(2, 0, 4),))
    own = Run(0, 0, 4, factors=2)
    other = Run(0, 4, 4, factors=3, first_factor=1)
    step = ResolutionGates("name", (gate,), ((own,), (other,)), matrix, matrix, (Run(4, 0, 8),))
    assert step.reads() == [own, other, Run(1, 0, 4), Run(3, 1, 4)]
    assert step.writes() == [Run(4, 0, 8), Run(2, 0, 4)]
    assert step.weights() == ("w", "b") * 4
