"""Mistakes that somebody could make in the kernels and adapters, each as a small change of their text.

Tests build every mutant and demand that it dies, and of what: a kind of finding of the emulator or of a sanitizer, or
a "wrong result". A text must occur exactly once, so that a change of the sources cannot leave a mutant behind that
changes nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import emulation

CSRC = emulation.ROOT / "csrc"


@dataclass(frozen=True)
class Mutant:
    """``file``, relative to csrc, with ``before`` replaced by ``after``, dies of ``cause``.

    With ``header``, the text to replace is in that header, which takes the place of its include in ``file``, or in
    another header that does the same.
    """

    name: str
    file: str
    before: str
    after: str
    cause: str
    header: str = ""

    @property
    def element_type(self) -> str:
        """That of the trial, which compiles in a quarter of the time that all take."""
        return "float"

    def text(self) -> str:
        """The mutated source, for one element type."""
        visit = f"[](DType, auto visit) {{ return visit({self.element_type}{{}}); }}(dtype, "
        return self._mutated().replace("visit_dtype(dtype, ", visit)

    def _mutated(self) -> str:
        where = self.header or self.file
        text = (CSRC / where).read_text(encoding="utf-8")
        assert text.count(self.before) == 1, f"{self.name}: {self.before!r} occurs {text.count(self.before)} times"
        text = text.replace(self.before, self.after)
        if not self.header:
            return text
        with_header = _with_header((CSRC / self.file).read_text(encoding="utf-8"), self.header, text, set())
        assert with_header.count(text.replace(_ONCE, "")) == 1, f"{self.name}: {self.file} does not include {where}"
        return with_header

    def write(self) -> Path:
        """The mutated source as a file in build/; its includes are found from csrc."""
        path = emulation.CACHE / "mutants" / self.name / Path(self.file).name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.text(), encoding="utf-8")
        return path


@dataclass(frozen=True)
class TriedMutant(Mutant):
    """A mutant that a program in a process of its own puts to the test, in one of its trials: see `mutant_trials`."""

    trial: str = ""


_INCLUDE = re.compile(r'^#include "(.+)"\n', re.MULTILINE)
_ONCE = "#pragma once\n"


def _includes(text: str, header: str) -> bool:
    """Whether a source includes a header, itself or through others."""
    return any(
        name == header or ((CSRC / name).is_file() and _includes((CSRC / name).read_text(encoding="utf-8"), header))
        for name in _INCLUDE.findall(text)
    )


def _with_header(text: str, header: str, replacement: str, seen: set[str]) -> str:
    """A source in which another text takes the place of a header's include, and of those of headers around it."""

    def content(include: re.Match[str]) -> str:
        name = include[1]
        path = CSRC / name
        if name != header and not (path.is_file() and _includes(path.read_text(encoding="utf-8"), header)):
            return include[0]
        if name in seen:
            return ""
        seen.add(name)
        own = replacement if name == header else path.read_text(encoding="utf-8")
        return _with_header(own.replace(_ONCE, ""), header, replacement, seen)

    return _INCLUDE.sub(content, text)


RACE, BOUNDS, UNINITIALISED = "race", "out of bounds", "uninitialised read"
MISALIGNED = "misaligned access"
WRONG = "wrong result"

_WEIGHTING = "cuda/cross_resolution_weighting.cu"
_WINDOWS = "core/windows.cuh"
_DEPTHWISE = "cuda/depthwise_conv.cu"
_SPATIAL = "cuda/spatial_weighting.cu"
_BLOCK = "cuda/conditional_channel_weighting.cu"

