"""Mistakes that somebody could make in the kernels and adapters for training, each as a small change of their text.

As `mutants`. They are put to the test through the ops, in a process of their own: `op_trials`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mutants import ADDRESS, BOUNDS, RACE, UNINITIALISED, WRONG, TriedMutant

BLOCK = "conditional_channel_weighting_batch_norm"

# The options of `op_trials` that reach what a mistake is in: 3 images unless more are said.
TRIALS: dict[str, list[str]] = {
    "odd": ["--sizes", "odd"],
    "padded": ["--sizes", "two_exact"],
    "overlapping": ["--sizes", "overlapping"],
    "large": ["--sizes", "large"],
    "channels": ["--sizes", "many_channels"],
    "images": ["--sizes", "two_exact", "--batch", "11"],  # several images of a plane for a group of lanes
    "positions": ["--sizes", "one_branch", "--batch", "89"],  # 4,272: blocks take turns
    "layouts": ["--sizes", "odd", "--layouts", "channels_last", "sliced_channels", "sliced_batch", "misaligned"],
    "expanded": ["--sizes", "odd", "--layouts", "expanded"],
    "half": ["--sizes", "odd", "--dtypes", "float16"],
}


@dataclass(frozen=True)
class TrainingMutant(TriedMutant):
    """A mutant that ``op``, the one of its file unless said otherwise, shows in one of `TRIALS`."""

    trial: str = "odd"
    op: str = ""

    @property
    def tried_op(self) -> str:
        return self.op or Path(self.file).stem.removesuffix("_backward")


def _of(
    file: str, *mistakes: tuple[str, str, str, str] | tuple[str, str, str, str, str], op: str = "", header: str = ""
) -> list[TrainingMutant]:
    """Mutants of one source, or of a header of it: name, before, after, cause, trial."""
    where = Path(header or file)
    prefix = f"adapter_{where.stem}" if where.parent.name == "ops" else where.stem
    return [
        TrainingMutant(f"{prefix}_{name}", file, before, after, cause, header, *trial, op=op)
        for name, before, after, cause, *trial in mistakes
    ]


_WEIGHTING = "cuda/cross_resolution_weighting_batch_norm.cu"
_WEIGHTING_BACKWARD = "cuda/cross_resolution_weighting_batch_norm_backward.cu"
_DEPTHWISE = "cuda/depthwise_conv_batch_norm.cu"
_DEPTHWISE_BACKWARD = "cuda/depthwise_conv_batch_norm_backward.cu"
_SPATIAL = "cuda/spatial_weighting.cu"
_SPATIAL_BACKWARD = "cuda/spatial_weighting_backward.cu"


def _barrier(comment: str, trial: str = "odd") -> tuple[str, str, str, str, str]:
    """A barrier that is missing, told by what the comment beside it says."""
    name = comment.replace(",", "").replace("'", "").replace(" ", "_")
    return f"barrier_{name}", f"__syncthreads();  // {comment}", f"// {comment}", RACE, trial


KERNEL_MUTANTS: list[TrainingMutant] = [
    *_of(
        _WEIGHTING,
        _barrier("pooled values are complete"),
        _barrier("hidden values are complete", "images"),
        _barrier("norms are complete"),
        _barrier("activations and weights are complete"),
        (
            "no_padding",
            "pooled[i / pad * p.pooled_stride + channels + i % pad] = 0;",
            "(void)pad;",
            UNINITIALISED,
            "padded",
        ),
        ("lanes_without_a_position_store", "if (live) out[", "out[", ADDRESS, "images"),
        (
            "count_of_a_part_of_a_tile",
            "smaller(p.tile, p.all_positions - position0)",
            "p.tile",
            WRONG,
            "images",
        ),
        ("one_tile_a_block", "tile < plan.tiles; tile += plan", "tile < plan.blocks; tile += plan", WRONG, "positions"),
        ("moments_of_the_last_tile", "= merge(moments[output], own);", "= own;", WRONG, "positions"),
        ("statistics_by_all_blocks", "if (blockIdx.x == 0) store", "store", RACE),
        ("reads_behind_the_last_position", "if (live && first + r < inputs)", "if (first + r < inputs)", ADDRESS),
        (
            "writes_behind_the_last_channel",
            "if (!live || own_channel0 + q >= p.channels)",
            "if (!live)",
            ADDRESS,
            "padded",
        ),
        ("no_relu", "lane] = value < 0 ? 0 : value;", "lane] = value;", WRONG),
        (
            "weights_of_the_last_turn",
            "p.rows && (tile > share || first > 0)) load",
            "p.rows && tile > share) load",
            WRONG,
            "channels",
        ),
        ("one_image", "image * r.x_image_stride + channel * r", "channel * r", WRONG),
        ("workspace_too_small", "* plan.shares * 3 * size", "* 3 * size", ADDRESS),
        ("positions_that_are_missing", "has_last ? p.missing : 0", "has_last ? 0 * p.missing : 0", WRONG, "images"),
        ("turns_of_the_first_blocks", "(part < p.last_turns))", "0 * (part < p.last_turns))", WRONG, "positions"),
    ),
    *_of(
        _WEIGHTING,
        ("statistics_by_all_tiles", "tile == 0 && threadIdx.x <", "threadIdx.x <", RACE, "overlapping"),
        ("gate_of_another_branch", "s.gate_channel + channel, vectors", "channel, vectors", RACE),
        ("behind_the_last_vector", "smaller(first + kOutputVectors, all)", "first + kOutputVectors + 0 * all", ADDRESS),
        header="cuda/cross_resolution_weighting_batch_norm_outputs.cuh",
    ),
    *_of(
        _WEIGHTING,
        ("biased_for_unbiased", "moments.squares / (moments.count - 1);", "moments.squares / moments.count;", WRONG),
        ("count_of_parts", "parts[part].count * deviation * deviation", "deviation * deviation", WRONG),
        header="core/batch_norm.cuh",
    ),
    *_of(
        _DEPTHWISE,
        ("squares_of_means", "b.squares + delta * delta * a.count * share", "b.squares", WRONG),
        header="core/batch_norm.cuh",
    ),
    *_of(
        _DEPTHWISE,
        ("last_part", "merge_parts(parts, gates.part_count,", "merge_parts(parts, gates.part_count - 1,", WRONG),
        header="core/gates.cuh",
        op=BLOCK,
    ),
    *_of(
        _WEIGHTING_BACKWARD,
        ("means_of_frozen", "if (!p.params.batch_statistics) return {norm.scale, 0, 0, 0};", "", WRONG),
        ("no_mean", "-share * sums.gradients};", "0 * share};", WRONG),
        ("slope", "-share * norm.inverse_deviation * sums", "-share * sums", WRONG),
        header="cuda/cross_resolution_weighting_batch_norm_backward_plan.cuh",
    ),
    *_of(
        _WEIGHTING_BACKWARD,
        _barrier("coefficients are complete"),
        _barrier("inputs are complete"),
        _barrier("inputs are no longer needed"),
        _barrier("sums are complete"),
        _barrier("sums are no longer needed", "positions"),
        _barrier("rows and columns are complete"),
        _barrier("rows and columns are no longer needed", "positions"),
        _barrier("the tile is complete"),
        (
            "behind_the_last_position",
            "if (flat < p.flat_positions)\n            values[item]",
            "values[item]",
            ADDRESS,
        ),
        ("last_part", "t < s.norm2_part_count", "t + 1 < s.norm2_part_count", WRONG),
        ("norm2_by_all_blocks", "(p, c, last_outputs && block == 0)", "(p, c, last_outputs)", RACE),
        ("relu_before_the_norm", "norm.apply(value) <= 0 ? 0 : sum", "value <= 0 ? 0 : sum", WRONG),
        ("part_of_the_last_tile", "part = first_tile ?", "part = first_tile || turn.last ?", WRONG, "positions"),
        (
            "gradients_summed_once",
            "if (!turn.first) sum += grad_norm",
            "if (turn.first && !turn.last) sum += grad_norm",
            WRONG,
            "channels",
        ),
        ("area", "window.rows * window.columns);", "window.rows * window.rows);", WRONG),
        ("activations_without_relu", "        value = value < 0 ? 0 : value;\n", "", WRONG),
        ("columns_behind_the_last", "if (r < hidden && c < channels) parts", "if (r < hidden) parts", RACE),
        header="cuda/cross_resolution_weighting_batch_norm_backward_positions.cuh",
    ),
    *_of(
        _WEIGHTING_BACKWARD,
        ("slope_of_the_sigmoid", "product * gate * (1 - gate)", "product * gate", WRONG),
        ("not_centred", "gradient * (logit - norm.mean)", "gradient * logit", WRONG),
        ("one_position_of_overlapping", "sum += grad_pooled[", "sum = grad_pooled[", WRONG, "overlapping"),
        ("planes_behind_the_last", "plane < p.params.batch * r.channels && ", "", ADDRESS),
        ("pixels_behind_the_last", " && piece < s.pieces_per_plane", "", RACE, "large"),
        header="cuda/cross_resolution_weighting_batch_norm_backward_windows.cuh",
    ),
    *_of(
        _WEIGHTING_BACKWARD,
        (
            "workspace_too_small",
            "w2_parts = workspace.reserve(matrix * plan.splits)",
            "w2_parts = workspace.reserve(matrix)",
            ADDRESS,
        ),
        (
            "last_split",
            "{plan.w2_parts, params.grad_w2, count, plan.splits}",
            "{plan.w2_parts, params.grad_w2, count, plan.splits - 1}",
            WRONG,
        ),
    ),
    *_of(
        _DEPTHWISE,
        _barrier("the gates of every group"),
        op=BLOCK,
    ),
    *_of(
        _DEPTHWISE,
        ("statistics_of_gates_by_all_images", "store = image == 0 && t.tile", "store = t.tile", RACE),
        ("means_for_sums", "plane.mean * plane.count", "plane.mean", WRONG),
        op=BLOCK,
    ),
    *_of(
        _DEPTHWISE,
        _barrier("the input rows of every group"),
        _barrier("the warps' moments", "large"),
        ("no_zero_columns_in_the_halo", "row < t.rows + 2; row +=", "row < t.rows; row +=", UNINITIALISED),
        ("last_tile", "image < batch && tile < s.tiles", "image < batch && tile + 1 < s.tiles", WRONG),
        ("another_norm", "t.unit % r.channels", "t.unit / r.channels", WRONG),
        (
            "workspace_too_small",
            "3 * accumulate_size(dtype) * params.batch",
            "2 * accumulate_size(dtype) * params.batch",
            ADDRESS,
        ),
    ),
    *_of(
        _DEPTHWISE,
        ("no_room_for_gates_of_the_halo", "row + s.rows - 1 + halo, height", "row + s.rows - 1, height", RACE, "large"),
        header="core/row_tiles.cuh",
        op=BLOCK,
    ),
    *_of(
        _DEPTHWISE,
        (
            "units_behind_the_last",
            "unit < units ? smaller(s.rows, height - t.row0) : 0",
            "smaller(s.rows, height - t.row0)",
            RACE,
        ),
        ("last_tile_too_high", "smaller(s.rows, height - t.row0)", "s.rows + 0 * height", ADDRESS, "large"),
        header="core/row_tiles.cuh",
    ),
    *_of(
        _DEPTHWISE_BACKWARD,
        _barrier("grad filtered and gates of every group"),
        ("barrier_between_images", "if (i + 1 < s.images) __syncthreads();", "", RACE, "images"),
        _barrier("the warps' sums are complete", "large"),
        ("no_zero_columns_in_the_halo", "= staged[row * stride + kVec + width] = 0;", "= 0;", UNINITIALISED),
        ("images_behind_the_last", "v < items && live; v", "v < items && (live || true); v", WRONG, "images"),
        ("filter_not_flipped", "kTaps - 1 - (ky * 3 + kx)", "ky * 3 + kx", WRONG),
        ("mean_for_offset", "k3 = k[3];", "k3 = k[2];", WRONG),
        (
            "parts_of_all_tiles_in_one_place",
            "* s.tiles + t.tile) * r.channels",
            "* s.tiles) * r.channels",
            RACE,
            "large",
        ),
        (
            "workspace_too_small",
            "(sums * accumulate_size(dtype), kVecBytes)",
            "(sums * accumulate_size(dtype) / 4, kVecBytes)",
            ADDRESS,
        ),
    ),
    *_of(
        _DEPTHWISE_BACKWARD,
        ("weights_of_what_was_not_weighted", "input[e] *= gate_row[", "input[e] += 0 * gate_row[", WRONG),
        op=BLOCK,
    ),
    *_of(
        _DEPTHWISE_BACKWARD,
        ("parts_behind_the_last", "first + u < r.part_count ? parts", "first + u <= r.part_count ? parts", WRONG),
        ("blocks_of_the_first_item", "    block -= blocks;\n", "", WRONG),
        (
            "results_behind_the_last",
            "smaller(r.count, (block + 1) * kReductionResults)",
            "(block + 1) * kReductionResults",
            ADDRESS,
        ),
        header="core/reduction.cuh",
    ),
    *_of(
        _SPATIAL,
        ("bias_without_its_gate", "= norm.bias * factor;", "= norm.bias;", WRONG),
        ("room_for_gates_alone", "(training ? 3 : 1) * s", "1 * s", BOUNDS),
        op=BLOCK,
    ),
    *_of(
        _SPATIAL_BACKWARD,
        _barrier("means are complete"),
        _barrier("hidden values are complete"),
        _barrier("gradients of logits are complete"),
        _barrier("shares are complete"),
        _barrier("shares are read, and"),
        _barrier("the warps' shares are complete"),
        _barrier("the warps' shares are read", "channels"),
        (
            "no_padding",
            "i < round_up(r.channels, kVectorPad); i += kThreads) mean",
            "false; i += kThreads) mean",
            UNINITIALISED,
            "padded",
        ),
        ("product_without_bias", "weight * total[1] + bias * total[0];", "weight * total[1];", WRONG),
        ("no_relu", "= hidden[column] <= 0 ? 0 : sum;", "= sum;", WRONG),
        ("bias_without_means", "plane.gate * plane.grad_sum + plane.grad_mean;", "plane.gate * plane.grad_sum;", WRONG),
        ("no_mean", "rest = -scale * (grad_bias / values);", "", WRONG),
        ("means_of_frozen", "if (p.params.batch_statistics) {", "if (true) {", WRONG),
        ("sum_for_mean", "scale * (grad_mean / pixels) + rest", "scale * grad_mean + rest", WRONG),
        ("bias_by_all_channels", "if (warp == 1 && channel == 0)", "if (warp == 1)", RACE),
        header="cuda/spatial_weighting_backward_gates.cuh",
        op=BLOCK,
    ),
    *_of(
        _SPATIAL_BACKWARD,
        (
            "chunk_not_cut",
            "smaller((chunk + 1) * s.chunk_size, r.height * r.width)",
            "(chunk + 1) * s.chunk_size",
            RACE,
            "large",
        ),
        ("even_planes", "s.grad_first = r.grad_kept != nullptr ? 1 : 0;", "s.grad_first = 0;", WRONG),
        ("workspace_of_one_chunk", "planes * s.chunks * kSums", "planes * kSums", RACE, "large"),
        op=BLOCK,
    ),
    *_of(
        _SPATIAL_BACKWARD,
        ("offset", "k1 * centred + k3", "k1 * centred - k3", WRONG),
        op="spatial_weighting",
    ),
    *_of(
        "cuda/update_running_statistics.cu",
        ("biased_variance", "statistics[2 * plan.columns]", "statistics[plan.columns]", WRONG),
        ("count_by_all_threads", "if (channel == 0 && norm", "if (norm", RACE),
        ("behind_the_last_channel", "channel >= norm.channels", "channel > norm.channels", ADDRESS),
    ),
    *_of(
        "cuda/conditional_channel_weighting_batch_norm.cu",
        ("weights_the_first_half", "r.channels * r.x_plane_stride * static", "0 * static", WRONG),
        ("no_norm", "    third.norm = r.norm;\n", "", WRONG),
        ("gates_of_the_first_branch", "second.gate_channel = gate_channel;", "second.gate_channel = 0;", RACE),
        (
            "sums_of_one_image",
            "reserve(params.batch * static_cast<std::size_t>(r.channels)",
            "reserve(static_cast<std::size_t>(r.channels)",
            RACE,
            "channels",
        ),
    ),
    *_of(
        "cuda/conditional_channel_weighting_batch_norm_backward.cu",
        ("sums_forgotten", "l.weighting.aside = depthwise", "depthwise", WRONG),
        ("even_planes", "+ r.grad_out_plane_stride * size;", "+ 0 * size;", WRONG),
        ("another_norm", "gates.norm = params.norm2;", "gates.norm = params.norm1;", ADDRESS),
        (
            "workspace_too_small",
            "workspace.reserve(depthwise_conv_batch_norm_backward_workspace_bytes(l.filtering, dtype));",
            "workspace.reserve(256);",
            WRONG,
        ),
    ),
]

# Of what stands between torch and the kernels.
_BLOCK_ADAPTER = "ops/conditional_channel_weighting_batch_norm.cpp"
ADAPTER_MUTANTS: list[TrainingMutant] = [
    *_of(
        _BLOCK_ADAPTER,
        ("variance_of_another_row", "base + (total_ + column) * size", "base + (2 * total_ + column) * size", WRONG),
        ("statistics_of_the_first_norm", "column += channels_[i];", "column += 0 * channels_[i];", RACE),
        header="ops/batch_norms.h",
    ),
    *_of(
        _BLOCK_ADAPTER,
        (
            "lets_go_of_copies",
            "held.push_back(std::move(tensor));\n    return held.back()",
            "(void)held;\n    return tensor",
            ADDRESS,
            "layouts",
        ),
        ("plane_stride", "branch.x_plane_stride = input.stride(1);", "branch.x_plane_stride = input.stride(2);", WRONG),
        header="ops/conditional_channel_weighting_batch_norm.h",
    ),
    *_of(
        "ops/conditional_channel_weighting_batch_norm_backward.cpp",
        (
            "strides_of_x",
            "branch.grad_out_image_stride = grad.stride(0);",
            "branch.grad_out_image_stride = x[i].stride(0);",
            WRONG,
            "expanded",
        ),
        ("missing_contiguous", "with_contiguous_planes(grad_y[i])", "grad_y[i]", WRONG, "layouts"),
        ("another_memory_format", "in_format_of(results[i], x[i])", "results[i]", "another memory format", "layouts"),
        ("workspace_too_small", "workspace_bytes(params, dtype));", "workspace_bytes(params, dtype) - 256);", ADDRESS),
    ),
    *_of(
        "ops/cross_resolution_weighting_batch_norm_backward.cpp",
        (
            "plane_stride_of_x",
            "branch.grad_y_plane_stride = grad.stride(1);",
            "branch.grad_y_plane_stride = input.stride(1);",
            WRONG,
            "expanded",
        ),
    ),
    *_of(
        "ops/depthwise_conv_batch_norm_backward.cpp",
        (
            "image_stride_of_x",
            "filter.grad_y_image_stride = grad.stride(0)",
            "filter.grad_y_image_stride = input.stride(0)",
            ADDRESS,
            "layouts",
        ),
    ),
    *_of(
        "ops/spatial_weighting.cpp",  # the first one that includes the header: of all copies the linker takes its
        ("weights_not_widened", "if (accumulate) type_", "if (accumulate && x.empty()) type_", ADDRESS, "half"),
        header="ops/gate_weights.h",
    ),
    *_of(
        "ops/update_running_statistics.cpp",
        (
            "means_for_variances",
            'norm.variance = written(indexed("running_var", i), running_var[i]',
            'norm.variance = written(indexed("running_var", i), running_mean[i]',
            WRONG,
        ),
    ),
]
