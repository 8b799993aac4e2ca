// cross_resolution_weighting on the CPU: cross_resolution_weighting_batch_norm with norms that add the biases.
#include "cpu/kernels/folded.h"
#include "cpu/kernels/op_targets.h"

namespace litehrnet::cpu::LITEHRNET_CPU_TARGET {
namespace {

template <class T>
CrossResolutionWeightingBatchNormParams with_norms(const CrossResolutionWeightingParams& params, Cutter& cutter) {
  CrossResolutionWeightingBatchNormParams result{};
  result.branches = params.branches;
  result.batch = params.batch;
  result.hidden_channels = params.hidden;
  int channels = 0;
  for (int b = 0; b < params.branches; ++b) {
    const CrossResolutionWeightingBranch& from = params.branch[b];  // adapters give a contiguous y
    result.branch[b] = {from.x,        from.y,      from.x_image_stride, from.x_plane_stride,
                        from.channels, from.height, from.width};
    channels += from.channels;
  }
  FoldedWeights<T> weights(cutter, most(channels, params.hidden));
  result.w1 = weights.widened(params.w1, static_cast<std::int64_t>(params.hidden) * channels);
  result.w2 = weights.transposed(params.w2_transposed, params.hidden, channels);
  result.norm1 = weights.bias(params.b1, params.hidden);
  result.norm2 = weights.bias(params.b2, channels);
  const CrossResolutionWeightingBranch& last = params.branch[params.branches - 1];
  const std::int64_t positions = static_cast<std::int64_t>(params.batch) * last.height * last.width;
  result.hidden = cutter.cut<acc_t<T>>(positions * params.hidden);
  result.logits = cutter.cut<T>(positions * channels);
  return result;
}

}  // namespace

std::size_t cross_resolution_weighting_scratch(const CrossResolutionWeightingParams& params, DType dtype, int threads) {
  return visit_type(dtype, [&](auto element) {
    Cutter cutter(nullptr);
    const auto result = with_norms<decltype(element)>(params, cutter);
    return cutter.bytes() + cross_resolution_weighting_batch_norm_scratch(result, dtype, threads);
  });
}

void cross_resolution_weighting(const CrossResolutionWeightingParams& params, DType dtype, const Team& team) {
  visit_type(dtype, [&](auto element) {
    Cutter cutter(team.scratch);
    const auto result = with_norms<decltype(element)>(params, cutter);
    cross_resolution_weighting_batch_norm(result, dtype, behind(cutter, team));
  });
}

}  // namespace litehrnet::cpu::LITEHRNET_CPU_TARGET
