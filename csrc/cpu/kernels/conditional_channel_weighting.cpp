// conditional_channel_weighting on the CPU: conditional_channel_weighting_batch_norm with norms that add the biases.
#include "cpu/kernels/folded.h"
#include "cpu/kernels/op_targets.h"

namespace litehrnet::cpu::LITEHRNET_CPU_TARGET {
namespace {

template <class T>
ConditionalChannelWeightingBatchNormParams with_norms(const ConditionalChannelWeightingParams& params, Cutter& cutter) {
  ConditionalChannelWeightingBatchNormParams result{};
  result.branches = params.branches;
  result.batch = params.batch;
  result.hidden_channels = params.hidden;
  int channels = 0;
  for (int b = 0; b < params.branches; ++b) channels += params.branch[b].channels;
  FoldedWeights<T> weights(cutter, most(channels, params.hidden));
  result.w1 = weights.widened(params.w1, static_cast<std::int64_t>(params.hidden) * channels);
  result.w2 = weights.transposed(params.w2_transposed, params.hidden, channels);
  result.norm1 = weights.bias(params.b1, params.hidden);
  result.norm2 = weights.bias(params.b2, channels);
  for (int b = 0; b < params.branches; ++b) {
    const ConditionalChannelWeightingBranch& from = params.branch[b];
    ConditionalChannelWeightingBatchNormBranch& to = result.branch[b];
    const std::int64_t pixels = static_cast<std::int64_t>(params.batch) * from.height * from.width;
    const int gate_weights = from.channels * from.gate_hidden;
    to.x = from.x;
    to.x_image_stride = from.x_image_stride;
    to.x_plane_stride = from.x_plane_stride;
    to.out = from.out;
    to.filtered = cutter.cut<T>(pixels * from.channels);
    to.depthwise_weight = weights.widened(from.depthwise_weight, 9 * from.channels);
    to.norm = weights.bias(from.depthwise_bias, from.channels);
    to.gate_w1 = weights.widened(from.gate_w1, gate_weights);
    to.gate_b1 = weights.widened(from.gate_b1, from.gate_hidden);
    to.gate_w2 = weights.widened(from.gate_w2, gate_weights);
    to.gate_b2 = weights.widened(from.gate_b2, from.channels);
    to.channels = from.channels;
    to.gate_hidden = from.gate_hidden;
    to.height = from.height;
    to.width = from.width;
  }
  const ConditionalChannelWeightingBranch& last = params.branch[params.branches - 1];
  const std::int64_t positions = static_cast<std::int64_t>(params.batch) * last.height * last.width;
  result.hidden = cutter.cut<acc_t<T>>(positions * params.hidden);
  result.logits = cutter.cut<T>(positions * channels);
  return result;
}

}  // namespace

std::size_t conditional_channel_weighting_scratch(const ConditionalChannelWeightingParams& params, DType dtype,
                                                  int threads) {
  return visit_type(dtype, [&](auto element) {
    Cutter cutter(nullptr);
    const auto result = with_norms<decltype(element)>(params, cutter);
    return cutter.bytes() + conditional_channel_weighting_batch_norm_scratch(result, dtype, threads);
  });
}

void conditional_channel_weighting(const ConditionalChannelWeightingParams& params, DType dtype, const Team& team) {
  visit_type(dtype, [&](auto element) {
    Cutter cutter(team.scratch);
    const auto result = with_norms<decltype(element)>(params, cutter);
    conditional_channel_weighting_batch_norm(result, dtype, behind(cutter, team));
  });
}

}  // namespace litehrnet::cpu::LITEHRNET_CPU_TARGET