# Of the kernels, run without torch with every access to memory checked.
KERNEL_MUTANTS = [
    # name, file, before, after, cause
    Mutant("weighting_barrier_pooled", _WEIGHTING, "__syncthreads();  // pooled", "// pooled", RACE),
    Mutant("weighting_barrier_hidden", _WEIGHTING, "__syncthreads();  // hidden", "// hidden", RACE),
    Mutant("weighting_barrier_gates", _WEIGHTING, "__syncthreads();  // gates", "// gates", RACE),
    Mutant(
        "weighting_no_padding",
        _WEIGHTING,
        "pooled[i / pad * p.pooled_stride + channels + i % pad] = 0;",
        "(void)pad;",
        UNINITIALISED,
    ),
    Mutant(
        "weighting_pools_channels_that_are_not_there",
        _WEIGHTING,
        "if (task.first_piece == 0 && task.in_channels)",
        "if (task.first_piece == 0)",
        BOUNDS,
    ),
    Mutant(
        "weighting_no_mask_at_the_right_edge",
        _WEIGHTING,
        "row < p.height && column < p.width;",
        "row < p.height;",
        RACE,
    ),
    Mutant(
        "weighting_no_mask_of_the_last_chunk",
        _WEIGHTING,
        "if (position0 + q < p.positions) gates[",
        "gates[",
        RACE,
    ),
    Mutant(
        "weighting_windows_swapped",
        _WEIGHTING,
        "weighting ? reading_window(",
        "!weighting ? reading_window(",
        WRONG,
    ),
    Mutant(
        "weighting_window_end",
        _WEIGHTING,
        "nearest_span(row, positions_high, height);",
        "nearest_span(row, positions_high, height - 1);",
        WRONG,
        header=_WINDOWS,
    ),
    Mutant(
        "weighting_fast_windows_where_rounding_differs",
        _WEIGHTING,
        "windows_coincide(positions_high, height) &&",
        "height % positions_high == 0 &&",
        WRONG,
        header=_WINDOWS,
    ),
    Mutant(
        "weighting_gate_of_another_branch",
        _WEIGHTING,
        "gates[task.position * p.pooled_stride + s.channel_offset + task.channel]",
        "gates[task.position * p.pooled_stride + task.channel]",
        WRONG,
    ),
    Mutant("weighting_no_relu", _WEIGHTING, "value < 0 ? 0 : value;", "value;", WRONG),
    Mutant(
        "weighting_row_beyond_its_first_pieces",
        _WEIGHTING,
        "if (first > 0) row.load(",
        "if (first < 0) row.load(",
        WRONG,
    ),
    Mutant(
        "weighting_vectors_where_y_is_not_aligned",
        _WEIGHTING,
        "is_aligned(r.y, size, r.y_image_stride, r.y_plane_stride, vec * size);",
        "true;",
        MISALIGNED,
    ),
    Mutant("depthwise_barrier_rows", _DEPTHWISE, "__syncthreads();  // the input", "// the input", RACE),
    Mutant("depthwise_barrier_sums", _DEPTHWISE, "__syncthreads();  // the warps'", "// the warps'", RACE),
    Mutant("depthwise_halo_row_too_low", _DEPTHWISE, "y = row0 + row - 1;", "y = row0 + row;", WRONG),
    Mutant("depthwise_no_mask_above", _DEPTHWISE, "v < wanted && y >= 0 &&", "v < wanted &&", BOUNDS),
    Mutant("depthwise_no_mask_below", _DEPTHWISE, "y >= 0 && y < r.height)", "y >= 0)", BOUNDS),
    Mutant(
        "depthwise_no_zero_columns_in_the_halo",
        _DEPTHWISE,
        "for (int row = lane; row < rows + 2;",
        "for (int row = lane; row < rows;",
        UNINITIALISED,
    ),
    Mutant("depthwise_planes_beyond_the_last", _DEPTHWISE, "plane < p.params.batch * r.channels;", "true;", BOUNDS),
    Mutant("depthwise_last_tile_too_high", _DEPTHWISE, "smaller(s.rows, r.height - row0)", "s.rows", BOUNDS),
    Mutant(
        "depthwise_sum_of_the_last_warp_forgotten",
        _DEPTHWISE,
        "warp < lanes / kWarpSize; ++warp",
        "warp + 1 < lanes / kWarpSize; ++warp",
        WRONG,
    ),
    Mutant(
        "depthwise_sum_over_two_planes",
        _DEPTHWISE,
        "lanes_sum(sum, smaller(lanes, kWarpSize))",
        "lanes_sum(sum, kWarpSize)",
        WRONG,
    ),
    Mutant("depthwise_no_scalar_tail", _DEPTHWISE, "(r.width % s.vec != 0 ||", "(r.width < s.vec ||", WRONG),
    Mutant(
        "depthwise_vectors_where_x_is_not_aligned",
        _DEPTHWISE,
        "!is_aligned(r.x, size, r.x_image_stride, r.x_plane_stride, s.vec * size)",
        "false",
        MISALIGNED,
    ),
    Mutant("spatial_barrier_means", _SPATIAL, "__syncthreads();  // means", "// means", RACE),
    Mutant("spatial_barrier_hidden", _SPATIAL, "__syncthreads();  // hidden", "// hidden", RACE),
    Mutant("spatial_barrier_gates", _SPATIAL, "__syncthreads();  // gates", "// gates", RACE),
    Mutant("spatial_gate_of_another_plane", _SPATIAL, "factor = gate[channel];", "factor = gate[channel ^ 1];", WRONG),
    Mutant("spatial_halves_swapped", _SPATIAL, "interleave ? out + pixels : out;", "out;", WRONG),
    Mutant("spatial_partial_sum_forgotten", _SPATIAL, "first + u < r.tiles ?", "first + u + 1 < r.tiles ?", WRONG),
    Mutant(
        "spatial_last_chunk_not_cut",
        _SPATIAL,
        "if (item < items && pixel0 + pixel < pixels)",
        "if (item < items)",
        RACE,
    ),
    Mutant("spatial_second_round_not_requested", _SPATIAL, "if (first != thread) request_gated(first);", "", WRONG),
    Mutant(
        "spatial_no_padding", _SPATIAL, "i < round_up(r.channels, kVectorPad); i += kThreads", "false;", UNINITIALISED
    ),
    Mutant(
        "spatial_rows_of_the_first_group", _SPATIAL, "row2.load(w2 + (channel0 + slot)", "row2.load(w2 + slot", WRONG
    ),
    Mutant(
        "spatial_vectors_where_kept_is_not_aligned",
        _SPATIAL,
        "is_aligned(r.kept, size, r.kept_image_stride, r.kept_plane_stride, kVecBytes) &&",
        "",
        MISALIGNED,
    ),
    Mutant(
        "spatial_sums_of_the_first_image",
        _SPATIAL,
        "static_cast<std::int64_t>(image) * r.channels * r.tiles",
        "0",
        WRONG,
    ),
    Mutant("block_weights_the_first_half", _BLOCK, "r.channels * r.x_plane_stride *", "0 *", WRONG),
    Mutant("block_sums_of_the_first_tile", _BLOCK, "third.tiles = intermediates.tiles[b];", "third.tiles = 1;", WRONG),
    Mutant("block_workspace_too_small", _BLOCK, "reserve(planes * r.height", "reserve(planes / 2 * r.height", BOUNDS),
]

