from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from plan_cases import UNUSUAL, pose_network

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.models.litehrnet import VARIANTS, Variant
from litehrnet_cuda.plan import Plan, build_plan
from litehrnet_cuda.plan.costs import plan_cost
from litehrnet_cuda.plan.gpus import GPUS, Gpu
from litehrnet_cuda.plan.latency import (
    DEPENDENT,
    FEW_BLOCKS,
    GRAPH,
    LEAST_BLOCKS,
    PERSISTENT,
    STREAM,
    WAYS,
    Launch,
    Range,
    _longest_waves,
    assumptions,
    plan_launches,
    predict,
    predict_launch,
    predict_plan,
)
from litehrnet_cuda.plan.steps import (
    FuseDownward,
    GatedDepthwise,
    PointwiseConvolution,
    ResolutionGates,
    SeparableConvolution,
    Step,
)

# 100 multiprocessors of 1 GHz, 1000 GB/s, 10 TFLOPS, 1 MB of L2.
GPU = Gpu("test", "9.0", "9.0", 100, 1000, teraflops=10, l2_megabytes=1, gigahertz=1)
LAUNCH = Launch(fewest=50, most=250, least_bytes=850_000, most_bytes=1_000_000, block_bytes=8_000, macs=20_000_000)


@cache
def plan_of(
    variant: str | Variant = "litehrnet_18", size: tuple[int, int] = (256, 192), dtype: torch.dtype = torch.float32
) -> Plan:
    return build_plan(pose_network(variant), *size, dtype)


def test_a_launch_by_hand() -> None:
    # At best 850 kB at 850 GB/s take 1 us, and 20e6 multiply-adds at 10 TFLOPS 4 us, at the same time.
    # At worst 1 MB takes 2.5 us at 400 GB/s, 5 with half of the multiprocessors; then three waves of blocks fetch 8 kB
    # each in 1 us; then 1 TFLOPS takes 40 us, 80 with half of the multiprocessors.
    assert predict_launch(LAUNCH, GPU, warm=False) == pytest.approx((4e-6, 5e-6 + 3e-6 + 80e-6))
    # All of them at first, but 101 blocks take two waves.
    many = LAUNCH._replace(fewest=100)
    assert predict_launch(many, GPU, warm=False).longest == pytest.approx(2.5e-6 + 3e-6 + 40e-6 * 200 / 101)
    assert predict_launch(LAUNCH._replace(macs=0), GPU, warm=False) == pytest.approx((1e-6, 8e-6))


def test_at_best_l2_gives_what_it_holds() -> None:
    copying = LAUNCH._replace(macs=0)
    # 850 kB at 6400 GB/s.
    assert predict_launch(copying, GPU, warm=True).shortest == pytest.approx(850e3 / 6.4e12)
    # What is more than 2^20 bytes comes from memory meanwhile.
    more = copying._replace(least_bytes=2**20 + 850_000)
    assert predict_launch(more, GPU, warm=True).shortest == pytest.approx(1e-6)
    assert predict_launch(more, GPU, warm=False).shortest == pytest.approx(1e-6 + 2**20 / 850e9)
    # A tenth of the multiprocessors, a tenth of what they take; and of what they compute.
    few = copying._replace(fewest=10, most=10)
    assert predict_launch(few, GPU, warm=True).shortest == pytest.approx(850e3 / 0.64e12)
    assert predict_launch(few._replace(macs=20_000_000), GPU, warm=True).shortest == pytest.approx(40e-6)


