"""What is measured: the stages of Lite-HRNet, and an op with its arguments.

Each file of benchmarks/ops describes one op as a `Benchmark`; the runner, the emulator's statistics and the tables ask
nothing else about it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
BATCHES = (1, 8, 64)
FP32_BYTES = 4
MODES = ("forward", "backward", "full")  # full: forward and backward


@dataclass(frozen=True)
class Stage:
    """A stage of Lite-HRNet-18 and -30 at 256x192: channels of each branch, and its height and width."""

    name: str
    channels: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]

    @property
    def halves(self) -> list[int]:
        """The channels that a block weights: it keeps the others."""
        return [c // 2 for c in self.channels]

    @property
    def hidden(self) -> int:
        """Of cross-resolution weighting, whose ratio is 8."""
        return sum(self.halves) // 8

    @property
    def gate_hidden(self) -> list[int]:
        """Of spatial weighting, whose ratio is 4."""
        return [c // 4 for c in self.halves]


_CHANNELS, _SIZES = (40, 80, 160, 320), ((64, 48), (32, 24), (16, 12), (8, 6))
STAGES = {f"stage{n}": Stage(f"stage{n}", _CHANNELS[:n], _SIZES[:n]) for n in (2, 3, 4)}


class Traffic(NamedTuple):
    """Bytes of global memory."""

    read: int
    written: int

    @property
    def total(self) -> int:
        return self.read + self.written


@dataclass(frozen=True)
class Case:
    """One op on one stage of the network."""

    stage: Stage
    batch: int
    dtype: torch.dtype

    @property
    def dtype_name(self) -> str:
        return str(self.dtype).removeprefix("torch.")

    @property
    def name(self) -> str:
        return f"{self.stage.name}_b{self.batch}_{self.dtype_name}"

    @property
    def map_bytes(self) -> int:
        """Of the maps that a block weights, the halves of the channels; maps of all channels have twice as many."""
        pixels = sum(c * height * width for c, (height, width) in zip(self.stage.halves, self.stage.sizes, strict=True))
        return self.batch * pixels * self.dtype.itemsize

    @property
    def positions(self) -> int:
        """Of the last branch, in all images."""
        height, width = self.stage.sizes[-1]
        return self.batch * height * width

    @property
    def logit_bytes(self) -> int:
        """Of the gates before their batch norm: one for every weighted channel and position, of the maps' dtype."""
        return self.positions * sum(self.stage.halves) * self.dtype.itemsize

    @property
    def gate_bytes(self) -> int:
        """The same in fp32."""
        return self.positions * sum(self.stage.halves) * FP32_BYTES

    @property
    def hidden_bytes(self) -> int:
        """Of what lies between the two matrices of cross-resolution weighting, in fp32."""
        return self.positions * self.stage.hidden * FP32_BYTES

    @property
    def matrix_bytes(self) -> int:
        """Of one of these two matrices in fp32."""
        return self.stage.hidden * sum(self.stage.halves) * FP32_BYTES


