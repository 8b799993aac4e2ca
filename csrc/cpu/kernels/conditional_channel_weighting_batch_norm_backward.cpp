// Backward pass of the conditional channel weighting block on the CPU, of its parts; that of the depthwise convolution
// leaves coefficients of its gradient unapplied until it reads the maps itself, and has the window sums that the gates'
// backward pass begins with.
#include "cpu/kernels/training.h"
#include "cpu/kernels/op_targets.h"

namespace litehrnet::cpu::LITEHRNET_CPU_TARGET {
namespace {

using Params = ConditionalChannelWeightingBatchNormBackwardParams;

struct Parts {
  SpatialWeightingBackwardParams gating{};
  DepthwiseConvBatchNormBackwardParams filtering{};
  CrossResolutionWeightingBatchNormBackwardParams weighting{};
  PositionSums sums{};
};

Parts parts_of(const Params& params, DType dtype, Cutter& cutter) {
  Parts l;
  const auto numbers = [&](std::int64_t count) {
    return cutter.cut<unsigned char>(count * static_cast<std::int64_t>(accumulate_size(dtype)));
  };
  const auto size = static_cast<std::int64_t>(element_size(dtype));
  l.weighting.w1 = params.w1;
  l.weighting.w2 = params.w2;
  l.weighting.norm1 = params.norm1;
  l.weighting.norm2 = params.norm2;
  l.weighting.hidden = params.hidden;
  l.weighting.logits = params.logits;
  l.weighting.grad_w1 = params.grad_w1;
  l.weighting.grad_w2 = params.grad_w2;
  l.weighting.grad_norm1_weight = params.grad_norm1_weight;
  l.weighting.grad_norm1_bias = params.grad_norm1_bias;
  l.weighting.grad_norm2_weight = params.grad_norm2_weight;
  l.weighting.grad_norm2_bias = params.grad_norm2_bias;
  l.weighting.hidden_channels = params.hidden_channels;
  l.weighting.branches = l.filtering.branches = l.gating.branches = params.branches;
  l.weighting.batch = l.filtering.batch = l.gating.batch = params.batch;
  l.weighting.eps = l.gating.eps = params.eps;
  l.weighting.batch_statistics = l.gating.batch_statistics = params.batch_statistics;
  int gate_channel = 0;
  for (int b = 0; b < params.branches; ++b) {
    const ConditionalChannelWeightingBatchNormBackwardBranch& r = params.branch[b];
    const std::int64_t plane = static_cast<std::int64_t>(r.height) * r.width, image = 2 * r.channels * plane;
    const auto* changed = static_cast<const unsigned char*>(r.x) + r.channels * r.x_plane_stride * size;
    auto* grad_changed = static_cast<unsigned char*>(r.grad_x) + r.channels * plane * size;

    SpatialWeightingBackwardBranch& first = l.gating.branch[b];
    first.grad_output = r.grad_out;
    first.grad_output_image_stride = r.grad_out_image_stride;
    first.grad_output_plane_stride = r.grad_out_plane_stride;
    first.x = r.filtered;
    first.x_image_stride = r.channels * plane;
    first.x_plane_stride = plane;
    first.grad_kept = r.grad_x;
    first.grad_kept_image_stride = image;
    first.grad_kept_plane_stride = plane;
    first.coefficients = numbers(static_cast<std::int64_t>(params.batch) * r.channels * kCoefficients);
    first.norm = r.norm;
    first.grad_norm_weight = r.grad_norm_weight;
    first.grad_norm_bias = r.grad_norm_bias;
    first.w1 = r.gate_w1;
    first.b1 = r.gate_b1;
    first.w2 = r.gate_w2;
    first.b2 = r.gate_b2;
    first.grad_w1 = r.grad_gate_w1;
    first.grad_b1 = r.grad_gate_b1;
    first.grad_w2 = r.grad_gate_w2;
    first.grad_b2 = r.grad_gate_b2;
    first.hidden = r.gate_hidden;

    DepthwiseConvBatchNormBackwardBranch& second = l.filtering.branch[b];
    second.grad_y = static_cast<const unsigned char*>(r.grad_out) + r.grad_out_plane_stride * size;  // the odd planes
    second.grad_y_image_stride = r.grad_out_image_stride;
    second.grad_y_plane_stride = 2 * r.grad_out_plane_stride;
    second.filtered = r.filtered;
    second.coefficients = first.coefficients;
    second.weight = r.depthwise_weight;
    second.grad_weight = r.grad_depthwise_weight;
    second.gate_channel = gate_channel;
    gate_channel += r.channels;

    CrossResolutionWeightingBatchNormBackwardBranch& third = l.weighting.branch[b];
    second.x = third.x = changed;
    second.x_image_stride = third.x_image_stride = r.x_image_stride;
    second.x_plane_stride = third.x_plane_stride = r.x_plane_stride;
    second.grad_x = third.grad_x = grad_changed;
    third.grad_y = grad_changed;
    second.grad_x_image_stride = third.grad_x_image_stride = third.grad_y_image_stride = image;
    second.grad_x_plane_stride = third.grad_x_plane_stride = third.grad_y_plane_stride = plane;

    first.channels = second.channels = third.channels = r.channels;
    first.height = second.height = third.height = r.height;
    first.width = second.width = third.width = r.width;
  }
  PositionGates& gates = l.filtering.gates;
  gates.logits = params.logits;
  gates.norm = params.norm2;
  gates.eps = params.eps;
  gates.channels = gate_channel;
  gates.height = params.branch[params.branches - 1].height;
  gates.width = params.branch[params.branches - 1].width;

  const std::int64_t positions = static_cast<std::int64_t>(params.batch) * gates.channels * gates.height * gates.width;
  l.sums.grad_gates = numbers(positions);
  l.sums.pooled = numbers(positions);
  return l;
}

}  // namespace

std::size_t conditional_channel_weighting_batch_norm_backward_scratch(const Params& params, DType dtype, int threads) {
  Cutter cutter(nullptr);
  const Parts parts = parts_of(params, dtype, cutter);
  std::size_t bytes = spatial_weighting_backward_scratch(parts.gating, dtype, threads);
  bytes = most_bytes(bytes, depthwise_conv_batch_norm_backward_scratch(parts.filtering, dtype, threads));
  return cutter.bytes() +
         most_bytes(bytes, cross_resolution_weighting_batch_norm_backward_scratch(parts.weighting, dtype, threads));
}

void conditional_channel_weighting_batch_norm_backward(const Params& params, DType dtype, const Team& team) {
  Cutter cutter(team.scratch);
  const Parts parts = parts_of(params, dtype, cutter);
  const Team rest{team.pool, team.threads, static_cast<unsigned char*>(team.scratch) + cutter.bytes()};
  spatial_weighting_backward(parts.gating, dtype, rest);
  depthwise_conv_batch_norm_backward(parts.filtering, dtype, rest, parts.sums);
  cross_resolution_weighting_batch_norm_backward(parts.weighting, dtype, rest, parts.sums);
}

}  // namespace litehrnet::cpu::LITEHRNET_CPU_TARGET