@pytest.mark.parametrize(
    ("fewest", "most", "expected"),
    [(100, 100, 1), (200, 200, 1), (50, 50, 2), (150, 150, 4 / 3), (50, 100, 2), (96, 240, 200 / 101), (1, 1, 100)],
)
def test_whole_waves(fewest: int, most: int, expected: float) -> None:
    assert _longest_waves(fewest, most, 100) == pytest.approx(expected)
    assert expected == pytest.approx(max(-(-n // 100) * 100 / n for n in range(fewest, most + 1)))


def test_launches_add_up_in_every_way_of_launching() -> None:
    one = predict_launch(LAUNCH, GPU, warm=False)
    ends = {STREAM: (6, 15), GRAPH: (3, 9), DEPENDENT: (1 + 2 * 0.6, 3 + 2 * 2), PERSISTENT: (2 + 2 * 0.8, 5 + 2 * 3)}
    assert set(ends) == set(WAYS)
    for way, launching in ends.items():
        expected = [3 * work + micros * 1e-6 for work, micros in zip(one, launching, strict=True)]
        assert predict([LAUNCH] * 3, GPU, way) == pytest.approx(expected)
    assert predict([], GPU) == (0, 0)


def test_ranges_are_printed_in_microseconds() -> None:
    assert str(Range(3.21e-6, 41.7e-6)) == "3.2 - 42"


@pytest.mark.parametrize("name", ["least_bytes", "most_bytes", "block_bytes", "macs"])
@pytest.mark.parametrize("warm", [False, True])
def test_more_work_takes_no_less(name: str, warm: bool) -> None:
    values = [0, 1e4, 1e5, 1e6, 1.1e6, 1e7, 1e8]
    times = [predict_launch(LAUNCH._replace(**{name: value}), GPU, warm=warm) for value in values]
    for ends in zip(*times, strict=True):
        assert list(ends) == sorted(ends)
    assert times[-1] != times[0]


@pytest.mark.parametrize("name", ["gigabytes_per_second", "teraflops", "l2_megabytes", "gigahertz"])
def test_more_of_a_gpu_takes_no_longer(name: str) -> None:
    gpus = [replace(GPUS[0], **{name: factor * getattr(GPUS[0], name)}) for factor in (1, 1.5, 2, 4)]
    times = [predict_plan(plan_of(), gpu, batch=16) for gpu in gpus]
    for ends in zip(*times, strict=True):
        assert list(ends) == sorted(ends, reverse=True)
    assert times[-1] != times[0]


@pytest.mark.parametrize("size", [(256, 192), (50, 71)], ids=str)
def test_more_images_take_no_less(size: tuple[int, int]) -> None:
    launches = [plan_launches(plan_of(size=size), batch) for batch in (1, 2, 3, 4, 7, 8, 9, 10, 16, 31, 64, 65)]
    for gpu in GPUS:
        times = [predict(each, gpu, warm=True) for each in launches]
        for shortest, longest in times:
            assert 0 < shortest < longest
        for ends in zip(*times, strict=True):
            assert list(ends) == sorted(ends)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_plan_takes_at_least_its_launches_bytes_and_arithmetic(name: str) -> None:
    plan = plan_of(name)
    cost = plan_cost(plan)
    images = 64
    size = images * (cost.read + cost.written) + cost.weights
    launches = plan_launches(plan, images)
    for gpu in GPUS:
        for way in (way for way in WAYS if way.runs_on(gpu)):
            launching = way.first.shortest + (len(plan.steps) - 1) * way.others.shortest
            time = predict(launches, gpu, way, warm=True)
            assert time.shortest >= launching + 2 * images * cost.macs / (gpu.teraflops * 1e12)
            assert time.longest >= launching + size / (0.4 * gpu.gigabytes_per_second * 1e9)
            if way == STREAM:
                assert time == predict_plan(plan, gpu, batch=images)


def test_half_types_take_less_but_multiply_as_much() -> None:
    full, half = plan_of(), plan_of(dtype=torch.float16)
    for gpu in GPUS:
        for short, long in zip(predict_plan(half, gpu, batch=64), predict_plan(full, gpu, batch=64), strict=True):
            assert short < long
    assert [launch.macs for launch in plan_launches(full, 2)] == [launch.macs for launch in plan_launches(half, 2)]


def test_known_blocks_narrow_the_range() -> None:
    plan = plan_of()
    for gpu in GPUS:
        unknown = predict_plan(plan, gpu)
        for count in (LEAST_BLOCKS, 120, FEW_BLOCKS):
            known = predict_plan(plan, gpu, blocks=[count] * len(plan.steps))
            assert unknown.shortest <= known.shortest < known.longest <= unknown.longest
        assert predict_plan(plan, gpu, blocks=[1] * len(plan.steps)).shortest > unknown.shortest


def test_launches_of_a_plan() -> None:
    plan = plan_of()
    launches = plan_launches(plan, 3)
    cost = plan_cost(plan)
    assert sum(launch.macs for launch in launches) == 3 * cost.macs
    assert sum(launch.least_bytes for launch in launches) == 3 * (cost.read + cost.written) + cost.weights
    assert all(launch.least_bytes == launch.most_bytes for launch in launches)
    # The stem's first half: 128x96 pixels, one block for 32; the head's first part: 8x6.
    assert (launches[0].fewest, launches[0].most) == (LEAST_BLOCKS, 3 * 128 * 96 // 32)
    assert (launches[61].fewest, launches[61].most) == (LEAST_BLOCKS, FEW_BLOCKS)
    blocks = list(range(1, 66))
    assert [(launch.fewest, launch.most) for launch in plan_launches(plan, 3, blocks)] == [(n, n) for n in blocks]


@pytest.mark.parametrize(
    ("variant", "name", "kind", "elements"),
    [
        # The larger path, 32 channels to 80: filters, a matrix, and their biases.
        ("litehrnet_18", "transition0", SeparableConvolution, 32 * 10 + 80 * 33),
        # The first product, which stacks two chains, and the path from the lowest resolution, without a bias.
        ("litehrnet_18", "stage2.0.fuse_layers.2", FuseDownward, 120 * 10 + 160 * 121 + 160 * 320),
        ("litehrnet_18", "stage2.0.layers.0", GatedDepthwise, 0),
        # Both matrices; nothing is pending before the first block.
        ("litehrnet_18", "stage2.0.layers.0", ResolutionGates, 37 * 301 + 300 * 38),
        ("naive_litehrnet_18", "stage2.0.layers.*.0.first", PointwiseConvolution, 120 * 121),
    ],
)
def test_blocks_fetch_the_weights_of_one_part(variant: str, name: str, kind: type[Step], elements: int) -> None:
    plan = plan_of(variant)
    (number,) = (n for n, step in enumerate(plan.steps) if step.name == f"backbone.{name}" and isinstance(step, kind))
    assert plan_launches(plan, 1)[number].block_bytes == 4 * elements


@pytest.mark.parametrize("variant", [*VARIANTS, *UNUSUAL], ids=lambda variant: getattr(variant, "name", variant))
def test_no_block_fetches_more_than_all_weights(variant: str | Variant) -> None:
    plan = plan_of(variant, (64, 48))
    for step, launch in zip(plan.steps, plan_launches(plan, 1), strict=True):
        everything = sum(plan.weights[name].numel() * plan.weights[name].element_size() for name in step.weights())
        assert launch.block_bytes <= everything
        assert (launch.block_bytes == 0) == isinstance(step, GatedDepthwise)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 0}, "batch: expected at least 1, got 0"),
        ({"blocks": [1, 2]}, r"blocks: expected 65 numbers from 1 up, one a step, got \[1, 2\]"),
        ({"blocks": [0] * 65}, "blocks: expected 65 numbers from 1 up"),
        ({"way": DEPENDENT}, r"graph\+pdl: expected a GPU of compute capability 9.0 or more, got T4"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        predict_plan(plan_of(), GPUS[0], **options)


def test_float64_is_refused() -> None:
    with pytest.raises(InputError, match="float32, float16 or bfloat16, got float64"):
        predict_plan(plan_of(size=(64, 48), dtype=torch.float64), GPUS[0])


def test_assumptions_name_every_constant() -> None:
    text = "\n".join(assumptions())
    for way in WAYS:
        assert f"{way.name}: from {str(way.others).replace(' - ', ' to ')} microseconds" in text
    for number in ("64 bytes a cycle", "8 bytes a cycle", "85%", "40%", "10%", "from 96 a launch to 240", "32 output"):
        assert number in text
    assert "measured" not in text
