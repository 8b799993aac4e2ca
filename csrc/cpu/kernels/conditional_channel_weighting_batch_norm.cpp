// The conditional channel weighting block for training on the CPU, of its parts; the depthwise convolution applies the
// gates of cross-resolution weighting and sums what spatial weighting averages.
#include "cpu/kernels/training.h"
#include "cpu/kernels/op_targets.h"

namespace litehrnet::cpu::LITEHRNET_CPU_TARGET {
namespace {

using Params = ConditionalChannelWeightingBatchNormParams;

struct Parts {
  CrossResolutionWeightingBatchNormParams weighting{};
  DepthwiseConvBatchNormParams filtering{};
  SpatialWeightingParams gating{};
};

Parts parts_of(const Params& params, DType dtype, Cutter& cutter) {
  Parts l;
  l.weighting.w1 = params.w1;
  l.weighting.w2 = params.w2;
  l.weighting.norm1 = params.norm1;
  l.weighting.norm2 = params.norm2;
  l.weighting.hidden = params.hidden;
  l.weighting.logits = params.logits;
  l.weighting.hidden_channels = params.hidden_channels;
  l.weighting.branches = l.filtering.branches = l.gating.branches = params.branches;
  l.weighting.batch = l.filtering.batch = l.gating.batch = params.batch;
  l.weighting.eps = l.filtering.eps = l.gating.eps = params.eps;
  l.weighting.batch_statistics = l.filtering.batch_statistics = params.batch_statistics;
  l.gating.accumulate_weights = true;
  int gate_channel = 0;
  for (int b = 0; b < params.branches; ++b) {
    const ConditionalChannelWeightingBatchNormBranch& r = params.branch[b];
    const std::int64_t plane = static_cast<std::int64_t>(r.height) * r.width;
    const void* changed = static_cast<const unsigned char*>(r.x) +
                          r.channels * r.x_plane_stride * static_cast<std::int64_t>(element_size(dtype));

    CrossResolutionWeightingBatchNormBranch& first = l.weighting.branch[b];
    DepthwiseConvBatchNormBranch& second = l.filtering.branch[b];
    first.x = second.x = changed;
    first.x_image_stride = second.x_image_stride = r.x_image_stride;
    first.x_plane_stride = second.x_plane_stride = r.x_plane_stride;

    second.weight = r.depthwise_weight;
    second.norm = r.norm;
    second.filtered = r.filtered;
    second.plane_sums = cutter.cut<unsigned char>(static_cast<std::int64_t>(params.batch) * r.channels *
                                                   static_cast<std::int64_t>(accumulate_size(dtype)));
    second.gate_channel = gate_channel;
    gate_channel += r.channels;

    SpatialWeightingBranch& third = l.gating.branch[b];
    third.x = r.filtered;
    third.kept = r.x;
    third.out = r.out;
    third.partial_sums = second.plane_sums;
    third.tiles = 1;
    third.norm = r.norm;
    third.w1 = r.gate_w1;
    third.b1 = r.gate_b1;
    third.w2 = r.gate_w2;
    third.b2 = r.gate_b2;
    third.x_image_stride = r.channels * plane;
    third.x_plane_stride = plane;
    third.kept_image_stride = r.x_image_stride;
    third.kept_plane_stride = r.x_plane_stride;
    third.hidden = r.gate_hidden;

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
  return l;
}

}  // namespace

std::size_t conditional_channel_weighting_batch_norm_scratch(const Params& params, DType dtype, int threads) {
  Cutter cutter(nullptr);
  const Parts parts = parts_of(params, dtype, cutter);
  std::size_t bytes = cross_resolution_weighting_batch_norm_scratch(parts.weighting, dtype, threads);
  bytes = most_bytes(bytes, depthwise_conv_batch_norm_scratch(parts.filtering, dtype, threads));
  return cutter.bytes() + most_bytes(bytes, spatial_weighting_scratch(parts.gating, dtype, threads));
}

void conditional_channel_weighting_batch_norm(const Params& params, DType dtype, const Team& team) {
  Cutter cutter(team.scratch);
  const Parts parts = parts_of(params, dtype, cutter);
  const Team rest{team.pool, team.threads, static_cast<unsigned char*>(team.scratch) + cutter.bytes()};
  cross_resolution_weighting_batch_norm(parts.weighting, dtype, rest);
  depthwise_conv_batch_norm(parts.filtering, dtype, rest);
  spatial_weighting(parts.gating, dtype, rest);
}

}  // namespace litehrnet::cpu::LITEHRNET_CPU_TARGET