ADDRESS = "AddressSanitizer"
UNDEFINED = "runtime error: index"  # as UndefinedBehaviorSanitizer says it
_ADAPTER = "ops/conditional_channel_weighting.cpp"

# Of what stands between torch and the kernels, run under both sanitizers with torch's tensors.
ADAPTER_MUTANTS = [
    Mutant("adapter_wrong_plane_stride", _ADAPTER, "= input.stride(1);", "= input.stride(2);", WRONG),
    Mutant("adapter_wrong_image_stride", _ADAPTER, "= input.stride(0);", "= x[i].size(1) * input.stride(1);", WRONG),
    Mutant("adapter_branches_behind_the_last", _ADAPTER, "params.branch[i];", "params.branch[i + 5];", UNDEFINED),
    Mutant("adapter_missing_contiguous", _ADAPTER, "with_contiguous_planes(x[i])", "x[i]", WRONG),
    Mutant(
        "adapter_matrix_not_transposed",
        "ops/cross_resolution_weighting.cpp",
        "checked_transposed(kOp",
        "checked_parameter(kOp",
        WRONG,
    ),
    Mutant(
        "adapter_another_memory_format",
        _ADAPTER,
        "in_format_of(outputs[i], x[i])",
        "outputs[i]",
        "another memory format",
    ),
    Mutant(
        "adapter_lets_go_of_copies",
        _ADAPTER,
        "held.push_back(std::move(tensor));\n    return held.back()",
        "return tensor",
        ADDRESS,
    ),
    Mutant(
        "adapter_kept_half_from_the_wrong_place",
        "ops/spatial_weighting.cpp",
        "branch.kept = other.const_data_ptr();",
        "branch.kept = input.const_data_ptr();",
        WRONG,
    ),
    Mutant(
        "adapter_workspace_too_small",
        _ADAPTER,
        "workspace_bytes(params, dtype));",
        "workspace_bytes(params, dtype) - 256);",
        ADDRESS,
    ),
]
