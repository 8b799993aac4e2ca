// depthwise_conv on the CPU: depthwise_conv_batch_norm with a norm that adds the bias.
#include "cpu/kernels/folded.h"
#include "cpu/kernels/op_targets.h"

namespace litehrnet::cpu::LITEHRNET_CPU_TARGET {
namespace {

template <class T>
DepthwiseConvBatchNormParams with_norms(const DepthwiseConvParams& params, Cutter& cutter) {
  int channels = 0;
  for (int b = 0; b < params.branches; ++b) channels = most(channels, params.branch[b].channels);
  FoldedWeights<T> weights(cutter, channels);
  DepthwiseConvBatchNormParams result{};
  result.branches = params.branches;
  result.batch = params.batch;
  for (int b = 0; b < params.branches; ++b) {
    const DepthwiseConvBranch& from = params.branch[b];
    DepthwiseConvBatchNormBranch& to = result.branch[b];
    to.x = from.x;
    to.x_image_stride = from.x_image_stride;
    to.x_plane_stride = from.x_plane_stride;
    to.weight = weights.widened(from.weight, 9 * from.channels);
    to.norm = weights.bias(from.bias, from.channels);
    to.filtered = to.y = from.y;  // the bias is added in place
    to.channels = from.channels;
    to.height = from.height;
    to.width = from.width;
  }
  return result;
}

}  // namespace

std::size_t depthwise_conv_scratch(const DepthwiseConvParams& params, DType dtype, int threads) {
  return visit_type(dtype, [&](auto element) {
    Cutter cutter(nullptr);
    const auto result = with_norms<decltype(element)>(params, cutter);
    return cutter.bytes() + depthwise_conv_batch_norm_scratch(result, dtype, threads);
  });
}

void depthwise_conv(const DepthwiseConvParams& params, DType dtype, const Team& team) {
  visit_type(dtype, [&](auto element) {
    Cutter cutter(team.scratch);
    const auto result = with_norms<decltype(element)>(params, cutter);
    depthwise_conv_batch_norm(result, dtype, behind(cutter, team));
  });
}

}  // namespace litehrnet::cpu::LITEHRNET_CPU_TARGET
