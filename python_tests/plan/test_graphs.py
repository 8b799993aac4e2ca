"""When graphs are recorded, replayed and let go of: of graphs that run on the CPU. gpu/test_graphs.py has real ones."""

from __future__ import annotations

import gc
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from litehrnet_cuda.plan.graphs import CudaGraph, Function, GraphCache, replay_stream


class HostGraph:
    """Like a CUDA graph, it reads and writes memory of its own, and takes a while between the copies."""

    def __init__(self, function: Function, x: Tensor, seconds: float = 0.0) -> None:
        self.function = function
        self.seconds = seconds
        self.input = x.clone()
        self.outputs = function(self.input)
        self.replays = self.waits = 0

    def replay(self, x: Tensor) -> list[Tensor]:
        self.replays += 1
        self.input.copy_(x)
        time.sleep(self.seconds)
        for y, new in zip(self.outputs, self.function(self.input), strict=True):
            y.copy_(new)
        time.sleep(self.seconds)
        return [y.clone() for y in self.outputs]

    def wait(self) -> None:
        self.waits += 1


class Recorder:
    """Makes graphs, and remembers them."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.graphs: list[HostGraph] = []
        self.seconds = seconds

    def __call__(self, function: Function, x: Tensor) -> HostGraph:
        self.graphs.append(HostGraph(function, x, self.seconds))
        return self.graphs[-1]


def powers(x: Tensor) -> list[Tensor]:
    return [x**2, x**3]


def make_cache(
    capacity: int = 4,
    patience: int = 0,
    record: Callable[[Function, Tensor], HostGraph] | None = None,
    stream_of: Callable[[Tensor], Hashable | None] = lambda x: 0,
) -> tuple[GraphCache, Recorder]:
    recorder = Recorder()
    return GraphCache(capacity, patience=patience, record=record or recorder, stream_of=stream_of), recorder


def assert_powers(found: list[Tensor], x: Tensor) -> None:
    for y, expected in zip(found, powers(x), strict=True):
        assert torch.equal(y, expected)


def test_one_graph_serves_changed_inputs_and_results_may_be_held() -> None:
    cache, recorder = make_cache()
    inputs = [torch.randn(2, 3) for _ in range(4)]
    results = [cache.run(powers, x) for x in inputs]
    for x, result in zip(inputs, results, strict=True):
        assert_powers(result, x)
    (graph,) = recorder.graphs
    assert graph.replays == 3


def test_every_kind_of_input_has_a_graph_of_its_own() -> None:
    stream = ["first"]
    cache, recorder = make_cache(8, stream_of=lambda x: stream[0])
    kinds = [torch.randn(2, 3), torch.randn(3, 2), torch.randn(2, 3).double(), torch.randn(6)]
    for _ in range(2):
        for x in kinds:
            assert_powers(cache.run(powers, x), x)
    assert len(recorder.graphs) == len(cache) == 4
    stream[0] = "second"
    cache.run(powers, kinds[0])
    assert len(recorder.graphs) == 5
    assert [y.item() for y in cache.run(lambda x: [x.sum()], torch.ones(2, 3))] == [6]
    assert len(recorder.graphs) == 6


def test_strides_make_no_difference() -> None:
    cache, recorder = make_cache()
    for x in (torch.randn(2, 3, 4, 5), torch.randn(2, 5, 4, 3).permute(0, 3, 2, 1)):
        assert_powers(cache.run(powers, x), x)
    assert len(recorder.graphs) == 1


def test_without_a_stream_the_function_is_called() -> None:
    cache, recorder = make_cache(stream_of=lambda x: None)
    x = torch.randn(3)
    for _ in range(2):
        assert_powers(cache.run(powers, x), x)
    assert recorder.graphs == []
    assert len(cache) == 0


def test_on_the_cpu_there_is_no_stream() -> None:
    assert replay_stream(torch.zeros(1)) is None
    x = torch.randn(3)
    assert_powers(GraphCache(2).run(powers, x), x)


def test_the_least_recently_used_graph_makes_room_after_its_last_replay() -> None:
    cache, recorder = make_cache(2)
    a, b, c = (torch.randn(size) for size in (1, 2, 3))
    for x in (a, b, a, c, a):
        assert_powers(cache.run(powers, x), x)
    graph_a, graph_b, graph_c = recorder.graphs
    assert (graph_a.replays, graph_b.replays, graph_c.replays) == (2, 0, 0)
    assert (graph_a.waits, graph_b.waits, graph_c.waits) == (0, 1, 0)
    assert len(cache) == 2
    gone = weakref.ref(graph_b)
    recorder.graphs.clear()
    del graph_b
    gc.collect()
    assert gone() is None


def test_graphs_in_use_are_kept_rather_than_recorded_in_turn() -> None:
    cache, recorder = make_cache(2, patience=20)
    inputs = [torch.randn(size) for size in range(1, 6)]
    for _ in range(10):
        for x in inputs:
            assert_powers(cache.run(powers, x), x)
    assert [graph.replays for graph in recorder.graphs] == [9, 9]
    for _ in range(30):
        assert_powers(cache.run(powers, inputs[4]), inputs[4])
    assert len(recorder.graphs) == 3


def test_failure_is_said_once_and_leaves_the_plain_call() -> None:
    tried: list[int] = []

    def fail(function: Function, x: Tensor) -> HostGraph:
        tried.append(len(x))
        raise RuntimeError("operation not permitted when stream is capturing")

    cache, _ = make_cache(record=fail)
    a, b = torch.randn(2), torch.randn(3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for x in (a, b, a, b):
            assert_powers(cache.run(powers, x), x)
    (warning,) = caught
    assert warning.category is RuntimeWarning
    assert "no CUDA graph could be recorded, so launches go one by one: operation not permitted" in str(warning.message)
    assert tried == [2, 3]


def test_error_of_the_function_is_its_callers() -> None:
    cache, recorder = make_cache()
    broken = [True]

    def function(x: Tensor) -> list[Tensor]:
        if broken[0]:
            raise RuntimeError("out of memory")
        return powers(x)

    x = torch.randn(3)
    with pytest.raises(RuntimeError, match="out of memory"):
        cache.run(function, x)
    assert recorder.graphs == []
    broken[0] = False
    for _ in range(2):
        assert_powers(cache.run(function, x), x)
    assert len(recorder.graphs) == 1


def in_threads(*works: Callable[[], None]) -> None:
    """Runs functions at the same time, and raises what they raise."""
    errors: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_threads_take_turns_with_a_graph() -> None:
    recorder = Recorder(seconds=0.001)
    cache, _ = make_cache(record=recorder)

    def work(seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for _ in range(20):
            x = torch.randn(5, generator=generator)
            assert_powers(cache.run(powers, x), x)

    in_threads(*(lambda seed=seed: work(seed) for seed in range(4)))  # type: ignore[misc]
    (graph,) = recorder.graphs
    assert graph.replays == 79


def test_graphs_of_two_streams_run_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=20)

    class Meeting(HostGraph):
        def replay(self, x: Tensor) -> list[Tensor]:
            both.wait()  # raises if the other one waits for this one to end
            return super().replay(x)

    cache, _ = make_cache(record=Meeting, stream_of=lambda x: threading.get_ident())

    def work() -> None:
        for _ in range(3):
            x = torch.randn(5)
            assert_powers(cache.run(powers, x), x)

    in_threads(work, work)


def test_a_graph_in_use_makes_room_when_it_is_done() -> None:
    replaying, finish = threading.Event(), threading.Event()
    order: list[str] = []

    class Slow(HostGraph):
        def replay(self, x: Tensor) -> list[Tensor]:
            replaying.set()
            assert finish.wait(20)
            order.append("replayed")
            return super().replay(x)

        def wait(self) -> None:
            order.append("waited")

    cache, _ = make_cache(1, record=Slow)
    a, b = torch.randn(1), torch.randn(2)
    cache.run(powers, a)

    def push_out() -> None:
        assert replaying.wait(20)
        threading.Timer(0.05, finish.set).start()
        assert_powers(cache.run(powers, b), b)

    in_threads(lambda: assert_powers(cache.run(powers, a), a), push_out)
    assert order == ["replayed", "waited"]


def test_a_call_whose_graph_has_just_made_room_goes_without() -> None:
    """It has found its graph's place, and another thread empties that before it gets its turn."""
    cache, recorder = make_cache(1)
    a, b = torch.randn(1), torch.randn(2)
    cache.run(powers, a)
    found, pushed_out = threading.Event(), threading.Event()
    get = cache._slots.get

    def get_and_pause(key: Hashable) -> object:
        result = get(key)
        if threading.current_thread().name == "late":
            found.set()
            assert pushed_out.wait(20)
        return result

    cache._slots.get = get_and_pause  # type: ignore[method-assign, assignment]
    results: list[Tensor] = []
    late = threading.Thread(target=lambda: results.extend(cache.run(powers, a)), name="late")
    late.start()
    assert found.wait(20)
    cache.run(powers, b)
    pushed_out.set()
    late.join()
    assert_powers(results, a)
    assert [len(graph.input) for graph in recorder.graphs] == [1, 2]
    assert [graph.replays for graph in recorder.graphs] == [0, 0]


