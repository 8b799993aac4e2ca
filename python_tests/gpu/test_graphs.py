"""CUDA graphs among streams, threads, devices and other graphs, with changed inputs, and when they make room."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import gpu_cases
import pytest
import torch
from gpu_cases import assert_same_bits
from torch import Tensor

from litehrnet_cuda import InputError, create_model, optimize_for_inference
from litehrnet_cuda.inference import OptimizedNetwork
from litehrnet_cuda.models.litehrnet import PoseNetwork
from litehrnet_cuda.plan.graphs import GraphCache

pytestmark = pytest.mark.gpu

SLEEP = 50_000_000  # cycles: a few hundredths of a second, in which a kernel on another stream would have ended


def network() -> PoseNetwork:
    torch.manual_seed(0)
    return create_model("litehrnet_18").to(gpu_cases.DEVICE)


def image(seed: int, batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, 64, 48, generator=generator).to(gpu_cases.DEVICE)


@pytest.fixture
def fast() -> OptimizedNetwork:
    return optimize_for_inference(network())


@pytest.fixture
def expected() -> Callable[[Tensor], Tensor]:
    """The same plan without graphs; both run the same kernels, whose results have the same bits."""
    plain = optimize_for_inference(network(), cuda_graphs=False)
    return lambda x: plain(x)


def graphs_of(fast: OptimizedNetwork) -> int:
    assert fast._graphs is not None
    return len(fast._graphs)


def test_changed_inputs_and_held_results(fast: OptimizedNetwork, expected: Callable[[Tensor], Tensor]) -> None:
    inputs = [image(seed) for seed in range(4)]
    results = [fast(x) for x in inputs]
    for x, y in zip(inputs, results, strict=True):
        assert_same_bits([y], [expected(x)])
    assert graphs_of(fast) == 1


def test_batches_have_graphs_of_their_own(fast: OptimizedNetwork, expected: Callable[[Tensor], Tensor]) -> None:
    for _ in range(3):
        for batch in (1, 3, 2):
            x = image(batch, batch)
            assert_same_bits([fast(x)], [expected(x)])
    assert graphs_of(fast) == 3


def test_in_and_out_of_inference_mode(fast: OptimizedNetwork, expected: Callable[[Tensor], Tensor]) -> None:
    x = image(0)
    with torch.inference_mode():
        inside = [fast(x) for _ in range(2)]
    outside = fast(x)
    assert not outside.is_inference()
    for y in (*inside, outside):
        assert_same_bits([y], [expected(x)])


def test_work_is_queued_on_the_current_stream(fast: OptimizedNetwork, expected: Callable[[Tensor], Tensor]) -> None:
    """The input comes late on a stream, and goes early: work on any other one would read something else."""
    first, second = image(0), image(1)
    right = expected(second)
    held = first.clone()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            fast(held)
        torch.cuda._sleep(SLEEP)
        held.copy_(second)
        y = fast(held)
        held.zero_()
    stream.synchronize()
    assert_same_bits([y], [right])


def test_streams_at_once(fast: OptimizedNetwork, expected: Callable[[Tensor], Tensor]) -> None:
    inputs = [image(seed, 4) for seed in range(2)]
    right = [expected(x) for x in inputs]
    streams = [torch.cuda.Stream() for _ in inputs]
    torch.cuda.synchronize()
    found: list[list[Tensor]] = [[], []]
    for _ in range(20):
        for mine, stream, x in zip(found, streams, inputs, strict=True):
            with torch.cuda.stream(stream):
                mine.append(fast(x))
    torch.cuda.synchronize()
    assert graphs_of(fast) == 2
    for mine, y in zip(found, right, strict=True):
        assert_same_bits(mine, [y] * 20)


@pytest.mark.parametrize("own_streams", [False, True])
def test_threads(own_streams: bool, fast: OptimizedNetwork, expected: Callable[[Tensor], Tensor]) -> None:
    """Which meet in the first call as well, where one of them makes the plan and records."""
    inputs = [image(seed) for seed in range(4)]
    right = [expected(x) for x in inputs]
    torch.cuda.synchronize()
    start = threading.Barrier(4)
    found: dict[int, list[Tensor]] = {}

    def work(which: int) -> None:
        stream = torch.cuda.Stream() if own_streams else torch.cuda.default_stream()
        start.wait()
        with torch.cuda.stream(stream):
            found[which] = [fast(inputs[which]) for _ in range(20)]
        stream.synchronize()

    threads = [threading.Thread(target=work, args=(which,)) for which in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for which in range(4):
        assert_same_bits(found[which], [right[which]] * 20)


@pytest.mark.multigpu
def test_device_that_is_not_current(fast: OptimizedNetwork, expected: Callable[[Tensor], Tensor]) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    with torch.cuda.device(0):
        for seed in range(3):
            for device in ("cuda:1", "cuda:0"):
                x = image(seed).to(device)
                y = fast(x)
                assert y.device == x.device
                assert_same_bits([y], [expected(x)])
        assert torch.cuda.current_device() == 0
    assert graphs_of(fast) == 2


def test_a_graph_makes_room_while_it_runs() -> None:
    def slow(x: Tensor) -> list[Tensor]:
        between = x + 1
        torch.cuda._sleep(SLEEP // 10)
        return [between * 2]

    cache = GraphCache(1, patience=0)
    inputs = [torch.full((size,), 3.0, device=gpu_cases.DEVICE) for size in (1 << 20, 1 << 18)]
    stream = torch.cuda.Stream()
    for _ in range(3):
        results = []
        for x in inputs:
            cache.run(slow, x)
            results.append(cache.run(slow, x)[0])  # still running when the next one takes its place
        torch.cuda.empty_cache()
        with torch.cuda.stream(stream):
            filled = [torch.full((1 << 20,), float("nan"), device=gpu_cases.DEVICE) for _ in range(8)]
        torch.cuda.synchronize()
        del filled
        for y in results:
            assert y.eq(8).all()


@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_a_network_may_be_let_go_of_while_it_runs(cuda_graphs: bool, expected: Callable[[Tensor], Tensor]) -> None:
    """On another stream than that of its first call, on which its weights were allocated."""
    fast, x = optimize_for_inference(network(), cuda_graphs=cuda_graphs), image(0)
    right = expected(x)
    fast(x)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        fast(x)
        fast(x)
        torch.cuda._sleep(SLEEP)
        y = fast(x)
    del fast
    gc.collect()
    filled = [torch.full((size,), float("nan"), device=gpu_cases.DEVICE) for size in (1 << 18, 1 << 20, 1 << 21)] * 4
    torch.cuda.synchronize()
    del filled
    assert_same_bits([y], [right])


def test_becomes_a_part_of_a_graph_around_it(fast: OptimizedNetwork, expected: Callable[[Tensor], Tensor]) -> None:
    inputs = [image(seed) for seed in range(2)]
    held = inputs[0].clone()
    fast(held)
    before = graphs_of(fast)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = fast(held)
    assert graphs_of(fast) == before
    for x in reversed(inputs):
        held.copy_(x)
        graph.replay()
        torch.cuda.synchronize()
        assert_same_bits([y], [expected(x)])


@pytest.mark.filterwarnings("ignore:The CUDA Graph is empty")
def test_a_size_that_is_new_cannot_be_recorded_around(fast: OptimizedNetwork) -> None:
    x = image(0)
    with pytest.raises(InputError, match="expected a call with images of 64x48 pixels before"):
        with torch.cuda.graph(torch.cuda.CUDAGraph()):
            fast(x)
    assert fast(x).isfinite().all()


def test_a_failed_recording_is_said_and_results_are_right() -> None:
    """In a process of its own: PyTorch before 2.12 goes on believing that something is recorded."""
    script = """
import warnings
import torch
from litehrnet_cuda.plan.graphs import GraphCache

def waits(x):
    return [x * x.sum().item()]  # waits for the GPU, which no recording allows

cache = GraphCache(2)
x = torch.ones(3, device="cuda")
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    results = [cache.run(waits, x)[0] for _ in range(3)]
assert [w.category for w in caught if "no CUDA graph could be recorded" in str(w.message)] == [RuntimeWarning]
assert all(y.eq(3).all() for y in results)
assert torch.cuda.current_stream() == torch.cuda.default_stream()
"""
    root = str(Path(__file__).resolve().parents[2])
    result = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.append({root!r})\n{script}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_nothing_waits_for_the_gpu(fast: OptimizedNetwork, expected: Callable[[Tensor], Tensor]) -> None:
    x = image(0)
    fast(x)
    torch.cuda.set_sync_debug_mode("error")
    try:
        y = fast(x)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert_same_bits([y], [expected(x)])


def test_memory_is_given_back() -> None:
    model, x = network(), image(0, 8)
    gc.collect()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    fast = optimize_for_inference(model)
    for _ in range(3):
        fast(x)
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() > before
    del fast
    gc.collect()
    assert torch.cuda.memory_allocated() == before
