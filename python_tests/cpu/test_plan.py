"""Whole forward passes on the CPU: against the official code, by any number of threads, in forked processes."""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from official_reference import REGISTRY_NAMES, load_recipe, read_json, read_tensors, recipe_input, relative_error
from plan_cases import UNUSUAL, backbone_of, pose_network
from torch import Tensor

from litehrnet_cuda import PoseEstimator, create_model, optimize_for_inference
from litehrnet_cuda.backends import use_backend
from litehrnet_cuda.data.coco import CocoKeypoints
from litehrnet_cuda.engine.evaluate import evaluate
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.inference import Execution
from litehrnet_cuda.models.litehrnet import VARIANTS, LiteHRNet, PoseNetwork
from litehrnet_cuda.plan import build_plan
from litehrnet_cuda.plan.executor import run_program, run_steps
from litehrnet_cuda.plan.program import Program, compile_plan

CASES = {case["name"]: case for case in read_json("index.json")["eval"]}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def program_of(network: str = "litehrnet_18", size: tuple[int, int] = (64, 48)) -> Program:
    return compile_plan(build_plan(pose_network(network), *size, torch.float32))


@pytest.mark.parametrize("name", CASES)
def test_evaluation_matches_official(name: str) -> None:
    case = CASES[name]
    variant = VARIANTS[REGISTRY_NAMES[case["variant"]]]
    model = load_recipe(PoseNetwork(LiteHRNet(variant), case["joints"]), case["weight_tag"]).eval()
    x = recipe_input(case["input_seed"], (case["batch"], 3, case["height"], case["width"]))
    expected = read_tensors("eval_outputs.safetensors", name)[""]
    for dtype, allowed in ((torch.float64, 1e-7), (torch.float32, 5e-6)):  # stored as float32; as plain PyTorch
        program = compile_plan(build_plan(model, case["height"], case["width"], dtype))
        (y,) = run_program(program, x.to(dtype))
        assert relative_error(y, expected) < allowed


# With five branches there is no plan, see test_inference.py.
NETWORKS = {**VARIANTS, **{variant.name: variant for variant in UNUSUAL if variant.name != "five_branches"}}


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("size", [(64, 48), (50, 71)], ids=str)
def test_networks_of_all_kinds(network: Any, size: tuple[int, int]) -> None:
    model = pose_network(network)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    with torch.no_grad(), use_backend("reference"):
        expected = model(x)
    fast = optimize_for_inference(model)
    assert fast.backend_for(x) == Execution("cpu", True)
    assert relative_error(fast(x), expected) < 1e-12
    # As far as single precision is from double precision in plain PyTorch.
    assert relative_error(optimize_for_inference(model, dtype=torch.float32)(x).double(), expected) < 5e-6


@pytest.mark.parametrize(
    "options", [{"branches": "all"}, {"with_head": False, "branches": "all"}, {"with_head": False}], ids=str
)
def test_backbones(options: dict[str, Any]) -> None:
    model = backbone_of("litehrnet_18", **options)
    x = torch.randn(1, 3, 50, 71, dtype=torch.float64)
    with torch.no_grad(), use_backend("reference"):
        expected = model(x)
    got = optimize_for_inference(model)(x)
    if isinstance(expected, Tensor):
        got, expected = [got], [expected]
    for y, exact in zip(got, expected, strict=True):
        assert relative_error(y, exact) < 1e-12


# The networks' own error in these types: about 90 roundings of random sign on the way, and what they grow to.
@pytest.mark.parametrize(("dtype", "allowed"), [(torch.float16, 5e-3), (torch.bfloat16, 4e-2)])
@pytest.mark.parametrize("network", ["litehrnet_18", "naive_litehrnet_18"])
def test_error_of_16_bits(network: str, dtype: torch.dtype, allowed: float) -> None:
    model = pose_network(network)
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad(), use_backend("reference"):
        expected = model(x)
    y = optimize_for_inference(model, dtype=dtype)(x)
    assert y.dtype == dtype
    assert relative_error(y.double(), expected) < allowed


@pytest.mark.parametrize("network", ["litehrnet_18", "naive_litehrnet_18"])
def test_batches_and_threads_change_no_bit(network: str) -> None:
    program = program_of(network, (50, 71))
    images = torch.randn(7, 3, 50, 71)
    torch.set_num_threads(1)
    alone = [run_program(program, image[None])[0] for image in images]
    for threads in (1, 2, 3, 8):
        torch.set_num_threads(threads)
        for batch in (1, 2, 3, 7):
            (y,) = run_program(program, images[:batch])
            assert torch.equal(y, torch.cat(alone[:batch]))