class FakeCuda:
    """Notes what is asked of torch.cuda, and runs a graph's function again where a GPU would replay its launches."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        self.current = "the caller's"
        self.recorded: Callable[[], None] | None = None
        outer = self

        class Stream:
            def __init__(self, device: torch.device) -> None:
                self.name = f"a stream of {device}"

            def synchronize(self) -> None:
                outer.log.append(f"wait for {self.name}")

        class CUDAGraph:
            def replay(self) -> None:
                outer.log.append("replay")
                assert outer.recorded
                outer.recorded()

        @contextmanager
        def stream(chosen: Any) -> Iterator[None]:
            before, outer.current = outer.current, chosen.name
            yield
            outer.current = before

        @contextmanager
        def graph(graph: Any, *, stream: Any, capture_error_mode: str) -> Iterator[None]:
            outer.log.append(f"record on {stream.name}, {capture_error_mode}")
            yield
            outer.log.append("recorded")

        callers = Stream(torch.device("cpu"))
        callers.name = self.current
        for name, value in {
            "Stream": Stream,
            "CUDAGraph": CUDAGraph,
            "stream": stream,
            "graph": graph,
            "device": lambda device: nullcontext(outer.log.append(f"on {device}")),
            "current_stream": lambda device: callers,
        }.items():
            patch.setattr(torch.cuda, name, value)


def test_a_cuda_graph_copies_in_replays_and_copies_out(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda(monkeypatch)
    inputs: list[Tensor] = []
    static: list[Tensor] = []

    def function(x: Tensor) -> list[Tensor]:
        assert not torch.is_inference_mode_enabled()
        assert not torch.is_grad_enabled()
        cuda.log.append("function")
        inputs.append(x)
        static.extend(powers(x))
        return static

    first, second = torch.randn(2, 3), torch.randn(3, 2).T
    with torch.inference_mode():
        graph = CudaGraph(function, first.clone())
    assert cuda.log == ["on cpu", "record on a stream of cpu, thread_local", "function", "recorded"]
    assert not inputs[0].is_inference()
    assert torch.equal(inputs[0], first)

    def again() -> None:
        for y, new in zip(static, powers(inputs[0]), strict=True):
            y.copy_(new)

    cuda.recorded = again
    results = [graph.replay(x) for x in (second, first)]
    assert_powers(results[0], second)
    assert_powers(results[1], first)
    graph.wait()
    assert cuda.log[4:] == ["replay", "replay", "wait for the caller's"]
    assert len(inputs) == 1
