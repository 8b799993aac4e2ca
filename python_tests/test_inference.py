"""Optimised networks compute what their models compute, as plans where they can, and say how.

Most tests run plans by the plain executor in place of the native one, which is quick and which threads may share; those
with the emulator run the kernels.
"""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import emulated_ops
import pytest
import torch
from inference_cases import SMALL, TOLERANCE, assert_right, images, small, truth
from official_reference import relative_error
from plain_executor import Executor, PlainProgram
from plan_cases import UNUSUAL, backbone_of, pose_network
from torch import Tensor, nn

from litehrnet_cuda import InputError, backends, inference, optimize_for_inference
from litehrnet_cuda.backends import use_backend
from litehrnet_cuda.inference import Execution, LiveNetwork
from litehrnet_cuda.models.litehrnet import PoseNetwork
from litehrnet_cuda.plan import Plan, executor, program
from litehrnet_cuda.plan.graphs import GraphCache


@pytest.fixture
def emulator() -> Iterator[Any]:
    library = emulated_ops.load()
    library.configure(seed=0)
    library.reset()
    with use_backend("emulated"):
        yield library
    assert library.errors() == []


# --------------------------------------------------------------------------------------------------- what it computes


class TwiceMirrored(NamedTuple):
    """Twice what the network gives for mirrored images, and the sum of those."""

    def __call__(self, network: Callable[[Tensor], list[Tensor]], x: Tensor) -> list[Tensor]:
        return [2 * network(x.flip(-1))[0], x.sum()]


@pytest.mark.parametrize("max_graphs", [0, 2])
def test_what_is_run_around_a_network(plain: Executor, max_graphs: int) -> None:
    x = images()
    unplanned = LiveNetwork(small(), unplanned="for the test")
    for fast in (optimize_for_inference(small(), max_graphs=max_graphs), unplanned):
        doubled, total = fast(x, TwiceMirrored())
        assert torch.equal(doubled, 2 * fast(x.flip(-1)))
        assert torch.equal(total, x.sum())
    assert plain.made == [(33, 50)]


def test_emulated_kernels_run_the_published_network_in_65_launches(emulator: Any) -> None:
    model = pose_network("litehrnet_18")
    fast = optimize_for_inference(model, dtype=torch.float32)
    x = images(1, (48, 32))
    assert fast.backend_for(x) == Execution("emulated", True)
    before = len(emulator.launches())
    assert_right(fast(x), model, x)
    assert len(emulator.launches()) == before + 65


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16], ids=str)
@pytest.mark.parametrize("options", [{"branches": "all"}, {"branches": "all", "with_head": False}, {}], ids=str)
def test_emulated_kernels_run_backbones(options: dict[str, Any], dtype: torch.dtype, emulator: Any) -> None:
    model = backbone_of(SMALL, **options)
    fast = optimize_for_inference(model, dtype=dtype)
    x = images(2, (33, 50)).to(dtype)
    assert fast.backend_for(x).is_planned
    found, expected = fast(x), truth(model, x)
    if not options:
        found, expected = [found], [expected]
    assert isinstance(found, list)
    assert len(found) == len(expected)
    for y, one in zip(found, expected, strict=True):
        assert relative_error(y, one) < TOLERANCE[dtype]


def test_what_kernels_refuse_the_model_does(emulator: Any) -> None:
    model = pose_network(UNUSUAL[-1])
    assert model.variant.name == "five_branches"
    fast = optimize_for_inference(model, dtype=torch.float32)
    x = images(1, (64, 64))
    how = fast.backend_for(x)
    assert (how.backend, how.is_planned) == ("emulated", False)
    assert "could not be started" in how.reason
    assert_right(fast(x), model, x)


@pytest.mark.parametrize("name", ["litehrnet_30", "wider_naive_litehrnet_18"])
def test_the_other_published_networks_are_planned(name: str, plain: Executor) -> None:
    model = pose_network(name)
    fast = optimize_for_inference(model)
    x = images(1, (33, 50)).double()
    assert_right(fast(x), model, x, torch.float64)
    assert plain.batches == [1, 1]  # the first one to try


def test_without_a_native_executor_the_model_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "can_run_cpu", lambda: backends.Availability(False, "no"))
    model = small()
    fast = optimize_for_inference(model)
    how = fast.backend_for(images())
    assert how == Execution("reference", False, "plain PyTorch is what runs on cpu here")
    assert str(how) == "reference, module by module: plain PyTorch is what runs on cpu here"
    assert_right(fast(images()), model, images())


def test_plain_pytorch_can_be_asked_for(emulator: Any) -> None:
    fast = optimize_for_inference(small())
    with use_backend("reference"):
        assert not fast.backend_for(images()).is_planned
        fast(images())
    assert emulator.launches() == []


# ------------------------------------------------------------------------------------------------ sizes, types, modes