@dataclass(frozen=True)
class Benchmark:
    """An op: what it is called with, and what it is compared with.

    Args:
        name: of the op; its file is bench_<name>.py.
        ours: the public function.
        reference: the same in plain PyTorch.
        arguments: random arguments in fp64 for a stage and a batch size.
        modes: those of `MODES` that are measured.
        dtypes: those of `DTYPES` that are measured.
        fp32_parameters: all arguments but the first, the feature maps, stay in fp32 as the op wants them.
        backward_arguments: of the op `_<name>_backward`, from the arguments and results of the op.
        forward_launches, backward_launches: bytes that each launch has to read and write, given what the launches
            before it left in memory; None where there is one launch, which has to move what the op has to move.
        unread, backward_unread: bytes of the arguments that nobody needs to read.
        in_place: those of the arguments that the op writes to.
        in_triton: litehrnet_cuda.triton has the op too.
    """

    name: str
    ours: Callable[..., Any]
    reference: Callable[..., Any]
    arguments: Callable[[Stage, int], list[Any]]
    modes: tuple[str, ...] = ("forward",)
    dtypes: tuple[torch.dtype, ...] = tuple(DTYPES.values())
    fp32_parameters: bool = False
    backward_arguments: Callable[[list[Any], Any], list[Any]] | None = None
    forward_launches: Callable[[Case], list[Traffic]] | None = None
    backward_launches: Callable[[Case], list[Traffic]] | None = None
    unread: Callable[[Case], int] = lambda case: 0
    backward_unread: Callable[[Case], int] = lambda case: 0
    in_place: Callable[[list[Any]], Any] = lambda arguments: []
    in_triton: bool = False

    def inputs(self, case: Case, device: str | torch.device = "cpu") -> list[Any]:
        """The same arguments every time."""
        torch.manual_seed(0)
        maps, *rest = self.arguments(case.stage, case.batch)
        parameter_dtype = torch.float32 if self.fp32_parameters else case.dtype
        return [converted(maps, case.dtype, device), *converted(rest, parameter_dtype, device)]


def converted(value: Any, dtype: torch.dtype, device: str | torch.device) -> Any:
    """Floating-point tensors among arguments in a dtype on a device; others keep theirs."""
    if isinstance(value, Tensor):
        return value.to(device, dtype if value.is_floating_point() else value.dtype)
    if isinstance(value, (list, tuple)):
        return [converted(item, dtype, device) for item in value]
    return value


def tensors(value: Any) -> Iterator[Tensor]:
    """All tensors among arguments or results."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors(item)


def bytes_of(value: Any) -> int:
    """Of all tensors among arguments or results, each element once."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors(value))


def cases(stages: Sequence[str], batches: Sequence[int], dtypes: Sequence[str]) -> list[Case]:
    """All combinations."""
    return [Case(STAGES[stage], batch, DTYPES[dtype]) for stage in stages for batch in batches for dtype in dtypes]


# Random arguments, of a scale that keeps sums and sigmoids in their interesting range.

random = partial(torch.randn, dtype=torch.float64)


def maps_of(stage: Stage, batch: int, channels: Sequence[int]) -> list[Tensor]:
    return [random(batch, c, *size) for c, size in zip(channels, stage.sizes, strict=True)]


def matrix(rows: int, columns: int) -> Tensor:
    return random(rows, columns) / columns**0.5


def training_backward_arguments(arguments: list[Any], results: Any) -> list[Any]:
    """Of the backward ops of ops with batch norms, which have one form: gradients, arguments, results, flags."""
    y, statistics, saved = results
    return [[torch.randn_like(s) for s in y], *arguments[:-2], statistics, saved, *arguments[-2:]]


def batch_norms(channels: Sequence[int]) -> list[Any]:
    """Weights, biases, running statistics, which training does not read, `training`, `eps`."""
    return [[1 + random(c) / 4 for c in channels], [random(c) for c in channels], [], [], True, 1e-5]


def cross_resolution_weights(stage: Stage) -> list[Tensor]:
    total = sum(stage.halves)
    # The second matrix as modules hold it for inference: the transposed view of a contiguous one needs no copy.
    second = (random(stage.hidden, total) / stage.hidden**0.5).t()
    return [matrix(stage.hidden, total), random(stage.hidden), second, random(total)]


def depthwise_filters(stage: Stage) -> list[Tensor]:
    return [random(c, 3, 3) / 3 for c in stage.halves]


def gate_weights(stage: Stage) -> list[list[Tensor]]:
    pairs = list(zip(stage.halves, stage.gate_hidden, strict=True))
    return [
        [matrix(hidden, c) for c, hidden in pairs],
        [random(hidden) for _, hidden in pairs],
        [matrix(c, hidden) for c, hidden in pairs],
        [random(c) for c, _ in pairs],
    ]
