"""CUDA graphs of functions of one tensor: recorded once for each shape, then replayed as one launch."""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
import warnings
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from litehrnet_cuda.plan.recently_used import RecentlyUsed

Function = Callable[[Tensor], list[Tensor]]

# Recording takes as long as tens of forward passes, so a graph must have been idle for some time to make room.
PATIENCE = 100
_one_recording = threading.Lock()  # at a time is all that PyTorch allows a process


class Graph(Protocol):
    """What has been recorded."""

    def replay(self, x: Tensor) -> list[Tensor]:
        """What the function returns for an input of the recorded shape, dtype, device and stream, in new memory."""

    def wait(self) -> None:
        """Returns when all replays have ended."""


class CudaGraph:
    """The launches of a function for one input, on the stream that is current on the input's device.

    All replays are queued on this one stream, so that each copies its input in, runs and copies its outputs out before
    the next one overwrites them. On another stream another graph is needed, with memory of its own.

    Args:
        function: what is recorded. It only launches work on the current stream, has run before for such an input, and
            is held as long as the graph, because launches read memory that it owns.
        x: an input.
    """

    def __init__(self, function: Function, x: Tensor) -> None:
        self._function = function
        self._stream = torch.cuda.current_stream(x.device)
        self._graph = torch.cuda.CUDAGraph()
        # Ordinary tensors, whoever makes the graph: those of inference mode can be written to in inference mode only.
        with torch.inference_mode(False), torch.no_grad(), torch.cuda.device(x.device), torch.cuda.stream(self._stream):
            # Of the stream's own memory, which goes back to work that comes later on the same stream.
            self._input = torch.empty_like(x, memory_format=torch.contiguous_format).copy_(x)
            recording = torch.cuda.graph(
                self._graph,
                # Every graph has a memory pool of its own: what two graphs share, two streams would write at once.
                stream=_recording_stream(x.device),
                # What other threads do with the device meanwhile is none of a recording's business.
                capture_error_mode="thread_local",
            )
            with _one_recording, recording:
                self._outputs = function(self._input)

    def replay(self, x: Tensor) -> list[Tensor]:
        """What the function returns for an input like the first one, on the same stream."""
        self._input.copy_(x)
        self._graph.replay()
        return [y.clone() for y in self._outputs]

    def wait(self) -> None:
        """Returns when the stream has done what it has been given."""
        self._stream.synchronize()

    def __del__(self) -> None:
        # Whoever lets go of it, see _release. Not at the interpreter's end, nor where waiting is forbidden.
        if not sys.is_finalizing() and hasattr(self, "_outputs"):
            with contextlib.suppress(RuntimeError):
                self.wait()


@functools.cache
def _recording_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def replay_stream(x: Tensor) -> Hashable | None:
    """Which stream a graph would be replayed on for an input; None where there can be none.

    There is none on the CPU, nor while somebody else records the stream: then the work belongs in that recording.
    """
    if x.device.type != "cuda" or is_recorded(x.device):
        return None
    return torch.cuda.current_stream(x.device).cuda_stream


def is_recorded(device: torch.device) -> bool:
    """Whether work on a device is being recorded in a CUDA graph now, rather than done."""
    if device.type != "cuda":
        return False
    with torch.cuda.device(device):
        return torch.cuda.is_current_stream_capturing()


@dataclass
class _Slot:
    """A graph's place, and its turn: whoever has the lock may queue the copies around a replay."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    graph: Graph | None = None
    is_open: bool = True  # for a graph: none can be recorded for this key if that has failed


class GraphCache:
    """Runs functions through CUDA graphs, which it records when a kind of input comes for the first time.

    A graph belongs to a function, the input's shape, dtype and device, and a stream. Results are in new memory, so that
    any number may be held. Threads and streams may share the cache.

    Args:
        capacity: most graphs at a time; of each, memory is held for the input, the outputs and everything between.
        patience: a new graph takes the place of one only after so many calls that didn't need it, see ``PATIENCE``.
        record: makes a graph; and
        stream_of: says on which stream. Tests have others.
    """

    def __init__(
        self,
        capacity: int,
        *,
        patience: int = PATIENCE,
        record: Callable[[Function, Tensor], Graph] = CudaGraph,
        stream_of: Callable[[Tensor], Hashable | None] = replay_stream,
    ) -> None:
        self._slots = RecentlyUsed(capacity, _Slot, patience=patience)
        self._record = record
        self._stream_of = stream_of
        self._has_warned = False

    def __len__(self) -> int:
        """How many kinds of input have a graph, or were refused one."""
        return len(self._slots)

    @torch.no_grad()
    def run(self, function: Function, x: Tensor) -> list[Tensor]:
        """``function(x)`` without gradients, on the current stream of x's device.

        Args:
            function: launches work on the current stream, the same for all inputs of one shape, and nothing else.
                Hashable; equal ones are the same function.
            x: its input.

        Warns:
            RuntimeWarning: once, if a graph cannot be recorded; then the function is called instead, now and later.
        """
        stream = self._stream_of(x)
        if stream is None:
            return function(x)
        slot, dropped = self._slots.get((function, stream, x.shape, x.dtype, x.device))
        if dropped is not None:
            _release(dropped)
        if slot is None:
            return function(x)
        with slot.lock:
            if slot.graph is not None:
                return slot.graph.replay(x)
            # The first call is what a recording wants before it: what is loaded or set up once must not be recorded.
            result = function(x)
            if slot.is_open:
                try:
                    slot.graph = self._record(function, x)
                except RuntimeError as error:  # CUDA's errors and lack of memory are such
                    slot.is_open = False
                    self._warn(error)
            return result

    def _warn(self, error: RuntimeError) -> None:
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"litehrnet_cuda: no CUDA graph could be recorded, so launches go one by one: {error}",
                RuntimeWarning,
                stacklevel=4,
            )


def _release(slot: _Slot) -> None:
    """Lets go of a graph after its last replay.

    CUDA itself keeps an executable graph until it has run. Its memory is another matter: PyTorch may give the pool back
    to the driver, which with expandable segments waits for no stream but the one that it was allocated on.
    """
    with slot.lock:  # a thread that has found the slot, but not used it yet, will run without a graph
        graph, slot.graph, slot.is_open = slot.graph, None, False
        if graph is not None:
            graph.wait()