def test_a_size_is_planned_once_for_all_batches(plain: Executor) -> None:
    model = small()
    fast = optimize_for_inference(model)
    for batch, size in ((2, (33, 50)), (1, (33, 50)), (3, (33, 50)), (1, (40, 32)), (2, (33, 50))):
        x = images(batch, size)
        assert_right(fast(x), model, x)
    assert plain.made == [(33, 50), (40, 32)]
    assert plain.batches == [1, 2, 1, 3, 1, 1, 2]
    assert str(fast.backend_for(x)) == "plain, planned"


def test_plans_are_few(plain: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "MAX_PROGRAMS", 2)
    fast = optimize_for_inference(small())
    for width in (32, 33, 32, 34, 32, 33):
        fast(images(1, (32, width)))
    assert [width for _, width in plain.made] == [32, 33, 34, 33]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64], ids=str)
def test_images_are_converted_to_the_networks_type(dtype: torch.dtype, plain: Executor) -> None:
    model = small()
    fast = optimize_for_inference(model)
    assert fast.dtype == torch.float32
    x = images().to(dtype)
    assert_right(fast(x), model, x.float())
    assert_right(optimize_for_inference(model, dtype=dtype)(images()), model, images(), dtype)


def test_other_types_without_a_plan() -> None:
    model = small()
    fast = optimize_for_inference(model, dtype=torch.float64)
    assert_right(fast(images()), model, images(), torch.float64)
    assert next(fast._model.parameters()).dtype == torch.float32  # which plans round from, once


def test_images_that_are_not_contiguous(plain: Executor) -> None:
    model = small()
    x = images().to(memory_format=torch.channels_last)
    assert_right(optimize_for_inference(model)(x), model, x)


def test_nobody_is_an_empty_result(plain: Executor) -> None:
    assert optimize_for_inference(small())(images(0)).shape == (0, 5, 9, 13)


@pytest.mark.parametrize("planned", [False, True])
def test_results_are_ordinary_tensors_without_gradients(planned: bool, request: pytest.FixtureRequest) -> None:
    if planned:
        request.getfixturevalue("plain")
    fast = optimize_for_inference(small())
    with torch.inference_mode():
        inside = fast(images())
    for x in (images(), images().requires_grad_()):
        y = fast(x)
        assert not y.requires_grad
        assert not y.is_inference()
        assert torch.equal(y, inside)
        y.requires_grad_()
        (y * 2).sum().backward()  # may be the start of something


def test_autocast_changes_nothing() -> None:
    fast = optimize_for_inference(small())
    with use_backend("reference"):
        expected = fast(images())
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(fast(images()), expected)


def test_devices_without_autocast() -> None:
    assert optimize_for_inference(small())(images().to("meta")).shape == (2, 5, 9, 13)


def test_results_may_be_held(plain: Executor) -> None:
    fast = optimize_for_inference(small())
    first, second = fast(images(seed=0)), fast(images(seed=1))
    assert torch.equal(first, fast(images(seed=0)))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("planned", [False, True])
def test_the_model_is_copied_and_left_alone(planned: bool, request: pytest.FixtureRequest) -> None:
    if planned:
        request.getfixturevalue("plain")
    model = small()
    untouched = copy.deepcopy(model)
    fast = optimize_for_inference(model)
    fast(images())
    assert all(part.training for part in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    after, before = model.state_dict(), untouched.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.zero_()
    for size in ((33, 50), (32, 32)):  # one that was planned before, and one that was not
        x = images(1, size)
        assert_right(fast(x), untouched, x)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, copy.copy, lambda fast: pickle.loads(pickle.dumps(fast))])
def test_copies_compute_the_same(duplicate: Callable[[Any], Any], plain: Executor) -> None:
    fast = optimize_for_inference(small(), dtype=torch.float64, max_graphs=3)
    expected = fast(images())
    twin = duplicate(fast)
    assert torch.equal(twin(images()), expected)
    assert repr(twin) == repr(fast) == "OptimizedNetwork(PoseNetwork, dtype=torch.float64, max_graphs=3)"
    assert len(plain.made) == 2


def test_equal_surroundings_are_one_function(plain: Executor) -> None:
    made = optimize_for_inference(small())._program_for(images())
    functions = {made.function_around(around) for around in (None, TwiceMirrored(), TwiceMirrored(), lambda f, x: f(x))}
    assert len(functions) == 3


