"""What is measured of whole networks: shapes, threads, and who takes part."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn

from litehrnet_cuda.benchmarking.contenders import with_statistics
from litehrnet_cuda.models.registry import create_model, list_models


@dataclass(frozen=True)
class Case:
    """Images of one shape, and who runs on them.

    Args:
        network: that all contenders run.
        height, width, batch: of the images.
        threads: of every contender, between operations always one; on a GPU those of the host.
        dtype: of images and weights.
        contenders: by their names in `litehrnet_cuda.benchmarking.contenders`.
        others: other networks and their contenders, as "hrnet_w32/eager", on the same images in the same rounds.
    """

    network: str
    height: int
    width: int
    batch: int = 1
    threads: int = 1
    dtype: str = "float32"
    contenders: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{self.network} {self.width}x{self.height}, batch {self.batch}, {threads}, {self.dtype}"

    def described(self) -> dict[str, Any]:
        """What tells this case from others, as JSON types."""
        fields = asdict(self)
        return {name: fields[name] for name in ("network", "height", "width", "batch", "threads", "dtype")}


ALL = ("eager", "ours", "onnxruntime", "openvino", "tensorrt")
COMPILED = ("compile", "compile-graphs", "compile-autotune")
OURS_16 = ("ours-bfloat16", "ours-float16")
WAYS = ("ours-no-graph", "ours-one-launch", "blocks")
SIZE = (256, 192)
OTHERS = tuple(f"{network}/{name}" for network in ("hrnet_w32", "mobilenetv2") for name in ("eager", "onnxruntime"))
FASTEST = ("ours", "onnxruntime", "openvino", "tensorrt")

BATCHES = (1, 2, 4, 8, 16, 32, 64)
SIZES = ((128, 96), (192, 144), (256, 192), (384, 288), (512, 384), (512, 512))


def inference_cases(device_type: str) -> list[Case]:
    """The networks at the usual sizes and at sizes that nothing divides evenly."""
    everyone = Case("litehrnet_18", *SIZE, contenders=(*ALL, *OURS_16, *COMPILED, *WAYS), others=OTHERS)
    plain = replace(everyone, contenders=(*ALL, *WAYS), others=())
    cases = [everyone, replace(plain, batch=8)]
    cases += [replace(plain, network="litehrnet_30", batch=batch) for batch in (1, 8)]
    cases += [replace(plain, network=name) for name in ("naive_litehrnet_18", "wider_naive_litehrnet_18")]
    cases += [replace(plain, network=name, height=384, width=288) for name in ("litehrnet_18", "litehrnet_30")]
    cases += [replace(plain, height=height, width=width) for height, width in ((250, 180), (333, 217))]
    if device_type == "cpu":
        # Compiling takes minutes, and other code for another number of threads.
        compiled = set(COMPILED)
        return [
            replace(
                case, threads=threads, contenders=tuple(n for n in case.contenders if threads == 1 or n not in compiled)
            )
            for case in cases
            for threads in (1, 2)
        ]
    cases += [replace(plain, batch=64)]
    return cases + [replace(case, dtype="float16", others=()) for case in cases]


def growth_cases(device_type: str) -> list[Case]:
    """Batches at one size, then sizes with one image; the fastest contenders alone."""
    first = Case("litehrnet_18", *SIZE, contenders=FASTEST)
    return [replace(first, batch=batch) for batch in BATCHES] + [
        replace(first, height=height, width=width) for height, width in SIZES if (height, width) != SIZE
    ]


def quick_cases(device_type: str) -> list[Case]:
    """To see that it works: seconds, most of them for the export."""
    return [Case("litehrnet_18", *SIZE, contenders=ALL)]


CASES: dict[str, Callable[[str], list[Case]]] = {"inference": inference_cases, "growth": growth_cases}


@functools.lru_cache(maxsize=3)  # of a case with others; the same objects again, so that exports are kept
def network(name: str, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """A network in evaluation mode, with the same random weights every time."""
    torch.manual_seed(0)
    created = _OTHERS[name]() if name in _OTHERS else create_model(name)
    return with_statistics(created, torch.randn(2, 3, *SIZE)).to(device, dtype)


def _hrnet() -> nn.Module:
    from benchmarks.networks.hrnet import HRNet

    return HRNet()


def _mobilenet() -> nn.Module:
    from benchmarks.networks.mobilenet import MobileNetPose

    return MobileNetPose()


_OTHERS: dict[str, Callable[[], nn.Module]] = {"hrnet_w32": _hrnet, "mobilenetv2": _mobilenet}
NETWORKS = (*list_models(), *_OTHERS)


def images(case: Case, device: torch.device) -> torch.Tensor:
    """Random normal, as normalised images are: neither zeros nor the denormals that slow processors down."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(case.batch, 3, case.height, case.width, generator=generator)
    return values.to(device, getattr(torch, case.dtype))


def chosen(cases: Sequence[Case], **only: Sequence[Any] | None) -> list[Case]:
    """Cases whose fields are among the given ones, and of these the given contenders."""
    contenders = only.pop("contenders", None)
    found = [
        case for case in cases if all(values is None or getattr(case, name) in values for name, values in only.items())
    ]
    if contenders is None:
        return found
    return [
        replace(
            case,
            contenders=tuple(name for name in case.contenders if name in contenders),
            others=tuple(name for name in case.others if name.split("/")[1] in contenders),
        )
        for case in found
    ]
