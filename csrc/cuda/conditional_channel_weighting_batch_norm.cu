// conditional_channel_weighting_batch_norm: the block in training, in five launches of the kernels of its parts.
//
// Kept for the backward pass: hidden and logits, at the lowest resolution, and filtered, half the size of x. Everything
// else of the backward pass follows from those, x and the statistics: pooled maps, gates and weighted maps are computed
// again as they are needed.
// Traffic  (of the maps) reads changed twice, to pool it and to filter it, kept once, filtered once; writes filtered and
//          out. Batch statistics are a barrier over the whole batch, so less is not to be had with launches: nothing
//          can be filtered before all is pooled, nothing normalised before all is filtered.
#include "core/workspace.h"
#include "cuda/conditional_channel_weighting_batch_norm.h"
#include "cuda/cross_resolution_weighting_batch_norm.h"
#include "cuda/depthwise_conv_batch_norm.h"
#include "cuda/spatial_weighting.h"

namespace litehrnet {
namespace {

struct Launches {
  CrossResolutionWeightingBatchNormParams weighting{};
  DepthwiseConvBatchNormParams filtering{};
  SpatialWeightingParams gating{};
  std::size_t workspace_bytes;
};

bool has_valid_sizes(const ConditionalChannelWeightingBatchNormParams& params) {
  if (params.branches < 1 || params.branches > kMaxBranches || params.batch < 0 || params.hidden_channels < 1)
    return false;
  for (int b = 0; b < params.branches; ++b) {
    const ConditionalChannelWeightingBatchNormBranch& r = params.branch[b];
    if (r.channels < 1 || r.gate_hidden < 1 || r.height < 1 || r.width < 1) return false;
  }
  return true;
}

// The parameters of the parts. Without a workspace only sizes are right.
Launches plan_launches(const ConditionalChannelWeightingBatchNormParams& params, DType dtype) {
  Launches l;
  Workspace workspace(params.workspace);
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
    second.plane_sums = workspace.reserve(params.batch * static_cast<std::size_t>(r.channels) * accumulate_size(dtype));
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
  l.weighting.workspace =
      workspace.reserve(cross_resolution_weighting_batch_norm_workspace_bytes(l.weighting, dtype));
  l.filtering.gates = cross_resolution_weighting_batch_norm_gates(l.weighting, dtype);
  l.filtering.workspace = workspace.reserve(depthwise_conv_batch_norm_workspace_bytes(l.filtering, dtype));
  l.workspace_bytes = workspace.bytes();
  return l;
}

}  // namespace

std::size_t conditional_channel_weighting_batch_norm_workspace_bytes(
    const ConditionalChannelWeightingBatchNormParams& params, DType dtype) {
  return has_valid_sizes(params) ? plan_launches(params, dtype).workspace_bytes : 0;
}

cudaError_t launch_conditional_channel_weighting_batch_norm_forward(
    const ConditionalChannelWeightingBatchNormParams& params, DType dtype, cudaStream_t stream) {
  if (!has_valid_sizes(params)) return cudaErrorInvalidValue;
  if (params.batch == 0) return cudaSuccess;
  const Launches l = plan_launches(params, dtype);
  cudaError_t error = launch_cross_resolution_weighting_batch_norm_forward(l.weighting, dtype, stream);
  if (error == cudaSuccess) error = launch_depthwise_conv_batch_norm_forward(l.filtering, dtype, stream);
  if (error == cudaSuccess) error = launch_spatial_weighting_forward(l.gating, dtype, stream);
  return error;
}

}  // namespace litehrnet