def test_weights_that_a_recording_reads_are_kept(plain: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    programs: list[weakref.ref[Any]] = []

    def compile_plan(plan: Plan) -> PlainProgram:
        made = plain.compile_plan(plan)
        programs.append(weakref.ref(made))
        return made

    def kept() -> list[bool]:
        gc.collect()
        return [made() is not None for made in programs]

    monkeypatch.setattr(program, "compile_plan", compile_plan)
    monkeypatch.setattr(inference, "MAX_PROGRAMS", 1)
    fast = optimize_for_inference(small())
    for width in (32, 33, 34):
        x = images(1, (32, width))
        fast(x)
        with monkeypatch.context() as patch:
            patch.setattr(inference, "is_recorded", lambda device, width=width: width == 33)
            fast(x)
    assert kept() == [False, True, True]
    del fast
    assert kept() == [False, False, False]


def test_threads_make_one_plan(plain: Executor) -> None:
    model = small()
    fast = optimize_for_inference(model)
    start = threading.Barrier(4)
    found: dict[int, Tensor] = {}

    def work(seed: int) -> None:
        start.wait()
        found[seed] = fast(images(seed=seed))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in range(4):
        assert_right(found[seed], model, images(seed=seed))
    assert len(plain.made) == 1


def test_graphs_run_the_plans_of_all_sizes(plain: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    class HostGraph:
        def __init__(self, function: Any, x: Tensor) -> None:
            self.function = function
            self.input = x.clone()

        def replay(self, x: Tensor) -> list[Tensor]:
            self.input.copy_(x)
            result: list[Tensor] = self.function(self.input)
            return result

        def wait(self) -> None:
            pass

    def make_cache(capacity: int) -> GraphCache:
        return GraphCache(capacity, record=HostGraph, stream_of=lambda x: 0)

    monkeypatch.setattr(inference, "GraphCache", make_cache)
    monkeypatch.setattr(inference, "MAX_PROGRAMS", 1)  # a graph outlives its program's place
    model = small()
    fast = optimize_for_inference(model, max_graphs=4)
    for seed in range(3):
        for size in ((33, 50), (32, 32)):
            x = images(2, size, seed)
            assert_right(fast(x), model, x)
    assert fast._graphs is not None
    assert len(fast._graphs) == 4
    fast(images(0))
    assert len(fast._graphs) == 4
    assert optimize_for_inference(model, cuda_graphs=False)._graphs is None


# --------------------------------------------------------------------------------------------------- what it declines


def test_parts_of_the_users_own_are_run(plain: Executor) -> None:
    model = small()
    model.backbone.stem.conv1.activate = nn.GELU()
    fast = optimize_for_inference(model)
    assert "backbone.stem.conv1.activate" in fast.backend_for(images()).reason
    assert_right(fast(images()), model, images())
    assert plain.made == []


def test_hooks_see_what_passes(plain: Executor) -> None:
    model = small()
    seen: list[torch.Size] = []
    model.backbone.register_forward_hook(lambda module, args, y: seen.append(y.shape))
    fast = optimize_for_inference(model)
    assert fast.backend_for(images()).reason == "backbone: expected no hook, got one"
    fast(images())
    assert seen == [(2, 8, 9, 13)]


def test_hooks_on_all_modules_see_what_passes(plain: Executor) -> None:
    fast = optimize_for_inference(small())
    fast(images())
    seen: list[nn.Module] = []
    handle = nn.modules.module.register_module_forward_hook(lambda module, args, y: seen.append(module))
    try:
        fast(images())
    finally:
        handle.remove()
    assert len(seen) > 100
    assert fast.backend_for(images()).is_planned


class Doubled(PoseNetwork):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def test_derived_classes_are_run(plain: Executor) -> None:
    model = small()
    model.__class__ = Doubled
    assert_right(optimize_for_inference(model)(images()), model, images())
    assert plain.made == []


@pytest.mark.parametrize("x", [torch.zeros(2, 4, 64, 64), torch.zeros(2, 3, 31, 64), torch.zeros(3, 64, 64)])
@pytest.mark.parametrize("planned", [False, True])
def test_images_of_other_shapes_are_refused_as_by_the_model(
    x: Tensor, planned: bool, request: pytest.FixtureRequest
) -> None:
    if planned:
        request.getfixturevalue("plain")
    with pytest.raises(InputError, match=r"LiteHRNet: expected images of shape \[N, 3, H, W\]"):
        optimize_for_inference(small())(x)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: optimize_for_inference(nn.ReLU()), "a PoseNetwork or a SegmentationNetwork .*, got ReLU"),  # type: ignore[arg-type]
        (lambda: optimize_for_inference(nn.DataParallel(small())), "without a wrapper around it.*, got DataParallel"),  # type: ignore[arg-type]
        (lambda: optimize_for_inference(small().double(), persistent=True), "persistent: expected fp16, bf16 or fp32"),
        (lambda: optimize_for_inference(small(), dtype=torch.int8), "dtype: expected float16, .*, got torch.int8"),
        (lambda: optimize_for_inference(small(), max_graphs=-1), "max_graphs: expected at least 0, got -1"),
        (
            lambda: optimize_for_inference(small(), max_graphs="4", cuda_graphs=False),  # type: ignore[arg-type]
            "max_graphs: expected a whole number from 0 up, got '4'",
        ),
        (lambda: optimize_for_inference(small())(images().byte()), "floating-point type, got torch.uint8"),
    ],
)
def test_what_cannot_be_used_is_said(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.parametrize("message", ["CUDA out of memory", "_run_plan: step 3 could not be started: out of memory"])
def test_other_errors_of_the_first_run_are_the_callers(
    message: str, plain: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = optimize_for_inference(small())

    def fail(program: Any, x: Tensor, *, persistent: bool) -> list[Tensor]:
        raise RuntimeError(message)

    with monkeypatch.context() as patch:
        patch.setattr(executor, "run_program", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            fast(images())
    assert fast.backend_for(images()).is_planned
