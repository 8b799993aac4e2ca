"""Ops join the stream, the device and the CUDA graph that surround them, and never wait for the GPU."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import gpu_cases
import pytest
import torch
from gpu_cases import GpuOp, assert_same_bits, copy_into, flat, gpu_op, to_device
from torch import Tensor

pytestmark = pytest.mark.gpu

NAMES = pytest.mark.parametrize("name", gpu_cases.NAMES)
SLEEP = 50_000_000  # cycles: a few hundredths of a second, in which a kernel on another stream would have ended


def two_inputs(case: GpuOp) -> tuple[list[Any], list[Any], list[Tensor], list[Tensor]]:
    """Arguments, others whose maps differ, and the results of a training step with either."""
    first = case.arguments("stage4", batch=2)
    second = [[x * 0.5 + 1 for x in first[0]], *first[1:]]
    return first, second, case.step(first), case.step(second)


@NAMES
def test_work_is_queued_on_the_current_stream(name: str) -> None:
    """The input comes late on a stream: a kernel or a copy on any other one would read the old one."""
    case = gpu_op(name)
    first, second, _, expected = two_inputs(case)
    held: list[Any] = [[x.clone() for x in first[0]], *first[1:]]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(SLEEP)
        copy_into(held[0], second[0])
        results = case.step(held)
    stream.synchronize()
    assert_same_bits(results, expected)


@NAMES
def test_two_streams_at_once(name: str) -> None:
    case = gpu_op(name)
    first, second, *expected = two_inputs(case)
    streams = [torch.cuda.Stream() for _ in range(2)]
    results: list[list[list[Tensor]]] = [[], []]
    torch.cuda.synchronize()
    for _ in range(10):
        for which, (stream, args) in enumerate(zip(streams, (first, second), strict=True)):
            with torch.cuda.stream(stream):
                results[which].append(case.step(args))
    torch.cuda.synchronize()
    for found, right in zip(results, expected, strict=True):
        for result in found:
            assert_same_bits(result, right)


@NAMES
def test_threads(name: str) -> None:
    """Threads that torch has not seen before, at the same time."""
    case = gpu_op(name)
    first, second, *expected = two_inputs(case)
    results: dict[int, list[Tensor]] = {}

    def work(which: int, args: list[Any]) -> None:
        results[which] = case.step(args)
        torch.cuda.synchronize()

    threads = [threading.Thread(target=work, args=pair) for pair in enumerate((first, second))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for which, right in enumerate(expected):
        assert_same_bits(results[which], right)


@NAMES
@pytest.mark.parametrize("gradients", [False, True], ids=["forward", "step"])
def test_graph_is_replayed_with_changed_inputs(name: str, gradients: bool) -> None:
    case = gpu_op(name)
    first, second, *_ = two_inputs(case)
    run = case.step if gradients else case.outputs
    expected = [[t.clone() for t in run(args)] for args in (first, second)]
    held: list[Any] = [[x.clone() for x in first[0]], *first[1:]]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        run(held)  # what autograd and cuBLAS set up once
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        results = run(held)
    for args, right in ((second, expected[1]), (first, expected[0]), (second, expected[1])):
        copy_into(held[0], args[0])
        graph.replay()
        torch.cuda.synchronize()
        assert_same_bits(results, right)


@NAMES
def test_first_launch_of_a_process_can_be_captured(name: str) -> None:
    """Nothing is initialised, loaded or asked for at a first launch that a capture forbids."""
    script = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "import torch, gpu_cases\n"
        "case = gpu_cases.gpu_op(sys.argv[1])\n"
        "args = case.arguments('stage4', batch=2)\n"
        "torch.cuda.synchronize()\n"
        "graph = torch.cuda.CUDAGraph()\n"
        "with torch.cuda.graph(graph):\n"
        "    results = case.outputs(args)\n"
        "graph.replay()\n"
        "torch.cuda.synchronize()\n"
        "gpu_cases.assert_same_bits(results, case.outputs(args))\n"
    )
    folders = [str(Path(gpu_cases.__file__).parent), *(path for path in sys.path if path)]
    result = subprocess.run([sys.executable, "-c", script, name, *folders], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@NAMES
def test_nothing_waits_for_the_gpu(name: str) -> None:
    case = gpu_op(name)
    args = case.arguments("stage4", batch=2)
    expected = case.step(args)
    torch.cuda.set_sync_debug_mode("error")
    try:
        results = case.step(args)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert_same_bits(results, expected)


@NAMES
@pytest.mark.multigpu
def test_tensors_on_a_device_that_is_not_current(name: str) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    case = gpu_op(name)
    args = case.arguments("stage4", batch=2, device="cuda:0")
    expected = case.step(args)
    with torch.cuda.device(0):
        results = case.step(to_device(args, "cuda:1"))
        assert torch.cuda.current_device() == 0
    assert {t.device for t in flat(results)} == {torch.device("cuda:1")}
    if torch.cuda.get_device_name(0) == torch.cuda.get_device_name(1):
        assert_same_bits(results, expected)
    mixed = [to_device(args[0], "cuda:1"), *args[1:]]
    with pytest.raises(RuntimeError, match="expected the device of"):
        case.op(*mixed)