def test_images_in_any_layout() -> None:
    program = program_of()
    images = torch.randn(4, 3, 64, 48)
    (expected,) = run_program(program, images[::2].contiguous())
    for view in (images[::2], images[::2].contiguous(memory_format=torch.channels_last)):
        assert torch.equal(run_program(program, view)[0], expected)
    (none,) = run_program(program, images[:0])
    assert none.shape == (0, *expected.shape[1:])


def test_threads_of_the_caller_do_not_disturb_one_another() -> None:
    """Several estimators at once, of different sizes, each thread with images of its own."""
    programs = [program_of(size=size) for size in ((64, 48), (96, 64), (50, 71))]
    images = [torch.randn(3, 3, program.height, program.width) for program in programs]
    expected = [run_program(program, x)[0] for program, x in zip(programs, images, strict=True)]

    def work(start: int) -> bool:
        torch.set_num_threads(1 + start % 2)
        order = [(start + i) % len(programs) for i in range(30)]
        return all(torch.equal(run_program(programs[i], images[i])[0], expected[i]) for i in order)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(8)))


def _forked(program: Program, images: Tensor, results: Any) -> None:
    results.put(run_program(program, images)[0].numpy())


def test_forked_processes() -> None:
    """A process that was forked after threads had been at work has none of them, and must not wait for them."""
    program = program_of()
    images = torch.randn(3, 3, 64, 48)
    torch.set_num_threads(2)
    (expected,) = run_program(program, images)
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    process = context.Process(target=_forked, args=(program, images, results))
    process.start()
    try:
        got = torch.from_numpy(results.get(timeout=60))
    finally:
        process.kill()
        process.join()
    assert torch.equal(got, expected)


def test_memory_is_kept_from_call_to_call() -> None:
    """Every fresh page is a fault: the arena alone has 500 of them here, the outputs 51."""
    program = program_of(size=(256, 192))
    images = torch.randn(1, 3, 256, 192)
    assert program.arena_bytes > 400 * 4096
    for _ in range(3):
        run_program(program, images)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        run_program(program, images)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 20 * 120


# In the stem's numbers: the memory of the input, the offset of the weights.
@pytest.mark.parametrize(("place", "number"), [(2, -5), (2 + 12, -1), (2 + 12, 2**31 - 16)])
def test_programs_that_cannot_be_are_refused(place: int, number: int) -> None:
    program = program_of()
    images = torch.randn(1, 3, 64, 48)
    code = program.code.clone()
    code[place] = number
    with pytest.raises(RuntimeError, match=r"_run_plan: step 0 could not be started"):
        torch.ops.litehrnet_cuda._run_plan(
            images, program.constants, code, program.arena_bytes, list(program.shapes), False
        )
    outputs, arena = [torch.empty(1, *program.shapes)], torch.empty(program.arena_bytes, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match=r"images: expected contiguous"):
        run_steps(program, images.transpose(2, 3), arena, outputs)


def test_networks_are_planned_by_default() -> None:
    model = create_model("litehrnet_18").eval()
    x = torch.randn(1, 3, 64, 48)
    fast = optimize_for_inference(model)
    assert fast.backend_for(x) == Execution("cpu", True)
    with use_backend("reference"):
        assert not fast.backend_for(x).is_planned
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(fast(x), fast(x))
        assert fast(x).dtype == torch.float32
    with pytest.raises(InputError, match="expected a tensor of normalised ones of a floating-point type"):
        fast(torch.zeros(1, 3, 64, 48, dtype=torch.uint8))


@pytest.mark.parametrize("decoder", ["quarter", "dark"])
def test_real_weights_on_real_images(shared: Path, decoder: Any) -> None:
    """The same precision as from plain PyTorch, from single and from half precision."""
    folder = shared / "data" / "coco"
    annotations = CocoKeypoints(folder / "test_coco.json", folder)
    checkpoint = shared / "weights" / "tinypose_256x192.safetensors"
    estimator = PoseEstimator(checkpoint=checkpoint, decoder=decoder)
    fast = evaluate(estimator, annotations, progress=False).metrics["AP"]
    with use_backend("reference"):
        assert evaluate(estimator, annotations, progress=False).metrics["AP"] == fast
