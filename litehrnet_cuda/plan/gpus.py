"""What GPUs can do at most, from NVIDIA's data sheets. Predictions start from these; nothing here was measured."""

from __future__ import annotations

from dataclasses import dataclass

from litehrnet_cuda.errors import InputError


@dataclass(frozen=True)
class Gpu:
    """A GPU of NVIDIA's data sheets.

    Args:
        name: for tables.
        architecture: its compute capability.
        code: the architecture whose machine code it runs, of those that are compiled for by default.
        multiprocessors: how many it has.
        gigabytes_per_second: peak bandwidth of its memory.
        teraflops: peak of float32 arithmetic without tensor cores, a fused multiply-add counted as two.
        l2_megabytes: size of its L2 cache, in units of 1024^2 bytes.
        gigahertz: boost clock of its multiprocessors.
    """

    name: str
    architecture: str
    code: str
    multiprocessors: int
    gigabytes_per_second: float
    teraflops: float
    l2_megabytes: float
    gigahertz: float


GPUS = (
    Gpu("T4", "7.5", "7.5", 40, 320, 8.1, 4, 1.59),
    Gpu("A100 40 GB", "8.0", "8.0", 108, 1555, 19.5, 40, 1.41),
    Gpu("RTX 4090", "8.9", "8.6", 128, 1008, 82.6, 72, 2.52),
    Gpu("H100 SXM", "9.0", "9.0", 132, 3350, 66.9, 50, 1.98),
)


def find_gpu(name: str) -> Gpu:
    """The GPU that a name or a part of one means: ``"RTX 4090"``, ``"rtx4090"``, ``"4090"``.

    Raises:
        InputError: for a name that means none or several.
    """
    key = _letters(name)
    found = [gpu for gpu in GPUS if key and key in _letters(gpu.name)]
    if len(found) != 1:
        problem = "unknown" if not found else "ambiguous"
        raise InputError(f"{problem} GPU {name!r:.60}, expected one of {', '.join(gpu.name for gpu in GPUS)}")
    return found[0]


def _letters(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())
