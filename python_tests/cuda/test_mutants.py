"""The tests of the kernels and adapters can fail: every mutant of `mutants.py` dies, and of the expected cause."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import emulated_ops
import emulation
import inference_kernels as native
import op_cases
import op_trials
import pytest
import torch
from mutants import ADAPTER_MUTANTS, CSRC, KERNEL_MUTANTS, WRONG, Mutant
from torch import Tensor

Sizes = Sequence[tuple[int, int]]

# Channels, sizes, batch, and which feature maps lie an element off their alignment: the least that reaches every path.
SHAPES: list[tuple[list[int], Sizes, int, list[str]]] = [
    ([4, 6, 10], op_cases.SIZES["odd"], 2, []),
    ([4, 6, 10, 13], op_cases.SIZES["overlapping"], 1, []),
    ([4, 6, 10, 12], op_cases.SIZES["four_exact"], 2, []),
    ([4, 6], op_cases.SIZES["two_exact"], 1, ["x"]),
    ([4, 6], op_cases.SIZES["two_exact"], 1, ["kept"]),
    ([4, 6], op_cases.SIZES["two_exact"], 1, ["y", "out"]),
    ([4, 6, 10, 12], op_cases.SIZES["four_exact"], 1, ["x", "kept", "y", "out"]),
    ([3, 4], [(82, 4), (2, 4)], 1, []),  # 82 = 41 x 2, but PyTorch does not split it evenly
    ([390, 30], [(4, 4), (2, 2)], 1, []),  # beyond the pieces of a row that a lane holds
    ([4, 8, 16], [(24, 28), (12, 14), (6, 7)], 8, []),  # tiles of four positions, the last of a row of three
    ([5, 8], [(10, 6), (5, 3)], 40, []),  # tiles of six positions, in chunks of four
    ([3], [(64, 48)], 1, []),  # several tiles of whole rows, and two warps each
    ([3], [(33, 49)], 1, []),
    ([3, 2], [(41, 39), (401, 4)], 1, []),  # two tiles a plane, not equal
]


def cross_resolution_weighting(kernels: native.Kernels, x: list[Tensor], *weights: Tensor) -> list[Tensor]:
    return kernels.cross_resolution_weighting(x, weights)


def depthwise_conv(kernels: native.Kernels, x: list[Tensor], weight: Any, bias: Any) -> list[Tensor]:
    outputs, sums = kernels.depthwise_conv(x, weight, bias)
    return [*outputs, *(s.sum(2) for s in sums)]


def depthwise_conv_reference(x: list[Tensor], weight: Any, bias: Any) -> list[Tensor]:
    outputs = op_cases.OPS["depthwise_conv"].reference(x, weight, bias)
    return [*outputs, *(y.sum((2, 3)) for y in outputs)]


def spatial_weighting(kernels: native.Kernels, x: list[Tensor], kept: Any, *weights: Any) -> list[Tensor]:
    matrices = list(zip(*weights, strict=True))
    return kernels.spatial_weighting(x, matrices, kept=kept, partial_sums=[s.sum(3) for s in x])


def conditional_channel_weighting(kernels: native.Kernels, x: list[Tensor], *weights: Any) -> list[Tensor]:
    matrices, filters, gates = weights[:4], zip(*weights[4:6], strict=True), zip(*weights[6:], strict=True)
    return kernels.conditional_channel_weighting(x, matrices, list(filters), list(gates))


OPS: dict[str, Callable[..., list[Tensor]]] = {
    "cross_resolution_weighting": cross_resolution_weighting,
    "depthwise_conv": depthwise_conv,
    "spatial_weighting": spatial_weighting,
    "conditional_channel_weighting": conditional_channel_weighting,
}
REFERENCES = {name: op.reference for name, op in op_cases.OPS.items()} | {"depthwise_conv": depthwise_conv_reference}


def causes_of_death(library: emulation.Library, name: str) -> set[str]:
    """What goes wrong in the first trial of an op in which something does; the empty set if nothing ever does."""
    for channels, sizes, batch, shifted in SHAPES:
        args = op_cases.cast(op_cases.OPS[name].arguments(sizes, channels, batch), torch.float32)
        for seed in (0, 1, 2):
            library.reset()
            library.configure(seed=seed)
            causes = set()
            try:
                op_cases.assert_close_to_reference(
                    lambda *given: OPS[name](native.Kernels(library, 1, shifted), *given),  # noqa: B023
                    REFERENCES[name],
                    args,
                    torch.float32,
                )
            except AssertionError:
                causes = {WRONG}
            causes |= library.kinds()
            if causes:
                return causes
    return set()


def build_native(mutant: Mutant | None) -> emulation.Library:
    sources = list(native.SOURCES)
    if mutant is not None:
        sources[sources.index(CSRC / mutant.file)] = mutant.write()
    return emulation.load(sources, mode="checked", includes=[CSRC])


def test_mutants_still_apply() -> None:
    mutants = [*KERNEL_MUTANTS, *ADAPTER_MUTANTS]
    assert len({mutant.name for mutant in mutants}) == len(mutants)
    for mutant in mutants:
        mutant.text()  # raises where the text to replace does not occur once


@pytest.mark.slow
@pytest.mark.parametrize("name", OPS)
def test_kernels_survive_the_trials_of_their_mutants(name: str) -> None:
    assert causes_of_death(build_native(None), name) == set()


@pytest.mark.slow
@pytest.mark.parametrize("mutant", KERNEL_MUTANTS, ids=lambda m: m.name)
def test_mutant_of_a_kernel_dies(mutant: Mutant) -> None:
    assert mutant.cause in causes_of_death(build_native(mutant), Path(mutant.file).stem)


@pytest.mark.slow
@pytest.mark.parametrize("mutant", ADAPTER_MUTANTS, ids=lambda m: m.name)
def test_mutant_of_an_adapter_dies(mutant: Mutant) -> None:
    adapters = [mutant.write() if path == CSRC / mutant.file else path for path in emulated_ops.ADAPTERS]
    library = emulated_ops.build("asan", adapters=adapters, flags=emulated_ops.UNDEFINED)
    options = ["--ops", Path(mutant.file).stem, "--layouts", *op_trials.LAYOUTS]
    result = op_trials.run(library, *options, sanitized=True)
    assert result.returncode != 0
    assert mutant.cause in result.stdout + result.stderr
