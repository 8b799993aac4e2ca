"""Networks for inference: the whole forward pass as one native call, and as one CUDA graph on a GPU."""

from __future__ import annotations

import contextlib
import copy
import functools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from litehrnet_cuda.backends import select_backend
from litehrnet_cuda.errors import InputError, whole_number
from litehrnet_cuda.models.folded_heads import FoldedHead, fold_head
from litehrnet_cuda.models.litehrnet import MIN_SIZE, LiteHRNet, PoseNetwork
from litehrnet_cuda.models.segmentation import SegmentationNetwork
from litehrnet_cuda.nn.changes import ModuleState
from litehrnet_cuda.plan import Plan, build_plan
from litehrnet_cuda.plan.graphs import Function, GraphCache, is_recorded
from litehrnet_cuda.plan.packing import ACCUMULATE
from litehrnet_cuda.plan.recently_used import RecentlyUsed
from litehrnet_cuda.plan.structure import unusual_part

# What takes a network's place: gets the network, as a function from images to its outputs, and the images. Equal ones
# are the same, so it is hashable; on a GPU it is recorded together with the network.
Around = Callable[[Function, Tensor], list[Tensor]]

MAX_GRAPHS = 8
MAX_PROGRAMS = 16  # a few megabytes each: a network's weights, and tables


def optimize_for_inference(
    model: LiteHRNet | PoseNetwork | SegmentationNetwork,
    *,
    dtype: torch.dtype | None = None,
    cuda_graphs: bool = True,
    persistent: bool = False,
    max_graphs: int = MAX_GRAPHS,
) -> OptimizedNetwork:
    """A network that does what a model does in evaluation mode, with batch norms folded and its layers fused.

    Example::

        fast = optimize_for_inference(create_model("litehrnet_18", checkpoint="litehrnet_18_coco_256x192"))
        heatmaps = fast(images)

    The first images of a size take longer, because the network is planned for this size then: call it once to warm up.

    Args:
        model: the network, of any variant, on any device, in any mode. Its weights are copied: what becomes of the
            model later changes nothing. Of a network for segmentation the backbone is run as a plan, and the head after
            it by PyTorch, its batch norms folded too.
        dtype: what to compute in and return, fp16, bf16, fp32 or fp64; by default the model's.
        cuda_graphs: record the launches on a GPU once for each shape of images, and replay them.
        persistent: run everything in one launch of a persistent kernel, which waits for the whole GPU between steps. To
            be tried out: nobody has timed it yet. Every call copies the steps' parameters to the GPU, and may wait for
            what is queued before. It goes without CUDA graphs, and there is none in fp64. On a CPU it changes nothing.
        max_graphs: the most CUDA graphs at a time; each holds memory for a whole forward pass.

    Raises:
        InputError: for a model that is no Lite-HRNet, a dtype that is not listed, or what no backend has.
    """
    if not isinstance(model, (LiteHRNet, PoseNetwork, SegmentationNetwork)):
        raise InputError(
            f"optimize_for_inference: expected a LiteHRNet, a PoseNetwork or a SegmentationNetwork as create_model "
            f"returns them (without a wrapper around it), got {type(model).__name__}"
        )
    max_graphs = whole_number("max_graphs", max_graphs, 0)
    with torch.inference_mode(False):  # ordinary tensors, which may be used anywhere
        snapshot = copy.deepcopy(model).eval().requires_grad_(False)
    graphs = max_graphs if cuda_graphs and not persistent else 0
    return OptimizedNetwork(snapshot, dtype=dtype, max_graphs=graphs, persistent=persistent)


class Execution(NamedTuple):
    """How a network is run.

    Args:
        backend: of :func:`litehrnet_cuda.backends.backends`.
        is_planned: as a plan, the whole of it in one native call; else module by module.
        reason: why not as a plan.
    """

    backend: str
    is_planned: bool
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.backend}, planned" if self.is_planned else f"{self.backend}, module by module: {self.reason}"


@dataclass(frozen=True)
class _Surrounded:
    """A network's function with what takes its place. Equal ones are the same to graphs."""

    around: Around
    function: Function

    def __call__(self, images: Tensor) -> list[Tensor]:
        return self.around(self.function, images)


@dataclass(frozen=True)
class _Followed:
    """A backbone's function and the head after it."""

    backbone: Function
    head: FoldedHead

    def __call__(self, images: Tensor) -> list[Tensor]:
        if images.is_cuda:
            for tensor in self.head.tensors:  # as a program's constants
                tensor.record_stream(torch.cuda.current_stream(images.device))
        return [self.head(self.backbone(images))]


@dataclass
class _Program:
    """How images of one size are run on one device; made by who first holds the lock."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    is_made: bool = False
    function: Function | None = None
    refusal: str = ""

    def function_around(self, around: Around | None) -> Function | None:
        """The network's function, or that with what takes its place."""
        return self.function if around is None or self.function is None else _Surrounded(around, self.function)


