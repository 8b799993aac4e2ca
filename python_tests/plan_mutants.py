"""Mistakes that somebody could make in the kernels of a plan's steps and in their program, each a small change of text.

As `mutants`. They are put to the test step by step, in a process of their own: `plan_trials`. There a step may touch
its own planes and the constants alone, so that most of what reaches too far is found in the checked build.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mutants import ADDRESS, BOUNDS, MISALIGNED, RACE, UNINITIALISED, WRONG, TriedMutant

# The options of `plan_trials` that reach what a mistake is in.
TRIALS = {
    "exact": "--sizes 64x48",
    "odd": "--sizes 50x71",
    "images": "--sizes 64x48 --batch 2",
    "shifted": "--sizes 64x48 --shift 4",
    "half": "--sizes 64x48 --dtypes float16",
    "wide": "--networks three_blocks --sizes 128x256 --batch 2",  # tiles of several warps, several in a plane
    "positions": "--networks three_blocks --sizes 128x96 --batch 12",  # tiles of several positions
    "overlapping": "--networks three_blocks --sizes 100x71 --batch 40",  # where the last of them are not full
    "channels": "--networks five_blocks --sizes 33x97",  # no multiples of four
    "naive": "--networks naive_litehrnet_18 --sizes 50x71",
    "many": "--networks naive_litehrnet_18 --sizes 50x71 --batch 24",  # tiles that nothing has to be cut
    "returned": "--networks returned --sizes 33x97",
    "top": "--networks top --sizes 64x48",
    "unusual": "--networks unusual_steps",
    "unusual_shifted": "--networks unusual_steps --shift 4 --batch 40",
    "whole": "--sizes 64x48 --batch 2 --whole",
    "persistent": "--sizes 32x32 --whole --persistent",
}


@dataclass(frozen=True)
class PlanMutant(TriedMutant):
    """A mutant that the steps of a ``kind`` show in one of `TRIALS`; without a kind, all steps."""

    trial: str = "odd"
    kind: str = ""

    @property
    def element_type(self) -> str:
        return "__half" if "float16" in TRIALS[self.trial] else "float"


Mistake = tuple[str, str, str, str] | tuple[str, str, str, str, str]


def _of(step: str, *mistakes: Mistake, header: str = "") -> list[PlanMutant]:
    """Mutants of a step's kernel, or of a header of it: name, before, after, cause, trial."""
    prefix = f"{Path(header).stem}_of_{step}" if header else step
    kind = "".join(word.capitalize() for word in step.split("_"))
    return _in(f"cuda/plan_{step}.cu", kind, *mistakes, header=header or f"cuda/plan_{step}.cuh", prefix=prefix)


def _in(file: str, kind: str, *mistakes: Mistake, header: str = "", prefix: str = "") -> list[PlanMutant]:
    """Mutants of any file, which steps of a kind show."""
    return [
        PlanMutant(f"{prefix or Path(file).stem}_{name}", file, before, after, cause, header, *trial, kind=kind)
        for name, before, after, cause, *trial in mistakes
    ]


def _barrier(comment: str, trial: str = "odd", cause: str = RACE) -> tuple[str, str, str, str, str]:
    """A barrier that is missing, told by what the comment beside it says."""
    name = comment.replace(",", "").replace("'", "").replace(" ", "_")
    return f"barrier_{name}", f"__syncthreads();  // {comment}", f"// {comment}", cause, trial


# Threads that are ahead find no pointer there.
_TABLES = _barrier("the tables are staged", cause=UNINITIALISED)


