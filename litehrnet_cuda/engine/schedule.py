"""The learning rate as a function of the step."""

from __future__ import annotations

import math
from typing import Literal, get_args

Decay = Literal["step", "cosine", "poly"]
DECAYS: tuple[Decay, ...] = get_args(Decay)

WARM_UP_START = 0.001  # of the full rate (official)
_POWER = 0.9  # of `poly` (mmsegmentation)
MILESTONES = (170 / 210, 200 / 210)  # of the run, where `step` divides by ten (official: epochs 170 and 200 of 210)


def learning_rate_factor(step: int, total_steps: int, *, warm_up_steps: int, decay: Decay, final: float = 0.0) -> float:
    """What the learning rate is multiplied by at a step.

    Rises linearly for ``warm_up_steps``, at most a third of the run, and then falls: ``step`` divides by ten at 81 %
    and at 95 % of the run, as the official recipe does; ``cosine`` falls along half a cosine, which gets further in
    short runs; ``poly`` almost in a straight line, with the power 0.9 of what is left of the run, as mmsegmentation's
    recipes do.

    Args:
        step: from 0.
        total_steps: length of the run.
        warm_up_steps: official: 500.
        decay: see above.
        final: what ``cosine`` and ``poly`` fall to (mmsegmentation's ``min_lr``, relative to the highest rate).
    """
    warm_up_steps = min(warm_up_steps, total_steps // 3)
    if step < warm_up_steps:
        return WARM_UP_START + (1 - WARM_UP_START) * step / warm_up_steps
    if decay == "step":
        return float(0.1 ** sum(step >= milestone * total_steps for milestone in MILESTONES))
    done = (step - warm_up_steps) / max(1, total_steps - warm_up_steps)
    falling = (1 - done) ** _POWER if decay == "poly" else 0.5 * (1 + math.cos(math.pi * done))
    return float(final + (1 - final) * falling)