class OptimizedNetwork:
    """What :func:`optimize_for_inference` returns.

    Call it as the model, with normalised images ``[N, C, H, W]`` of any floating-point type on any device. The result
    is on the same device, and is what the model returns: a tensor, or a list from high to low resolution. No gradients
    are recorded. Threads and CUDA streams may share it.

    It runs as a plan where a backend other than plain PyTorch can (:func:`litehrnet_cuda.backends.select_backend`), in
    its own dtype even under autocast. Elsewhere, for sizes that kernels refuse, and if the model has parts of the
    user's own or hooks, the model itself is run, in evaluation mode; :meth:`backend_for` tells. A CUDA graph in which
    calls are recorded needs it as long as it is replayed.

    Args:
        model: the network. It must not change.
        dtype: what to compute in; by default the model's.
        max_graphs: the most CUDA graphs at a time, 0 for none.
        unplanned: why never to run as a plan, if so.
        persistent: run a plan in one launch, which CUDA graphs do not take.

    Raises:
        InputError: for a dtype that networks do not run in, or a number of graphs below 0.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        dtype: torch.dtype | None = None,
        max_graphs: int = MAX_GRAPHS,
        unplanned: str = "",
        persistent: bool = False,
    ) -> None:
        if dtype is not None and dtype not in ACCUMULATE:
            raise InputError(f"dtype: expected float16, bfloat16, float32 or float64, got {dtype}")
        max_graphs = whole_number("max_graphs", max_graphs, 0)
        self.dtype = dtype or next(model.parameters()).dtype
        if persistent and max_graphs:
            raise InputError(f"persistent: expected max_graphs=0, because CUDA graphs do not take it, got {max_graphs}")
        if persistent and self.dtype == torch.float64:
            raise InputError("persistent: expected fp16, bf16 or fp32, because there is no such kernel in fp64")
        self._model = model
        self._max_graphs = max_graphs
        self._unplanned = unplanned
        self._persistent = persistent
        self._recorded: set[Function] = set()
        self._copies: dict[torch.device, nn.Module] = {}
        self._programs = RecentlyUsed(MAX_PROGRAMS, _Program)
        self._graphs = GraphCache(max_graphs) if max_graphs else None

    @torch.no_grad()
    def __call__(self, images: Tensor, around: Around | None = None) -> Any:
        """Runs the network.

        Args:
            images: ``[N, C, H, W]``.
            around: what to run in its place, which calls it, for example to mirror images before and to decode heat
                maps after. The result is then the list that it returns.

        Raises:
            InputError: for images of another shape than the model takes, or of integers.
        """
        if not isinstance(images, Tensor) or not images.is_floating_point():
            what = images.dtype if isinstance(images, Tensor) else type(images).__name__
            raise InputError(f"images: expected a tensor of normalised ones of a floating-point type, got {what}")
        function = self._program_for(images).function_around(around)
        if function is None:
            return self._run_model(images, around)
        if is_recorded(images.device):
            # By the user: the launches read the program's weights whenever they are replayed.
            self._recorded.add(function)
        images = images.to(self.dtype).contiguous()
        graphs = self._graphs if images.shape[0] else None  # nothing is launched for no images
        outputs = function(images) if graphs is None else graphs.run(function, images)
        if around is not None:
            return outputs
        return outputs if getattr(self._model, "branches", "top") == "all" else outputs[0]

    def backend_for(self, images: Tensor) -> Execution:
        """How images like these are run here and now. For a new size it makes the plan, as a call would."""
        program = self._program_for(images)
        return Execution(select_backend(images.device.type), program.function is not None, program.refusal)

    def _run_model(self, images: Tensor, around: Around | None) -> Any:
        model = self._model_on(images.device)
        if any(part.training for part in model.modules()):
            model.eval()
        images = images.to(self.dtype)
        with _no_autocast(images.device.type):  # its own dtype, as everywhere
            return model(images) if around is None else around(lambda x: as_list(model(x)), images)

    def _model_on(self, device: torch.device) -> nn.Module:
        """The model, or for images on another device and a dtype that isn't the model's, a copy."""
        first = next(self._model.parameters())
        if (first.device, first.dtype) == (device, self.dtype):
            return self._model
        if device not in self._copies:
            with torch.inference_mode(False):
                self._copies[device] = copy.deepcopy(self._model).to(device, self.dtype)
        return self._copies[device]

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # what makes plans is not for tracing
    def _program_for(self, images: Tensor) -> _Program:
        backend = select_backend(images.device.type)
        if backend == "reference":
            return _Program(refusal=f"plain PyTorch is what runs on {images.device.type} here")
        if backend == "triton":
            return _Program(refusal="Triton has kernels for blocks, not for whole networks")
        if images.dim() != 4 or min(images.shape[2:]) < MIN_SIZE:
            return _Program(refusal=f"expected images [N, C, H, W] from {MIN_SIZE}x{MIN_SIZE} up")
        if self._unusual_part or _has_any_global_hook():  # type: ignore[no-untyped-call]
            return _Program(refusal=self._unusual_part or "there is a hook on all modules")
        program, _ = self._programs.get((backend, images.device, images.shape[1:]))
        assert program is not None  # there is always room
        if not program.is_made:
            with program.lock:
                if not program.is_made:
                    self._make(program, images)
        return program

    @functools.cached_property
    def _unusual_part(self) -> str:
        return self._unplanned or unusual_part(self._model)

    def _make(self, program: _Program, images: Tensor) -> None:
        if is_recorded(images.device):
            raise InputError(
                f"OptimizedNetwork: expected a call with images of {images.shape[2]}x{images.shape[3]} pixels before "
                f"such a call is recorded in a CUDA graph, because weights are copied to the GPU then"
            )
        model: Any = self._model
        try:
            with torch.inference_mode(False), torch.no_grad():
                is_segmentation = isinstance(model, SegmentationNetwork)
                planned = model.backbone if is_segmentation else model
                plan = build_plan(planned, images.shape[2], images.shape[3], self.dtype)
                function = _program_function(plan, images.device, self._persistent)
                if is_segmentation:
                    function = _Followed(function, fold_head(model.decode_head, images.device, self.dtype))
                function(images.new_zeros(1, *images.shape[1:], dtype=self.dtype))  # kernels know their limits
            program.function = function
        except (InputError, NotImplementedError) as error:
            program.refusal = str(error)
        except RuntimeError as error:
            if "could not be started" not in str(error) or "out of memory" in str(error):
                raise
            program.refusal = str(error)
        program.is_made = True

    def __repr__(self) -> str:
        return f"{type(self).__name__}({type(self._model).__name__}, dtype={self.dtype}, max_graphs={self._max_graphs})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Plans and graphs are made again where a copy is used.
        make = functools.partial(
            type(self),
            dtype=self.dtype,
            max_graphs=self._max_graphs,
            unplanned=self._unplanned,
            persistent=self._persistent,
        )
        return make, (self._model,)


def _no_autocast(device_type: str) -> contextlib.AbstractContextManager[object]:
    if torch.amp.is_autocast_available(device_type):
        return torch.autocast(device_type, enabled=False)
    return contextlib.nullcontext()


def as_list(outputs: Tensor | Sequence[Tensor]) -> list[Tensor]:
    """What a network returns, as a list."""
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)


def _program_function(plan: Plan, device: torch.device, persistent: bool) -> Function:
    """What runs a plan on a device."""
    # The executor loads the native library, which plain PyTorch does without.
    from litehrnet_cuda.plan.executor import run_program
    from litehrnet_cuda.plan.program import compile_plan

    program = compile_plan(plan).to(device)

    def run(images: Tensor) -> list[Tensor]:
        if device.type == "cuda":
            # Weights were allocated on one stream, and may be let go of while another one reads them.
            program.constants.record_stream(torch.cuda.current_stream(device))
        return run_program(program, images, persistent=persistent)

    return run


class LiveNetwork:
    """A network that may be trained on or changed, run in the optimised form of what it is at each call.

    Whenever the network has changed, as :class:`~litehrnet_cuda.nn.changes.ModuleState` sees it, it is planned anew.
    Where there is no plan, the network itself is run, not a copy. It is put into evaluation mode.

    Args:
        model: the network.
        max_graphs: the most CUDA graphs at a time, 0 for none.
        unplanned: why never to run as a plan, if so.
    """

    def __init__(self, model: nn.Module, *, max_graphs: int = MAX_GRAPHS, unplanned: str = "") -> None:
        self.model = model
        self._max_graphs = max_graphs
        self._unplanned = unplanned
        self._present: tuple[ModuleState, OptimizedNetwork] | None = None

    def __call__(self, images: Tensor, around: Around | None = None) -> Any:
        """As :class:`OptimizedNetwork`."""
        return self._optimized()(images, around)

    def backend_for(self, images: Tensor) -> Execution:
        """How images like these are run here and now."""
        return self._optimized().backend_for(images)

    def _optimized(self) -> OptimizedNetwork:
        present = self._present
        # Out of training it may have been written to in ways that are not seen.
        if present is None or self.model.training or not present[0].is_current():
            self.model.eval()
            # Before any weight is read, so that a change between the two is seen at the next call.
            state = ModuleState(self.model)
            reason = self._unplanned
            if not (reason or state.is_counted):
                reason = "it was made in inference mode, where PyTorch does not count writes to weights"
            network = OptimizedNetwork(self.model, max_graphs=self._max_graphs, unplanned=reason)
            self._present = present = (state, network)
        return present[1]

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(type(self), max_graphs=self._max_graphs, unplanned=self._unplanned), (self.model,)
