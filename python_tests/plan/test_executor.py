"""Plans run by the native executor, on the emulated backend: step by step, and whole networks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import emulated_ops
import emulation
import pytest
import torch
from official_reference import REGISTRY_NAMES, load_recipe, read_json, read_tensors, recipe_input, relative_error
from plan_cases import backbone_of, pose_network
from plan_trials import Trial, filled, plan_of, run_number, try_step, written_planes

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.models.litehrnet import VARIANTS, LiteHRNet, PoseNetwork
from litehrnet_cuda.plan import build_plan
from litehrnet_cuda.plan.executor import run_program, run_steps
from litehrnet_cuda.plan.program import compile_plan
from litehrnet_cuda.plan.reference import run_reference, run_step

SMALL = (
    "lite_18_k17_b2_64x64",
    pytest.param("lite_18_k17_b2_93x157", marks=pytest.mark.slow),
    "lite_30_k16_b1_96x96",
    pytest.param("lite_30_k17_b2_96x64", marks=pytest.mark.slow),
)
CASES = {case["name"]: case for case in read_json("index.json")["eval"]}
# Of all launches of a forward pass.
LAUNCHES = {"litehrnet_18": 65, "litehrnet_30": 107, "naive_litehrnet_18": 65, "wider_naive_litehrnet_18": 65}


@pytest.fixture(autouse=True)
def library() -> Iterator[emulation.Library]:
    loaded = emulated_ops.load()
    loaded.reset()
    loaded.configure(seed=2)
    yield loaded
    assert loaded.errors() == []
    loaded.reset()


TRIALS = [
    Trial(),
    Trial(size=(50, 71), batch=2),
    Trial(size=(50, 71), dtype=torch.float16, batch=2),
    Trial(size=(50, 71), dtype=torch.bfloat16, shift=4),
    Trial(size=(33, 97), dtype=torch.float64, shift=8),
    Trial(batch=2, shift=4),
    Trial(size=(33, 97), batch=17, kinds=("FuseUpward", "FuseDownward", "HeadConvolution", "ResolutionGates")),
    Trial("naive_litehrnet_18", dtype=torch.float64, batch=2),
    Trial("naive_litehrnet_18", (50, 71)),
    Trial("naive_litehrnet_18", dtype=torch.float16, shift=4),
    Trial("wider_naive_litehrnet_18", (64, 64)),
    Trial("three_blocks", (50, 71), dtype=torch.float16),
    Trial("five_blocks", (33, 97)),
    Trial("no_blocks", (33, 97)),
    Trial("wide_stem", (50, 71), batch=2),
    Trial("wide_stem", (33, 97), dtype=torch.bfloat16, shift=4),
    Trial("returned", (33, 97)),
    Trial("returned_head", (33, 97)),
    Trial("top"),
    # Planes of several tiles; tiles that need not be cut for the sake of blocks.
    Trial("three_blocks", (128, 256), batch=2, kinds=("GatedDepthwise",)),
    Trial(
        "naive_litehrnet_18",
        (50, 71),
        batch=24,
        kinds=("StemConvolution", "SeparableConvolution", "PointwiseConvolution"),
    ),
    Trial("unusual_steps", (1, 1), batch=40, shift=4),
    Trial("unusual_steps", (1, 1), batch=2),
    Trial("unusual_steps", (1, 1), dtype=torch.float16),
]


@pytest.mark.parametrize("trial", TRIALS, ids=str)
def test_steps(library: emulation.Library, trial: Trial) -> None:
    steps = trial.run(library)
    launches = library.launches()
    assert len(launches) == steps
    assert all(launch["shared_bytes"] <= 48 * 1024 for launch in launches)


@pytest.mark.parametrize("network", ["litehrnet_18", "naive_litehrnet_18"])
def test_order_of_threads_changes_nothing(library: emulation.Library, network: str) -> None:
    Trial(network, (50, 71), seeds=(0, 1, 2, 3)).run(library)


# Where each of these has several positions in a tile of the gates: half a row, a row, windows that overlap.
@pytest.mark.parametrize(("size", "batch"), [((128, 96), 9), ((128, 96), 12), ((100, 71), 40)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_tiles_of_several_positions(
    library: emulation.Library, size: tuple[int, int], batch: int, dtype: torch.dtype
) -> None:
    plan = plan_of("three_blocks", size, dtype)
    numbers = {step.name: number for number, step in reversed(list(enumerate(plan.steps)))}
    try_step(library, plan, numbers["backbone.stage1.0.layers.2"], batch=batch)


@pytest.mark.parametrize("network", ["litehrnet_18", "naive_litehrnet_18"])
def test_not_a_number_passes(network: str) -> None:
    """A NaN comes out of every ReLU, in all pixels that it takes part in, and nowhere else."""
    plan = plan_of(network, (64, 48), torch.float32)
    program = compile_plan(plan)
    for number, step in enumerate(plan.steps):
        memories = [filled(plan, step, 1) for _ in range(2)]
        for memory in memories:
            for planes in step.inputs():
                memory.buffers[planes[0].buffer][0, planes[0].first, 0] = torch.nan
        run_number(memories[0], program, number)
        run_step(step, memories[1])
        for buffer, chosen in written_planes(plan, step).items():
            native, reference = (memory.whole(buffer)[:, chosen] for memory in memories)
            assert torch.equal(native.isnan(), reference.isnan()), step.name


@pytest.mark.parametrize("name", SMALL)
def test_evaluation_matches_official(name: str, library: emulation.Library) -> None:
    case = CASES[name]
    variant = VARIANTS[REGISTRY_NAMES[case["variant"]]]
    model = load_recipe(PoseNetwork(LiteHRNet(variant), case["joints"]), case["weight_tag"]).eval()
    x = recipe_input(case["input_seed"], (case["batch"], 3, case["height"], case["width"]))
    expected = read_tensors("eval_outputs.safetensors", name)[""]
    for dtype, allowed in ((torch.float64, 1e-7), (torch.float32, 5e-6)):  # stored as float32; as plain PyTorch
        library.reset()
        program = compile_plan(build_plan(model, case["height"], case["width"], dtype))
        (y,) = run_program(program, x.to(dtype))
        assert relative_error(y, expected) < allowed
        assert len(library.launches()) == LAUNCHES[variant.name]


@pytest.mark.parametrize("network", LAUNCHES)
@pytest.mark.parametrize("batch", [1, 3])
def test_launches_of_a_forward_pass(library: emulation.Library, network: str, batch: int) -> None:
    program = compile_plan(build_plan(pose_network(network), 64, 48))
    run_program(program, torch.randn(batch, 3, 64, 48))
    assert len(library.launches()) == LAUNCHES[network]


# The networks' own error in these types: about 90 roundings of random sign on the way, and what they grow to.
@pytest.mark.parametrize(("dtype", "allowed"), [(torch.float16, 5e-3), (torch.bfloat16, 4e-2)])
@pytest.mark.parametrize("network", ["litehrnet_18", "litehrnet_30", "naive_litehrnet_18"])
def test_error_of_16_bits(network: str, dtype: torch.dtype, allowed: float) -> None:
    model = pose_network(network)
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        expected = model(x)
        plain = pose_network_in(network, dtype)(x.to(dtype))
    (y,) = run_program(compile_plan(build_plan(model, 64, 64, dtype)), x.to(dtype))
    error = relative_error(y.double(), expected)
    assert error < allowed
    assert error < 2 * relative_error(plain.double(), expected)


def pose_network_in(network: str, dtype: torch.dtype) -> torch.nn.Module:
    model = PoseNetwork(LiteHRNet(VARIANTS[network]), 5)
    return load_recipe(model, "w0").eval().to(dtype)


@pytest.mark.parametrize(
    "options", [{"branches": "all"}, {"with_head": False, "branches": "all"}, {"with_head": False}], ids=str
)
def test_backbones(options: dict[str, Any]) -> None:
    model = backbone_of("litehrnet_18", **options)
    x = torch.randn(1, 3, 50, 71, dtype=torch.float64)
    with torch.no_grad():
        expected = model(x)
    expected = expected if isinstance(expected, (list, tuple)) else [expected]
    outputs = run_program(compile_plan(build_plan(model, 50, 71, torch.float64)), x)
    assert [y.shape for y in outputs] == [y.shape for y in expected]
    for y, exact in zip(outputs, expected, strict=True):
        assert relative_error(y, exact) < 1e-12


def test_changed_inputs_and_two_runs_are_bitwise_equal() -> None:
    program = compile_plan(build_plan(pose_network("litehrnet_18"), 64, 48))
    first, second = torch.randn(2, 2, 3, 64, 48)
    (a,), (b,), (c,) = (run_program(program, x) for x in (first, second, first))
    assert torch.equal(a, c)
    assert not torch.equal(a, b)


@pytest.mark.parametrize(
    ("network", "dtype"),
    [
        ("litehrnet_18", torch.float32),
        ("litehrnet_18", torch.float16),
        ("naive_litehrnet_18", torch.bfloat16),
        pytest.param("litehrnet_30", torch.float32, marks=pytest.mark.slow),
    ],
)
def test_one_launch(library: emulation.Library, network: str, dtype: torch.dtype) -> None:
    program = compile_plan(build_plan(pose_network(network), 50, 71, dtype))
    images = torch.randn(2, 3, 50, 71, dtype=torch.float64).to(dtype)
    (expected,) = run_program(program, images)
    results = []
    for seed in (0, 1, 2):
        library.reset()
        library.configure(seed=seed)
        results += run_program(program, images, persistent=True)
        (launch,) = library.launches()
        assert "plan_persistent_kernel" in launch["kernel"]
        assert launch["grid"][0] > 1
    assert all(torch.equal(results[0], other) for other in results[1:])
    # Tiles are cut for blocks of another size, so sums of gates' means may be taken in another order.
    assert relative_error(results[0], expected.double()) < 8 * torch.finfo(dtype).eps


def test_one_launch_has_no_double_precision() -> None:
    program = compile_plan(build_plan(pose_network("litehrnet_18"), 32, 32, torch.float64))
    with pytest.raises(RuntimeError, match="the one launch could not be started"):
        run_program(program, torch.zeros(1, 3, 32, 32, dtype=torch.float64), persistent=True)


def test_images_of_any_layout() -> None:
    plan = build_plan(pose_network("litehrnet_18"), 64, 48)
    images = torch.randn(2, 3, 64, 48)
    (expected,) = run_reference(plan, images)
    program = compile_plan(plan)
    shifted = torch.cat([torch.zeros(1), images.flatten()])[1:].view(images.shape)
    for x in (images.to(memory_format=torch.channels_last), shifted, torch.cat([images, images], 3)[..., :48]):
        assert relative_error(run_program(program, x)[0], expected) < 5e-6


def test_allocates_the_arena_and_the_outputs_alone() -> None:
    program = compile_plan(build_plan(backbone_of("litehrnet_18", branches="all"), 64, 48, torch.float32))
    images = torch.randn(2, 3, 64, 48)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        outputs = run_program(program, images)
    allocated = [event.self_cpu_memory_usage for event in profile.events() if event.self_cpu_memory_usage > 0]
    assert sorted(allocated) == sorted([2 * program.arena_bytes, *(y.numel() * y.element_size() for y in outputs)])


def test_no_images() -> None:
    program = compile_plan(build_plan(pose_network("litehrnet_18"), 64, 48))
    (y,) = run_program(program, torch.randn(0, 3, 64, 48))
    assert y.shape == (0, 5, 16, 12)


@pytest.mark.parametrize(
    "images",
    [torch.zeros(1, 3, 64, 64), torch.zeros(3, 64, 48), torch.zeros(1, 4, 64, 48), torch.zeros(1, 3, 64, 48).half()],
    ids=["size", "no_batch", "channels", "dtype"],
)
def test_images_that_do_not_fit(images: torch.Tensor) -> None:
    program = compile_plan(build_plan(pose_network("litehrnet_18"), 64, 48))
    with pytest.raises(InputError, match=r"images: expected \[N, 3, 64, 48\] of torch.float32"):
        run_program(program, images)


def test_programs_that_are_none_are_refused() -> None:
    """No number in a program is believed: places outside of the constants, counts without end, steps cut short."""
    program = compile_plan(build_plan(pose_network("litehrnet_18"), 64, 48))
    images = torch.zeros(1, 3, 64, 48)
    for code in (program.code[:-1], program.code[:1], torch.tensor([99, 0]), torch.tensor([0, -1])):
        with pytest.raises(RuntimeError, match="could not be started"):
            run_program(replace(program, code=code), images)
    with pytest.raises(RuntimeError, match="step 0 could not be started"):
        run_program(replace(program, constants=program.constants[:64]), images)
    refused = 0
    for number in range(2, 2 + int(program.code[1])):  # the stem's numbers
        code = program.code.clone()
        code[number] = 2**31
        with pytest.raises(RuntimeError, match="step 0 could not be started"):
            run_program(replace(program, code=code), images)
        refused += 1
    assert refused > 10


def test_steps_of_a_program_follow_one_another() -> None:
    plan = build_plan(pose_network("litehrnet_18"), 64, 48)
    program = compile_plan(plan)
    images = torch.randn(1, 3, 64, 48)
    (expected,) = run_program(program, images)
    arena, output = torch.empty(program.arena_bytes, dtype=torch.uint8), torch.empty_like(expected)
    for first in range(0, len(plan.steps), 20):
        run_steps(program, images, arena, [output], first, first + 20)
    assert torch.equal(output, expected)