MUTANTS: list[PlanMutant] = [
    *_of(
        "stem_convolution",
        _TABLES,
        _barrier("taps are staged"),
        ("rows_above_the_first", "y >= 0 && y < r.input.height", "y < r.input.height", BOUNDS),
        ("columns_behind_the_last", "x >= 0 && x < r.input.width;", "x >= 0;", BOUNDS),
        ("window_a_row_too_low", "2 * (tile.row0 + row) - 1,", "2 * (tile.row0 + row),", WRONG),
        ("no_relu", "value < 0 ? 0 : value;", "value;", WRONG),
        ("rows_of_the_first_part", "(tile.first_row) * columns", "(0 * tile.first_row) * columns", WRONG),
    ),
    *_of(
        "separable_convolution",
        _TABLES,
        _barrier("x is staged", "naive"),
        _barrier("e is complete", "naive"),
        _barrier("all channels are filtered"),
        ("stride_1_down", "y * r.stride + k / 3 - 1", "y + k / 3 - 1", BOUNDS),
        (
            "no_relu",
            "const acc value = sums[e] + target.bias;\n    " + " " * 36 + "values[e] = value < 0 ? 0 : value;",
            "values[e] = sums[e] + target.bias;",
            WRONG,
        ),
        (
            "panels_of_another_stride",
            "(tile.first_row) * channels;",
            "(tile.first_row) * r.input.count;",
            BOUNDS,
            "unusual",
        ),
    ),
    *_of(
        "pointwise_convolution",
        _barrier("the tables are staged", "naive", UNINITIALISED),
        _barrier("x is staged", "naive"),
        ("relu_of_all", "r.relu != 0 && value < 0", "value < 0", WRONG, "unusual"),
        ("pixels_behind_the_last", "if (tile.column0 + pixel < s.tiles.width) pixels =", "pixels =", BOUNDS, "naive"),
        (
            "no_values_behind_the_last",
            "round_up(s.tiles.columns, larger(s.load_vec, s.product.pixels))",
            "s.tiles.columns",
            UNINITIALISED,
            "many",
        ),
        (
            "vectors_where_x_is_not_aligned",
            "smaller(r.input_aligned, kVecBytes /",
            "smaller(16, kVecBytes /",
            MISALIGNED,
            "unusual_shifted",
        ),
        ("rows_of_the_first_part", "(tile.first_row) * channels", "(0 * tile.first_row) * channels", WRONG, "naive"),
        ("blocks_of_the_first_path", "block - s.tiles.first_block, r", "block, r", BOUNDS, "naive"),
    ),
    *_of(
        "resolution_gates",
        _barrier("means are complete"),
        _barrier("the gates' hidden values are complete"),
        _barrier("pooled values are complete"),
        _barrier("hidden values are complete"),
        (
            "no_padding",
            "pooled[i / pad * p.pooled_stride + channels + i % pad] = 0;",
            "(void)pad;",
            UNINITIALISED,
            "channels",
        ),
        ("factor_forgotten", "pooled[q * p.pooled_stride + source] *= factor;", "(void)factor;", WRONG),
        ("relu_forgotten", "sum += relu && value < 0 ? 0 : value;", "sum += value + 0 * relu;", WRONG),
        (
            "factor_of_another_image",
            "source_plane<scalar_t>(r, task.channel, image)",
            "source_plane<scalar_t>(r, task.channel, 0 * image)",
            WRONG,
            "images",
        ),
        ("area", "task.window.rows * task.window.columns;", "task.window.rows * task.window.rows;", WRONG),
        ("factors_stored_by_no_block", "(!p.storing && in_image == 0 && split == 0)", "false", WRONG, "positions"),
        ("outputs_of_the_first_split", "output0 = split * p.split_outputs", "output0 = 0 * split", RACE),
        ("last_positions_behind_the_edge", " && column_out < p.width", "", RACE, "overlapping"),
    ),
    *_of(
        "gated_depthwise",
        _barrier("every group's positions are complete"),
        _barrier("the input rows of every group are staged"),
        _barrier("the warps' sums are complete", "wide"),
        ("relu_forgotten", "value = relu && value < 0 ? 0 : value;", "(void)relu;", WRONG),
        (
            "factor_of_another_image",
            "(r.memory, p.params.batch, image);\n    const int last",
            "(r.memory, p.params.batch, 0);\n    const int last",
            WRONG,
            "images",
        ),
        ("positions_of_the_first_rows", "r.gate_height) - first_position) *", "r.gate_height)) *", BOUNDS, "wide"),
        ("sums_of_rounded_values", "sum += out[e];", "sum += to_acc(from_acc<scalar_t>(out[e]));", WRONG, "half"),
        ("no_zero_columns_in_the_halo", "row < rows + 2; row += lanes)", "row < rows; row += lanes)", UNINITIALISED),
        ("rows_below_the_last", "y >= 0 && y < r.height) pixels", "y >= 0) pixels", BOUNDS),
        ("sums_of_all_tiles_in_one_place", "channel * s.tiles + tile] = sum", "channel * s.tiles] = sum", RACE, "wide"),
        ("vectors_where_planes_are_not_aligned", " || s.vec > r.vec", "", MISALIGNED, "shifted"),
    ),
    *_of(
        "fuse_upward",
        _barrier("low positions are staged"),
        _barrier("their products are complete"),
        ("top_once", "2 * source.apply(top.v[e])", "source.apply(top.v[e])", WRONG),
        ("also_without_relu", "store(r.also, clipped)", "store(r.also, plain)", WRONG, "returned"),
        ("also_forgotten", "if (r.also.data != nullptr) store(r.also, clipped);", "", WRONG, "returned"),
        ("relu_forgotten", "r.relu ? clipped.v[e] : ", "", WRONG, "top"),
        (
            "rows_of_the_first_group",
            "const int row = first_row + row_in_group;",
            "const int row = 0 * first_row + row_in_group;",
            RACE,
        ),
        (
            "pixels_below_the_last",
            "if (y >= height || x >= width) continue;",
            "if (y >= 2 * height || x >= width) continue;",
            BOUNDS,
        ),
        ("factors_stored_by_all_blocks", "store = tile == 0 && group == 0;", "store = true;", RACE),
        ("factors_stored_by_no_block", "store = tile == 0 && group == 0;", "store = tile == 0 && group < 0;", WRONG),
        ("vectors_where_rows_do_not_allow", "|| top.width % phase.vec != 0", "", MISALIGNED),
    ),
    *_of(
        "fuse_upward",
        (
            "factors_in_memory_for_own",
            "if (own_factor >= 0) plane.factor",
            "if (own_factor > 1 << 30) plane.factor",
            WRONG,
        ),
        ("last_product_forgotten", "if (l >= count) break;", "if (l >= count - 1) break;", WRONG),
        (
            "window_of_exact_arithmetic",
            "nearest_position(tile * tile_size, positions, size)",
            "(tile * tile_size * positions + size - 1) / size",
            WRONG,
        ),
        header="cuda/plan_lower_products.cuh",
    ),
    *_of(
        "fuse_downward",
        _barrier("low positions are staged"),
        _barrier("filtered pixels and the products of low positions are complete"),
        (
            "chains_that_go_on_forgotten",
            "    p.groups += ceil_div(r.product[i].output.count, group_rows);",
            "    if (i == 0) p.groups += ceil_div(r.product[i].output.count, group_rows);",
            WRONG,
        ),
        ("kept_forgotten", "sum += kept.apply(kept_pixel);", "sum += 0 * kept.apply(kept_pixel);", WRONG),
        ("no_relu", "from_acc<scalar_t>(sum < 0 ? 0 : sum)", "from_acc<scalar_t>(sum)", WRONG),
        ("padding", "from_x >= 0 && from_x < width;", "from_x < width;", BOUNDS),
        (
            "source_as_it_is",
            "to_acc(weight[k]) * source[u].apply(in[u][k])",
            "to_acc(weight[k]) * to_acc(in[u][k])",
            WRONG,
        ),
        (
            "last_tile_row",
            "tiles_of(rows, columns) * phase.groups;\n  if (blocks > kMaxGrid) return",
            "(tiles_of(rows, columns) - phase.tiles.wide) * phase.groups;\n  if (blocks > kMaxGrid) return",
            WRONG,
        ),
    ),
    *_of(
        "head_convolution",
        _barrier("patches are complete"),
        _barrier("patches are free again"),
        _barrier("y is complete"),
        (
            "corners_not_aligned",
            "static_cast<float>(positions - 1) / static_cast<float>(size - 1)",
            "static_cast<float>(positions) / static_cast<float>(size)",
            WRONG,
        ),
        (
            "padding_is_the_edge",
            "patches[i] = inside[u] ? value : 0;",
            "patches[i] = inside[u] || true ? value : 0;",
            WRONG,
        ),
        ("filter_of_the_first_chunk", "(r.filter) + (first + channel) * 9", "(r.filter) + channel * 9", WRONG),
        ("no_relu", "values[e] = values[e] < 0 ? 0 : values[e];", "", WRONG),
        ("no_padding_of_y", "y[i / pad * p.final_stride + made + i % pad] = 0;", "(void)y;", UNINITIALISED, "unusual"),
        ("vectors_where_rows_do_not_allow", "|| width % phase.vec != 0 ", "", MISALIGNED, "unusual"),
    ),
    *_of(
        "stem_convolution",
        ("last_tile_row", "t.down = ceil_div(cut.height, t.rows);", "t.down = cut.height / t.rows;", WRONG),
        (
            "pixels_below_the_last",
            "row >= t.rows || y >= t.height || x >= t.width",
            "row >= t.rows || x >= t.width",
            BOUNDS,
        ),
        header="core/pixel_tiles.cuh",
    ),
    *_of(
        "pointwise_convolution",
        (
            "factor_before_the_relu",
            "(relu != 0 && value < 0 ? 0 : value) * factor",
            "relu != 0 && value * factor < 0 ? 0 : value * factor",
            WRONG,
            "unusual",
        ),
        (
            "vectors_where_y_is_not_aligned",
            "t.vec = smaller(aligned, kMaxProductPixels);",
            "t.vec = kMaxProductPixels + 0 * aligned;",
            MISALIGNED,
            "unusual_shifted",
        ),
        header="core/pixel_tiles.cuh",
    ),
    *_of(
        "pointwise_convolution",
        ("all_lanes", "row < rows && (r & (lanes - 1)) == lane", "row < rows", RACE, "unusual"),
        ("items_behind_the_last", "const bool live = first + own < items;", "const bool live = true;", RACE, "naive"),
        ("columns_behind_the_last", "if (kTileLoop || k < columns) product::load", "product::load", BOUNDS, "naive"),
        (
            "sums_of_half_the_lanes",
            "lanes_sum(sums[r][e], lanes)",
            "lanes_sum(sums[r][e], lanes / 2)",
            WRONG,
            "unusual",
        ),
        (
            "stride_of_panels",
            "(panel) * columns * kPanelRows",
            "(panel) * round_up(columns, 8) * kPanelRows",
            BOUNDS,
            "unusual",
        ),
        header="core/tile_product.cuh",
    ),
    *_of(
        "separable_convolution",
        (
            "rows_of_the_next_part",
            "tile.rows = smaller(t.part_rows, matrix_rows - tile.first_row);",
            "tile.rows = t.part_rows + 0 * matrix_rows;",
            BOUNDS,
        ),
        header="core/pixel_tiles.cuh",
    ),
    *_of(
        "gated_depthwise",
        (
            "place_without_batch",
            "static_cast<std::uint64_t>(buffer) * batch * 256",
            "static_cast<std::uint64_t>(buffer + 0 * batch) * 256",
            BOUNDS,
            "images",
        ),
        header="core/planes.h",
    ),
    *_of(
        "head_convolution",
        (
            "factor_before_the_relu",
            "return (relu && value < 0 ? 0 : value) * factor;",
            "return relu && value * factor < 0 ? 0 : value * factor;",
            WRONG,
            "unusual",
        ),
        header="core/planes.cuh",
    ),
    *_of(
        "fuse_downward",
        (
            "factor_of_another_image",
            "*source.factor.in<const acc_t<scalar_t>>(sources.memory, sources.batch, image)",
            "*source.factor.in<const acc_t<scalar_t>>(sources.memory, sources.batch, 0)",
            WRONG,
            "images",
        ),
        header="core/planes.cuh",
    ),
    *_of(
        "fuse_upward",
        _barrier("means are complete"),
        _barrier("hidden values are complete"),
        _barrier("factors are complete"),
        (
            "gates_side_by_side",
            "result.channels += round_up(gates[g].channels, kVectorPad);",
            "result.channels += gates[g].channels;",
            MISALIGNED,
            "channels",
        ),
        (
            "sums_of_another_image",
            "static_cast<std::int64_t>(image) * gate.channels + channel;",
            "0 * image + channel;",
            WRONG,
            "images",
        ),
        ("last_sum", "first + u < gate.tiles ? sums", "first + u + 1 < gate.tiles ? sums", WRONG),
        (
            "factors_of_another_image",
            "[static_cast<std::int64_t>(image) * gate.channels + output] = factor",
            "[0 * image + output] = factor",
            RACE,
            "images",
        ),
        header="core/pending_gate.cuh",
    ),
    *_in(
        "cuda/plan_program.cu",
        "FuseUpward",
        ("buffers_without_batch", "units * memory_.batch * 256", "units * 256", BOUNDS, "images"),
        (
            "alignment_of_the_arena",
            "reinterpret_cast<std::uintptr_t>(base) % (elements * size_) != 0",
            "false",
            MISALIGNED,
            "shifted",
        ),
        header="params/plan_reader.h",
    ),
    *_in(
        "cuda/plan_program.cu",
        "HeadConvolution",
        (
            "target_without_batch",
            "place.in<std::uint32_t>(base, memory_.batch, 0)",
            "place.in<std::uint32_t>(base, 1, 0)",
            BOUNDS,
            "images",
        ),
        header="params/plan_reader.h",
    ),
    *_in(
        "cuda/plan_program.cu",
        "GatedDepthwise",
        ("sums_of_one_tile", "* ceil_div(branch.height, larger(branch.rows_per_sum, 1))", "* 1", RACE, "wide"),
        header="params/plan_reader.h",
    ),
    *_in(
        "cuda/plan_persistent_float32.cu",
        "",
        (
            "barrier_of_the_grid",
            "grid.sync();  // the phase before",
            "(void)grid, __syncthreads();  // the phase before",
            RACE,
            "persistent",
        ),
        _barrier("the phase is staged", "persistent"),
        (
            "barrier_between_tiles",
            "__syncthreads();  // shared memory is free",
            "if (block + static_cast<int>(gridDim.x) >= blocks) __syncthreads();  // shared memory is free",
            RACE,
            "persistent",
        ),
        (
            "tiles_of_the_first_round",
            "block < blocks; block +=",
            "block < 1 + 0 * blocks; block +=",
            WRONG,
            "persistent",
        ),
        header="cuda/plan_persistent_kernel.cuh",
    ),
    *_in(
        "cuda/plan_persistent.cu",
        "",
        (
            "memory_of_the_last_phase",
            "larger(phases.shape.shared_bytes, shape.shared_bytes)",
            "shape.shared_bytes",
            BOUNDS,
            "persistent",
        ),
    ),
    *_in(
        "ops/run_plan.cpp",
        "",
        (
            "arena_of_one_image",
            "std::max<int64_t>(arena_bytes, 0) * images.size(0)",
            "std::max<int64_t>(arena_bytes, 0)",
            ADDRESS,
            "whole",
        ),
        ("last_step_forgotten", "outputs, 0, -1, persistent);", "outputs, 0, 64, persistent);", WRONG, "whole"),
    ),
    *_in(
        "ops/run_plan.cpp",
        "",
        ("outputs_turned", "shapes[i + 1], shapes[i + 2]};", "shapes[i + 2], shapes[i + 1]};", WRONG, "whole"),
        header="ops/plan_arguments.h",
    ),
]
