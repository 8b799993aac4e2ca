#include "core/workspace.h"
#include "cuda/conditional_channel_weighting.h"
#include "cuda/cross_resolution_weighting.h"
#include "cuda/depthwise_conv.h"
#include "cuda/spatial_weighting.h"

namespace litehrnet {
namespace {

// What one launch leaves for the next.
struct Intermediates {
  void* filtered[kMaxBranches];
  void* partial_sums[kMaxBranches];
  int tiles[kMaxBranches];
  std::size_t bytes;  // of all
};

Intermediates lay_out(const ConditionalChannelWeightingParams& params, DType dtype) {
  Intermediates w{};
  Workspace workspace(params.workspace);
  for (int b = 0; b < params.branches; ++b) {
    const ConditionalChannelWeightingBranch& r = params.branch[b];
    const std::size_t planes = static_cast<std::size_t>(params.batch) * r.channels;
    w.tiles[b] = depthwise_conv_tiles(params.batch, r.height, r.width);
    w.filtered[b] = workspace.reserve(planes * r.height * r.width * element_size(dtype));
    w.partial_sums[b] = workspace.reserve(planes * w.tiles[b] * accumulate_size(dtype));
  }
  w.bytes = workspace.bytes();
  return w;
}

bool has_valid_sizes(const ConditionalChannelWeightingParams& params) {
  if (params.branches < 1 || params.branches > kMaxBranches || params.batch < 0) return false;
  for (int b = 0; b < params.branches; ++b) {
    const ConditionalChannelWeightingBranch& r = params.branch[b];
    if (r.channels < 1 || r.height < 1 || r.width < 1) return false;
  }
  return true;
}

}  // namespace

std::size_t conditional_channel_weighting_workspace_bytes(const ConditionalChannelWeightingParams& params,
                                                          DType dtype) {
  return has_valid_sizes(params) ? lay_out(params, dtype).bytes : 0;
}

cudaError_t launch_conditional_channel_weighting_forward(const ConditionalChannelWeightingParams& params, DType dtype,
                                                         cudaStream_t stream) {
  if (!has_valid_sizes(params)) return cudaErrorInvalidValue;
  if (params.batch == 0) return cudaSuccess;
  const Intermediates intermediates = lay_out(params, dtype);

  CrossResolutionWeightingParams weighting{};
  DepthwiseConvParams filtering{};
  SpatialWeightingParams gating{};
  weighting.w1 = params.w1;
  weighting.b1 = params.b1;
  weighting.w2_transposed = params.w2_transposed;
  weighting.b2 = params.b2;
  weighting.hidden = params.hidden;
  weighting.branches = filtering.branches = gating.branches = params.branches;
  weighting.batch = filtering.batch = gating.batch = params.batch;
  for (int b = 0; b < params.branches; ++b) {
    const ConditionalChannelWeightingBranch& r = params.branch[b];
    const std::int64_t plane = static_cast<std::int64_t>(r.height) * r.width;
    const void* changed = static_cast<const unsigned char*>(r.x) +
                          r.channels * r.x_plane_stride * static_cast<std::int64_t>(element_size(dtype));

    CrossResolutionWeightingBranch& first = weighting.branch[b];
    first.x = changed;
    first.y = r.out;  // the first half of its memory, contiguous
    first.x_image_stride = r.x_image_stride;
    first.x_plane_stride = r.x_plane_stride;
    first.y_image_stride = r.channels * plane;
    first.y_plane_stride = plane;

    DepthwiseConvBranch& second = filtering.branch[b];
    second.x = r.out;
    second.weight = r.depthwise_weight;
    second.bias = r.depthwise_bias;
    second.y = intermediates.filtered[b];
    second.partial_sums = intermediates.partial_sums[b];
    second.x_image_stride = r.channels * plane;
    second.x_plane_stride = plane;

    SpatialWeightingBranch& third = gating.branch[b];
    third.x = second.y;
    third.kept = r.x;
    third.out = r.out;
    third.partial_sums = second.partial_sums;
    third.w1 = r.gate_w1;
    third.b1 = r.gate_b1;
    third.w2 = r.gate_w2;
    third.b2 = r.gate_b2;
    third.x_image_stride = r.channels * plane;
    third.x_plane_stride = plane;
    third.kept_image_stride = r.x_image_stride;
    third.kept_plane_stride = r.x_plane_stride;
    third.hidden = r.gate_hidden;
    third.tiles = intermediates.tiles[b];

    first.channels = second.channels = third.channels = r.channels;
    first.height = second.height = third.height = r.height;
    first.width = second.width = third.width = r.width;
  }
  cudaError_t error = launch_cross_resolution_weighting_forward(weighting, dtype, stream);
  if (error == cudaSuccess) error = launch_depthwise_conv_forward(filtering, dtype, stream);
  if (error == cudaSuccess) error = launch_spatial_weighting_forward(gating, dtype, stream);
  return error;
}

}  // namespace litehrnet
