from __future__ import annotations

import pytest
import torch
from plan_cases import SIZES, UNUSUAL, backbone_of, pose_network

from litehrnet_cuda.models.complexity import measure_complexity
from litehrnet_cuda.models.litehrnet import VARIANTS, Variant
from litehrnet_cuda.plan import Plan, build_plan
from litehrnet_cuda.plan.memory import ALIGNMENT, buffer_bytes, lay_out, lifetimes
from litehrnet_cuda.plan.operands import Buffer


def live_bytes(plan: Plan) -> list[int]:
    """What no placement can do without, step by step."""
    spans = lifetimes(plan.buffers, plan.steps)
    live = [0] * len(plan.steps)
    for buffer, span in zip(plan.buffers, spans, strict=True):
        if buffer.role not in ("input", "output"):
            assert span is not None, f"{buffer.name} is not used"
            for number in range(span[0], span[1] + 1):
                live[number] += buffer_bytes(buffer, plan.dtype)
    return live


def assert_no_overlap(plan: Plan) -> None:
    """Paints every step's buffers into a map of the arena, which must not have been painted."""
    spans = lifetimes(plan.buffers, plan.steps)
    for number in range(len(plan.steps)):
        arena = torch.zeros(plan.layout.arena_bytes // ALIGNMENT, dtype=torch.bool)
        for buffer, offset, span in zip(plan.buffers, plan.layout.offsets, spans, strict=True):
            if offset is not None and span is not None and span[0] <= number <= span[1]:
                assert offset % ALIGNMENT == 0
                part = arena[offset // ALIGNMENT : (offset + buffer_bytes(buffer, plan.dtype)) // ALIGNMENT]
                assert len(part) * ALIGNMENT == buffer_bytes(buffer, plan.dtype), f"{buffer.name} ends outside"
                assert not part.any(), f"{buffer.name} at step {number}"
                part[:] = True


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", VARIANTS)
def test_buffers_that_are_needed_together_are_apart(name: str, size: tuple[int, int]) -> None:
    plan = build_plan(pose_network(name), *size)
    assert_no_overlap(plan)
    # Large ones first is no optimum: it was within 7 % of it in all networks and sizes tried.
    assert max(live_bytes(plan)) <= plan.layout.arena_bytes <= 1.1 * max(live_bytes(plan))


@pytest.mark.parametrize("variant", UNUSUAL, ids=lambda variant: variant.name)
def test_unusual_variants(variant: Variant) -> None:
    for dtype in (torch.float16, torch.float64):
        assert_no_overlap(build_plan(backbone_of(variant, with_head=False), 45, 64, dtype))


@pytest.mark.parametrize("name", ["litehrnet_18", "litehrnet_30", "wider_naive_litehrnet_18"])
def test_less_than_half_of_what_eager_needs(name: str) -> None:
    eager = (
        measure_complexity(VARIANTS[name], height=256, width=192).peak_bytes - 3 * 256 * 192 * 4
    )  # without the image
    assert build_plan(pose_network(name), 256, 192).layout.arena_bytes <= 0.5 * eager


def test_buffers_share_bytes_after_their_lives() -> None:
    plan = build_plan(pose_network("litehrnet_18"), 64, 64)
    assert sum(buffer_bytes(b, plan.dtype) for b in plan.buffers) > 5 * plan.layout.arena_bytes


def test_the_callers_tensors_are_not_in_the_arena() -> None:
    image = Buffer("image", 3, 4, 4, "input", 16)
    unused = Buffer("unused", 3, 4, 4, "map", 16)
    layout = lay_out((image, unused), (), torch.float32)
    assert layout.offsets == (None, None)
    assert layout.arena_bytes == 0


def test_types_of_buffers() -> None:
    half = {role: Buffer("b", 2, 1, 5, role, 5) for role in ("input", "map", "output", "gates", "sums", "factors")}  # type: ignore[arg-type]
    sizes = {role: buffer_bytes(buffer, torch.float16) for role, buffer in half.items()}
    assert sizes == {"input": 20, "map": 256, "output": 20, "gates": 256, "sums": 256, "factors": 256}
    wide = Buffer("b", 100, 1, 5, "sums", 5)
    assert buffer_bytes(wide, torch.float16) == 2048  # 500 floats
