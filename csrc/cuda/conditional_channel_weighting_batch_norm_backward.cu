// conditional_channel_weighting_batch_norm_backward: the block's backward pass, in eight launches of its parts' kernels.
//
//   1, 2, 3  spatial weighting and the batch norm before it     4  depthwise convolution     5-8  cross-resolution
//   weighting, in place on what 4 leaves in grad_x, and the sums of 4's parts
//
// Traffic  (of the maps) reads grad_out twice and filtered twice, to sum their products and to pass them through the
//          batch norm and the convolution; changed twice, for the weights' gradient and for the gates'; the gradient of
//          the weighted half, which lies in grad_x meanwhile, is written once, read twice and overwritten. Each barrier
//          is a sum over the whole batch.
#include "core/workspace.h"
#include "cuda/conditional_channel_weighting_batch_norm_backward.h"
#include "cuda/cross_resolution_weighting_batch_norm_backward.h"
#include "cuda/depthwise_conv_batch_norm_backward.h"
#include "cuda/spatial_weighting_backward.h"

namespace litehrnet {
namespace {

struct Launches {
  SpatialWeightingBackwardParams gating{};
  DepthwiseConvBatchNormBackwardParams filtering{};
  CrossResolutionWeightingBatchNormBackwardParams weighting{};
  std::size_t workspace_bytes;
};

bool has_valid_sizes(const ConditionalChannelWeightingBatchNormBackwardParams& params) {
  if (params.branches < 1 || params.branches > kMaxBranches || params.batch < 1 || params.hidden_channels < 1)
    return false;
  for (int b = 0; b < params.branches; ++b) {
    const ConditionalChannelWeightingBatchNormBackwardBranch& r = params.branch[b];
    if (r.channels < 1 || r.gate_hidden < 1 || r.height < 1 || r.width < 1) return false;
  }
  return true;
}

// The parameters of the parts. Without a workspace only sizes are right.
Launches plan_launches(const ConditionalChannelWeightingBatchNormBackwardParams& params, DType dtype) {
  Launches l;
  Workspace workspace(params.workspace);
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
    first.coefficients = workspace.reserve(static_cast<std::size_t>(params.batch) * r.channels * kCoefficients *
                                           accumulate_size(dtype));
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

  l.gating.workspace = workspace.reserve(spatial_weighting_backward_workspace_bytes(l.gating, dtype));
  l.filtering.workspace = workspace.reserve(depthwise_conv_batch_norm_backward_workspace_bytes(l.filtering, dtype));
  l.weighting.aside = depthwise_conv_batch_norm_backward_reductions(l.filtering, dtype);
  l.weighting.workspace =
      workspace.reserve(cross_resolution_weighting_batch_norm_backward_workspace_bytes(l.weighting, dtype));
  l.workspace_bytes = workspace.bytes();
  return l;
}

}  // namespace

std::size_t conditional_channel_weighting_batch_norm_backward_workspace_bytes(
    const ConditionalChannelWeightingBatchNormBackwardParams& params, DType dtype) {
  return has_valid_sizes(params) ? plan_launches(params, dtype).workspace_bytes : 0;
}

cudaError_t launch_conditional_channel_weighting_batch_norm_backward(
    const ConditionalChannelWeightingBatchNormBackwardParams& params, DType dtype, cudaStream_t stream) {
  if (!has_valid_sizes(params)) return cudaErrorInvalidValue;
  const Launches l = plan_launches(params, dtype);
  cudaError_t error = launch_spatial_weighting_backward(l.gating, dtype, stream);
  if (error == cudaSuccess) error = launch_depthwise_conv_batch_norm_backward(l.filtering, dtype, stream);
  if (error == cudaSuccess) error = launch_cross_resolution_weighting_batch_norm_backward(l.weighting, dtype, stream);
  return error;
}

}  // namespace litehrnet
